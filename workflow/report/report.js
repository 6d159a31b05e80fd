"use strict";
// Folds, filters and sorts the tables, marks the section in view, enlarges the figures and shows the
// cell under the pointer. Without this script the page still holds everything.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("scripted");

  // --- fold: on a narrow screen the contents and long tables are folded
  const LONG = 5; // rows
  const narrow = matchMedia("(max-width: 63.99rem)");
  const menu = document.querySelector(".menu");
  const groups = all(".group");
  const opened = all("main details[open]");
  const rowsOf = (details) => all("tbody tr", details);

  function foldForWidth() {
    menu.open = !narrow.matches;
    for (const details of opened) {
      details.open = !narrow.matches || rowsOf(details).length <= LONG;
    }
  }

  /** Show the target of the address: unfold what holds it, and end a filter that leaves it out. */
  function showTarget() {
    const id = location.hash.slice(1); // our own ids need no escapes
    const target = id && document.getElementById(id);
    if (!target) return;
    const filtered = target.hidden;
    if (filtered) endFilter();
    const folded = target.closest("details:not([open])");
    if (folded) folded.open = true;
    if (filtered || folded) target.scrollIntoView();
  }

  narrow.addEventListener("change", foldForWidth);
  foldForWidth();
  addEventListener("hashchange", showTarget);
  menu.addEventListener("click", (event) => {
    if (narrow.matches && event.target.closest("a")) menu.open = false;
  });
  // For browsers whose style sheets cannot unfold.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("figcaption details:not([open]), .table details:not([open])");
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });

  // --- contents: mark the section that is in the upper part of the window
  const here = document.querySelector(".here");
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(target.id).setAttribute("aria-current", "location");
        here.textContent = links.get(target.id).textContent;
      }
    },
    { rootMargin: "-30% 0px -70% 0px" },
  );
  for (const id of links.keys()) watch.observe(document.getElementById(id));

  // --- filter
  const filter = document.querySelector(".filter");
  const search = filter.querySelector("input");
  const buttons = all("button", filter);
  const rows = all(".claims tbody tr");

  function applyFilter() {
    const verdict = buttons.find((b) => b.getAttribute("aria-pressed") === "true").dataset.verdict;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filtering = verdict !== "" || words.length > 0;
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        (verdict !== "" && row.dataset.verdict !== verdict) || !words.every((w) => text.includes(w));
      shown += !row.hidden;
    }
    for (const group of groups) {
      group.hidden = rowsOf(group).every((row) => row.hidden);
      // matches are unfolded; without a filter each group is as it was before
      if (filtering) {
        group.dataset.found ??= String(group.open);
        group.open = true;
      } else if (group.dataset.found !== undefined) {
        group.open = group.dataset.found === "true";
        delete group.dataset.found;
      }
    }
    for (const note of all(".no-match")) {
      const own = all(".group", note.parentElement);
      note.hidden = !own.length || own.some((group) => !group.hidden);
    }
    filter.querySelector("output").textContent = `${shown} of ${rows.length} claims shown`;
  }

  function choose(button) {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    applyFilter();
  }

  function endFilter() {
    search.value = "";
    choose(buttons[0]); // all claims
  }

  for (const button of buttons) button.addEventListener("click", () => choose(button));
  search.addEventListener("input", applyFilter);
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.hidden = !rows.length;
  applyFilter();
  showTarget();

  // --- sort; rows without a value stay last
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.key ?? cell.textContent.trim();
  };

  function sortBy(table, column) {
    const head = table.tHead.rows[0].cells[column];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [keyOf(row, column), row]);
    const numeric = keyed.every(([key]) => key === "" || Number.isFinite(Number(key)));
    const compare = numeric
      ? (a, b) => Number(a) - Number(b)
      : (a, b) => a.localeCompare(b, "en", { numeric: true });
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return down ? compare(b, a) : compare(a, b);
    });
    body.append(...keyed.map(([, row]) => row));
  }

  for (const table of all(".sortable")) {
    all("th button", table).forEach((button, column) => {
      button.addEventListener("click", () => sortBy(table, column));
    });
  }

  // --- the PNG is embedded once, as the image; its download link refers to that
  for (const link of all("a[data-image]")) {
    link.href = document.getElementById(link.dataset.image).querySelector("img").src;
  }

  // --- cells of the heatmaps
  const tooltip = document.querySelector(".tooltip");
  let active = null; // the image whose cell is shown
  let follow = null; // moves the tooltip with that cell; null where it is at the pointer

  /** A row or a column: its number with its axis, and the token that stands there. */
  function nameOf(axis, label, token) {
    const place = /^-?\d+$/.test(label) ? `${axis.replaceAll("_", " ")} ${label}` : label;
    return token ? `${place} "${token}"` : place;
  }

  function formatValue(value) {
    if (value === null) return "no value";
    return value === 0 ? "0" : value.toPrecision(4); // as many digits as panels.json has
  }

  function describe(panels, panel, row, column) {
    const row_label = nameOf(panel.row_axis, panel.rows[row], panel.row_names?.[row]);
    const column_label = nameOf(
      panel.column_axis, panel.columns[column], panel.column_names?.[column],
    );
    const value = panel.values ? `: ${formatValue(panel.values[row][column])}` : "";
    const title = panels.length > 1 && panel.title ? `${panel.title}\n` : "";
    return `${title}${row_label} · ${column_label}${value}`;
  }

  function hide() {
    tooltip.hidden = true;
    if (active) active.querySelector(".cell").hidden = true;
    active = null;
  }

  /** Put the tooltip beside the point (in pixels of the window), inside the window. */
  function place(x, y) {
    const { width, height } = tooltip.getBoundingClientRect();
    const right = document.documentElement.clientWidth - width - 4;
    const left = Math.max(4, Math.min(x + 14, right));
    const above = y - height - 14;
    tooltip.style.left = `${left}px`;
    tooltip.style.top = `${above >= 4 ? above : y + 20}px`;
  }

  function makeReadable(image) {
    const source = document.getElementById(`${image.dataset.figure}-panels`);
    if (!source) return;
    const { panels } = JSON.parse(source.textContent);
    if (!panels.length) return;
    const outline = document.createElement("div");
    outline.className = "cell";
    outline.hidden = true;
    image.append(outline);
    image.tabIndex = 0;
    image.setAttribute("role", "application");
    image.setAttribute("aria-roledescription", "heatmap");
    image.setAttribute("aria-label", `Cells of ${image.dataset.figure}; arrow keys read them`);
    let at = null; // [panel, row, column], the cell last shown

    function show(panel, row, column, point) {
      if (active !== image) hide();
      active = image;
      at = [panel, row, column];
      const [left, top, right, bottom] = panel.box;
      const width = (right - left) / panel.columns.length;
      const height = (bottom - top) / panel.rows.length;
      const x = left + column * width;
      const y = top + row * height;
      outline.style.left = `${100 * x}%`;
      outline.style.top = `${100 * y}%`;
      outline.style.width = `${100 * width}%`;
      outline.style.height = `${100 * height}%`;
      outline.hidden = false;
      // above the dialog's backdrop lies only what the dialog holds
      (image.closest("dialog") ?? document.body).append(tooltip);
      const text = describe(panels, panel, row, column);
      if (tooltip.textContent !== text) tooltip.textContent = text;
      tooltip.hidden = false;
      follow = point
        ? null
        : () => {
            const frame = image.getBoundingClientRect();
            place(frame.left + (x + width) * frame.width, frame.top + y * frame.height);
          };
      if (point) place(...point);
      else follow();
    }

    function point(event) {
      const frame = image.getBoundingClientRect();
      const x = (event.clientX - frame.left) / frame.width;
      const y = (event.clientY - frame.top) / frame.height;
      for (const panel of panels) {
        const [left, top, right, bottom] = panel.box;
        if (x >= left && x < right && y >= top && y < bottom) {
          const row = Math.floor(((y - top) / (bottom - top)) * panel.rows.length);
          const column = Math.floor(((x - left) / (right - left)) * panel.columns.length);
          show(panel, row, column, [event.clientX, event.clientY]);
          return;
        }
      }
      hide();
    }

    /** The panel that begins where this one ends in the direction, or none. */
    function neighbour(panel, across, step) {
      const [near, far] = across ? [0, 2] : [1, 3];
      const [low, high] = across ? [1, 3] : [0, 2];
      const beyond = panels.filter(
        (other) =>
          other.box[low] < panel.box[high] &&
          other.box[high] > panel.box[low] &&
          (step > 0 ? other.box[near] >= panel.box[far] : other.box[far] <= panel.box[near]),
      );
      beyond.sort((a, b) => step * (a.box[near] - b.box[near]));
      return beyond[0];
    }

    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    image.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (!at) return show(panels[0], 0, 0);
      let [panel, row, column] = at;
      if (active === image) {
        row += step[0];
        column += step[1];
      }
      const [rows, columns] = [panel.rows.length, panel.columns.length];
      if (row < 0 || row >= rows || column < 0 || column >= columns) {
        const across = step[1] !== 0;
        const next = neighbour(panel, across, across ? step[1] : step[0]);
        if (!next) return show(...at);
        panel = next;
        row = row < 0 ? next.rows.length - 1 : row >= rows ? 0 : row;
        column = column < 0 ? next.columns.length - 1 : column >= columns ? 0 : column;
        row = Math.min(row, next.rows.length - 1);
        column = Math.min(column, next.columns.length - 1);
      }
      show(panel, row, column);
    });
    image.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") point(event);
    });
    image.addEventListener("click", (event) => {
      if (touched || image.closest("dialog")) point(event);
    });
    image.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch" && active === image) hide();
    });
    image.addEventListener("blur", hide);
  }

  // --- enlarge: the image itself moves into the dialog, so that its cells can be read there
  const dialog = document.querySelector("dialog");
  let touched = false; // whether the last press was a finger's, which reads cells
  let putBack = null;

  function enlarge(image, opener) {
    hide();
    const paper = image.parentElement;
    const { height } = paper.getBoundingClientRect();
    paper.style.height = `${height}px`; // the page does not move meanwhile
    putBack = () => {
      paper.append(image);
      paper.style.height = "";
      opener.focus({ preventScroll: true });
    };
    dialog.querySelector("h2").textContent = image.dataset.figure;
    dialog.append(image);
    dialog.showModal();
    if (image.tabIndex === 0) image.focus();
  }

  dialog.addEventListener("close", () => {
    hide();
    putBack();
  });
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // its margin or backdrop
  });
  document.addEventListener("pointerdown", (event) => {
    touched = event.pointerType === "touch";
  }, { capture: true });

  for (const image of all(".image")) {
    makeReadable(image);
    const hint = image.closest("figure").querySelector(".hint");
    hint.hidden = false;
    const button = hint.querySelector(".enlarge");
    button.addEventListener("click", () => enlarge(image, button));
    image.addEventListener("click", () => {
      if (!touched && !image.closest("dialog")) enlarge(image, image.tabIndex === 0 ? image : button);
    });
    image.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !image.closest("dialog")) enlarge(image, image);
    });
  }
  document.addEventListener("click", (event) => {
    if (active && !active.contains(event.target)) hide();
  });
  const scrolled = () => (follow && active ? follow() : hide());
  document.addEventListener("scroll", scrolled, { passive: true, capture: true });
})();
