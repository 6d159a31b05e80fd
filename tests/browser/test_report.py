"""The report in a real browser, at the width of a phone and of a desk: what a reader can do."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import build_report
import report_files
from llm_figures.core.parquet_tensors import write_frame

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES = {"phone": (390, 844), "desk": (1280, 800), "laptop": (1100, 620)}
# A figure with more claims than one screen holds.
LONG = "mean_qkv_tokens"
MISSES, HITS = 10, 15
# Two frames: what a scroll sets off has happened then.
SETTLED = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"


@pytest.fixture(scope="module")
def programs():
    """Chromium, its driver and pdftotext; without them a skip, or a failure where required."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver", "pdftotext")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        reason = (
            f"{' and '.join(missing)} not found; Debian: apt-get install chromium chromium-driver "
            "poppler-utils"
        )
        if os.environ.get("CI") or os.environ.get("LLM_FIGURES_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory, root, programs):
    """The folder of a report and all it is made from, with many claims about one figure."""
    folder = tmp_path_factory.mktemp("results")
    arguments = report_files.make(folder, root)
    claims = report_files.claims()
    (like,) = claims[(claims["figure"] == LONG) & (claims["claim"] == "first")].to_dict("records")
    more = [
        like | {
            "claim": f"more-{n}",
            "statement": f"Claim number {n} of a long table.",
            "source": "a_word_without_end" * 20 if n == MISSES else "Figure 2",
            "value": None if n == 3 else (7 * n % 10) / 10,
            "verdict": "not reproduced" if n < MISSES else "reproduced",
        }
        for n in range(MISSES + HITS)
    ]  # fmt: skip
    write_frame(
        pd.concat([claims, pd.DataFrame(more).astype(claims.dtypes)]), folder / "claims.parquet"
    )
    build_report.main(**arguments)
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory, programs):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    os.environ["SE_OFFLINE"] = "true"  # never looks for a driver to download
    options = Options()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(driver, results):
    """Opens the page anew at a size of `SIZES`, at an anchor if one is given."""

    def open_at(size, anchor=""):
        width, height = SIZES[size]
        shape = {"width": width, "height": height, "deviceScaleFactor": 1}
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**shape, "mobile": size == "phone"}
        )
        driver.get("about:blank")  # a change of the anchor alone would not load it
        driver.get((results / "report.html").as_uri() + anchor)
        driver.execute_async_script(SETTLED)
        return driver

    return open_at


@pytest.fixture(params=["phone", "desk"])
def size(request):
    return request.param


@pytest.fixture
def page(open_page, size):
    return open_page(size)


@pytest.fixture
def desk(open_page):
    return open_page("desk")


def visible_rows(page):
    """The verdicts of the claims that are shown, in the order of the page."""
    return page.execute_script(
        "return [...document.querySelectorAll('.claims tbody tr')]"
        ".filter((row) => row.checkVisibility()).map((row) => row.dataset.verdict);"
    )


def box(page, selector):
    """Left, top, right and bottom of an element in the window."""
    return page.execute_script(
        "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [box.left, box.top, box.right, box.bottom];",
        selector,
    )


def scroll_to(page, selector, block="start"):
    page.execute_async_script(
        "document.querySelector(arguments[0]).scrollIntoView({block: arguments[1]});"
        "const done = arguments[2]; requestAnimationFrame(() => requestAnimationFrame(done));",
        selector,
        block,
    )


def css(page, selector):
    return page.find_elements("css selector", selector)


def point(page, figure, panel, row, column):
    """Move the pointer to the middle of a cell; returns its place in the window."""
    from selenium.webdriver.common.action_chains import ActionChains

    left, top, right, bottom = panel["box"]
    x = left + (column + 0.5) / len(panel["columns"]) * (right - left)
    y = top + (row + 0.5) / len(panel["rows"]) * (bottom - top)
    place = page.execute_async_script(
        """
        const [figure, x, y, done] = arguments;
        const image = document.querySelector(`#${figure}-image img`);
        const at = () => {
          const frame = image.getBoundingClientRect();
          return [frame.left + x * frame.width, frame.top + y * frame.height];
        };
        window.scrollBy(0, at()[1] - innerHeight / 2);
        requestAnimationFrame(() => requestAnimationFrame(() => done(at())));
        """,
        figure,
        x,
        y,
    )
    actions = ActionChains(page, duration=0)
    actions.w3c_actions.pointer_action.move_to_location(*map(round, place))
    actions.perform()
    return place


def panels_of(results, figure):
    return json.loads((results / f"{figure}.panels.json").read_text())["panels"]


def test_it_opens_without_an_error_and_with_every_image(page):
    log = page.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []
    widths = page.execute_script("return [...document.images].map((image) => image.naturalWidth);")
    assert len(widths) == 12  # seven figures, five of them in the overview, too
    assert min(widths) > 200
    assert page.execute_script("return performance.getEntriesByType('resource').length;") == len(
        page.execute_script(
            "return performance.getEntriesByType('resource')"
            ".filter((entry) => entry.name.startsWith('data:'));"
        )
    )


def test_the_page_itself_never_scrolls_sideways(page, size):
    for element in css(page, "details"):
        page.execute_script("arguments[0].open = true;", element)
    scrolled, shown = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth];"
    )
    assert SIZES[size][0] - 20 < shown <= SIZES[size][0]  # a desk has a scroll bar
    assert scrolled == shown


def test_it_opens_with_every_figure_and_a_sentence_that_leads_to_its_section(desk):
    cards = [card for card in css(desk, ".cards li") if card.find_elements("css selector", "img")]
    assert len(cards) == 5
    assert max(card.rect["y"] + card.rect["height"] for card in cards) < SIZES["desk"][1]
    card = cards[3]
    assert "is layer 2, -1: AUC 0.877 [0.777, 0.977], explained by group alone." in card.text
    assert "✗ 1 not reproduced" in card.text
    card.find_element("css selector", "a").click()
    desk.execute_async_script(SETTLED)
    assert box(desk, "#probe_auc")[1] == pytest.approx(0, abs=1)
    (current,) = css(desk, "nav [aria-current]")
    assert current.text == "probe_auc"
    assert 0 < current.rect["y"] - desk.execute_script("return scrollY;") < 400


def test_a_figure_stays_in_view_while_its_claims_scroll(open_page):
    page = open_page("laptop")
    figure, image = f"#{LONG} .figure", f"#{LONG} img"
    css(page, f"#{LONG} details[data-verdict='reproduced'] summary")[0].click()
    assert box(page, f"#{LONG} .claims")[0] > box(page, figure)[2]
    scroll_to(page, f"#claim-{LONG}-more-{MISSES + HITS - 1}", "end")
    moved = box(page, image)
    assert moved[1] > 0
    assert box(page, figure)[3] <= SIZES["laptop"][1]
    scroll_to(page, f"#claim-{LONG}-more-{MISSES}", "end")
    assert box(page, image) == pytest.approx(moved, abs=1)
    # the caption below it, downloads and all, is not cut; unfolded, it scrolls with the page
    inside = (
        "const e = document.querySelector(arguments[0]); return e.scrollHeight - e.clientHeight"
    )
    assert page.execute_script(inside, figure) <= 0
    css(page, f"#{LONG} figcaption summary")[0].click()
    assert box(page, image)[3] < 0


def test_misses_come_first_and_what_is_long_is_folded(open_page):
    page = open_page("desk")
    groups = css(page, f"#{LONG} details.group")
    assert [group.get_attribute("data-verdict") for group in groups] == [
        "not reproduced",
        "not applicable",
        "reproduced",
        "decided by construction",
    ]
    opened = [group.get_attribute("open") is not None for group in groups]
    assert opened == [True, False, False, False]
    assert set(visible_rows(page)) == {"not reproduced"}
    assert groups[2].text == "✓ reproduced 16 of 28"
    assert groups[3].text == "= decided by construction 1, counted apart"
    screens = page.execute_script("return document.documentElement.scrollHeight / innerHeight;")
    assert screens < 11, screens
    page = open_page("phone")
    assert visible_rows(page) == ["not reproduced"] * 4  # one each; the long table is folded
    screens = page.execute_script("return document.documentElement.scrollHeight / innerHeight;")
    assert screens < 9
    (row,) = css(page, "#claim-mean_qkv-second")
    statement, value = row.find_elements("css selector", "td")[:2]
    assert value.rect["y"] > statement.rect["y"]
    assert row.rect["width"] > 0.9 * SIZES["phone"][0]


@pytest.mark.parametrize(
    ("number", "loaded"), [(MISSES - 1, True), (MISSES, True), (MISSES, False)]
)
def test_an_address_unfolds_the_claim_that_it_names(open_page, size, number, loaded):
    claim = f"#claim-{LONG}-more-{number}"
    page = open_page(size, claim if loaded else "")
    if not loaded:
        page.execute_script("location.hash = arguments[0];", claim)
    page.execute_async_script(SETTLED)
    (row,) = css(page, claim)
    assert row.is_displayed()
    top = box(page, claim)[1]
    assert top < SIZES[size][1] / 2
    assert top > (box(page, "aside")[3] if size == "phone" else 0)  # contents stay at the top


def test_an_address_ends_a_filter_that_leaves_its_claim_out(desk):
    css(desk, ".filter button[data-verdict='reproduced']")[0].click()
    css(desk, ".filter input")[0].send_keys("nothing like this")
    desk.execute_script("location.hash = '#claim-mean_qkv-second';")
    desk.execute_async_script(SETTLED)
    assert css(desk, "#claim-mean_qkv-second")[0].is_displayed()
    assert 0 <= box(desk, "#claim-mean_qkv-second")[1] < SIZES["desk"][1] / 2
    assert css(desk, ".filter output")[0].text == "45 of 45 claims shown"


def test_an_address_of_nothing_stops_no_script(open_page):
    page = open_page("desk", "#100%")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert css(page, ".filter")[0].is_displayed()


def test_the_filter_leaves_just_the_claims_asked_for(page, size):
    if size == "phone":
        css(page, ".menu > summary")[0].click()
    before = visible_rows(page)
    (button,) = css(page, ".filter button[data-verdict='reproduced']")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    (every,) = css(page, ".filter button[data-verdict='']")
    assert every.get_attribute("aria-pressed") == "false"
    assert visible_rows(page) == ["reproduced"] * (5 + HITS)
    assert css(page, ".filter output")[0].text == "20 of 45 claims shown"
    every.click()
    assert visible_rows(page) == before


def test_the_search_unfolds_what_it_finds(page, size):
    if size == "phone":
        css(page, ".menu > summary")[0].click()
    before = visible_rows(page)
    (field,) = css(page, ".filter input")
    field.send_keys("single LAYER")
    assert visible_rows(page) == ["not applicable"] * 5
    field.clear()
    field.send_keys("claim about probe_auc")
    assert visible_rows(page) == ["reproduced"]
    notes = [note for note in css(page, ".no-match") if note.is_displayed()]
    assert len(notes) == 4
    field.clear()
    field.send_keys(" ")
    assert visible_rows(page) == before


def test_heads_sort_by_value_with_missing_ones_last(page, size):
    table = f"#{LONG} [data-verdict='not reproduced'] .claims"
    if size == "phone":
        css(page, f"#{LONG} summary")[1].click()

    def values():
        return [cell.text for cell in css(page, f"{table} td:nth-child(2) .number")]

    (head,) = css(page, f"{table} th:nth-child(2)")
    (button,) = head.find_elements("css selector", "button")
    button.click()
    rising = ["0", "0.0200", *(f"0.{n}00" for n in range(2, 10))]
    assert values() == [*rising, "no value"]
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert values() == [*rising[::-1], "no value"]
    assert head.get_attribute("aria-sort") == "descending"
    assert len(css(page, f"{table} [aria-sort]")) == 1


def test_a_figure_is_enlarged_and_read_by_keys(desk, results):
    from selenium.webdriver.common.keys import Keys

    (image,) = css(desk, "#scale_qkv-image")
    small, top = image.rect["width"], desk.execute_script("return scrollY;")
    image.send_keys(Keys.ENTER)
    (dialog,) = css(desk, "dialog")
    assert dialog.get_attribute("open") is not None
    assert desk.switch_to.active_element == image
    assert image.rect["width"] > 1.2 * small
    _, above, _, below = box(desk, "dialog img")
    assert above >= 0
    assert below <= SIZES["desk"][1]
    image.send_keys(Keys.ARROW_RIGHT)
    (tooltip,) = css(desk, "dialog .tooltip")
    assert tooltip.text.startswith("Modifying Query with ε = 5e-1\nquery position 0")
    (panel, *_) = panels_of(results, "scale_qkv")
    place = point(desk, "scale_qkv", panel, 3, 2)
    assert "query position 3 · key position 2: " in tooltip.text
    frame = box(desk, "dialog .cell")
    assert frame[0] < place[0] < frame[2]
    assert frame[1] < place[1] < frame[3]
    image.send_keys(Keys.ESCAPE)
    assert dialog.get_attribute("open") is None
    assert desk.switch_to.active_element == image
    assert css(desk, "#scale_qkv #scale_qkv-image")
    assert image.rect["width"] == pytest.approx(small, abs=1)
    assert desk.execute_script("return scrollY;") >= top


def test_a_figure_without_cells_is_enlarged_by_a_click(page):
    (button,) = css(page, "[aria-label='Enlarge probe_curves']")
    scroll_to(page, "#probe_curves-image", "center")
    css(page, "#probe_curves-image")[0].click()
    (dialog,) = css(page, "dialog[open]")
    assert dialog.find_element("css selector", "h2").text == "probe_curves"
    assert dialog.find_element("css selector", "img").rect["width"] > 500
    dialog.find_element("css selector", "button").click()
    assert not css(page, "dialog[open]")
    assert page.switch_to.active_element == button


# The lowest contrast of text with what is behind it, by WCAG 2's formula, and where it is.
CONTRAST = """
const parse = (colour) => {
  const parts = colour.match(/[\\d.]+/g).map(Number);
  return parts.length === 4 ? parts : [...parts, 1];
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) =>
    v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
for (const details of document.querySelectorAll("details")) details.open = true;
let lowest = [Infinity, ""];
let count = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
  let behind = element;
  while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0)
    behind = behind.parentElement;
  const [a, b] = [
    light(parse(getComputedStyle(element).color)),
    light(parse(getComputedStyle(behind).backgroundColor)),
  ].sort((p, q) => q - p);
  const ratio = (a + 0.05) / (b + 0.05);
  count += 1;
  if (ratio < lowest[0]) lowest = [ratio, element.outerHTML.slice(0, 200)];
}
return [...lowest, count, getComputedStyle(document.body).backgroundColor];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(desk, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    desk.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        lowest, where, count, behind = desk.execute_script(CONTRAST)
        assert lowest >= 4.5, where
        assert count > 300
        white = "rgb(255, 255, 255)"
        assert (behind == white) == (scheme == "light")
        # figures keep their white paper
        assert css(desk, "figure .paper")[0].value_of_css_property("background-color") in (
            white,
            "rgba(255, 255, 255, 1)",
        )
    finally:
        desk.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_on_paper_all_claims_are_there_and_black_on_white(desk, programs, tmp_path):
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    desk.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        printed = desk.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    finally:
        desk.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert set(visible_rows(desk)) == {"not reproduced"}  # folded again
    file = tmp_path / "report.pdf"
    file.write_bytes(base64.b64decode(printed))
    text = subprocess.check_output([programs["pdftotext"], file, "-"], text=True)
    assert 6 <= text.count("\f") <= 12  # pages
    text = " ".join(text.split())
    for n in range(MISSES + HITS):
        assert f"Claim number {n} of a long table." in text
    assert text.count("The first claim about") >= 5
    assert "Colours span 0.5 to 1" in text  # the end of a caption that is folded on a screen
    for word in ("Enlarge", "Download", "Search claims", "Skip to"):
        assert word not in text
    ink, paper = printed_colours(programs, file, tmp_path)
    assert ink < 100
    assert paper == 255


def printed_colours(programs, file, folder):
    """The darkest and the commonest grey of the first page's head."""
    image = folder / "page"
    options = ["-png", "-r", "50", "-f", "1", "-singlefile", "-gray"]
    subprocess.run(
        [Path(programs["pdftotext"]).with_name("pdftoppm"), *options, file, image], check=True
    )
    with Image.open(image.with_suffix(".png")) as page:
        head = np.asarray(page.convert("L"))[: page.height // 6]
    return head.min(), np.bincount(head.ravel()).argmax()


def test_the_pointer_reads_a_cell(page, results):
    (panel,) = panels_of(results, "probe_auc")
    place = point(page, "probe_auc", panel, 2, 2)
    (tooltip,) = css(page, ".tooltip")
    assert tooltip.text == "layer 2 · token -1: 0.8765"
    box = tooltip.rect
    frame = page.execute_script("return [scrollX, scrollY, innerWidth, innerHeight];")
    assert 0 <= box["x"] - frame[0] <= frame[2] - box["width"]
    assert 0 <= box["y"] - frame[1] <= frame[3] - box["height"]
    outline = page.execute_script(
        "return document.querySelector('#probe_auc-image .cell').getBoundingClientRect();"
    )
    assert outline["left"] < place[0] < outline["right"]
    assert outline["top"] < place[1] < outline["bottom"]
    width = page.execute_script(
        "return document.querySelector('#probe_auc-image img').getBoundingClientRect().width;"
    )
    left, _, right, _ = panel["box"]
    assert outline["width"] == pytest.approx((right - left) / 3 * width, abs=0.5)
    point(page, "probe_auc", panel, 0, 0)
    assert tooltip.text == "layer 0 · last_q: no value"


def test_the_frame_of_cells_is_the_image_itself_even_where_it_is_tall(page):
    def gap():
        return page.execute_script(
            """
            const image = document.querySelector("#module_map-image");
            const [a, b] = [image, image.firstElementChild].map((e) =>
              e.getBoundingClientRect());
            const sides = ["left", "top", "width", "height"];
            return [...sides.map((side) => a[side] - b[side]), b.height];
            """
        )

    *gaps, height = gap()
    assert gaps == pytest.approx([0, 0, 0, 0], abs=0.1)
    page.execute_script(
        "document.querySelector('#module_map-image img').style.maxHeight = '150px';"
    )
    *gaps, limited = gap()
    assert limited == pytest.approx(150, abs=0.1)
    assert height > 200
    assert gaps == pytest.approx([0, 0, 0, 0], abs=0.1)


def test_a_cell_of_one_panel_among_many(page, results):
    panels = panels_of(results, "mean_qkv")
    point(page, "mean_qkv", panels[5], 6, 3)
    cells = pd.read_parquet(results / "mean_qkv.parquet")
    (weight,) = cells.query(
        "panel_row == 1 and panel_column == 2 and query_position == 6 and key_position == 3"
    )["weight"]
    assert css(page, ".tooltip")[0].text == (
        "Taking the Mean of Value (Input 2)\n"
        f'query position 6 "." · key position 3 "</b>": {weight:#.4g}'
    )
    # the margin holds no cell
    point(page, "mean_qkv", {**panels[0], "box": [0, 0, 0.004, 0.004]}, 0, 0)
    assert not css(page, ".tooltip")[0].is_displayed()


def test_keys_go_from_cell_to_cell_and_from_panel_to_panel(page, results):
    from selenium.webdriver.common.keys import Keys

    (image,) = css(page, "#module_map-image")
    (tooltip,) = css(page, ".tooltip")
    image.send_keys(Keys.ARROW_RIGHT)
    assert tooltip.text.startswith("layer 5 · attn. q: ")
    image.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert tooltip.text.startswith("layer 4 · attn. k: ")
    image.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert tooltip.text.startswith("layer 4 · attn. q: ")
    image.send_keys(Keys.ESCAPE)
    assert not tooltip.is_displayed()
    (image,) = css(page, "#mean_qkv-image")
    image.send_keys(Keys.ARROW_RIGHT, *[Keys.ARROW_RIGHT] * 7)
    first = 'query position 0 "The" · key pos'
    assert tooltip.text.startswith(f"Taking the Mean of Key (Input 1)\n{first}")
    image.send_keys(*[Keys.ARROW_DOWN] * 7)
    assert tooltip.text.startswith(f"Taking the Mean of Key (Input 2)\n{first}")


def test_downloads_arrive_whole(page, results, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    for kind in ("png", "parquet"):
        (link,) = css(page, f"a[download='tiny_mean_qkv.{kind}']")
        page.execute_script("arguments[0].click();", link)
        expected = Path(results / f"mean_qkv.{kind}").read_bytes()
        file = tmp_path / f"tiny_mean_qkv.{kind}"
        WebDriverWait(page, 20).until(
            lambda _, file=file, expected=expected: (
                file.is_file() and file.stat().st_size == len(expected)
            )
        )
        assert file.read_bytes() == expected


def test_without_script_everything_can_be_reached(desk, results):
    desk.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        desk.get((results / "report.html").as_uri())
        shown = [row for row in css(desk, ".claims tbody tr") if row.is_displayed()]
        assert len(shown) == 5 + MISSES
        (summary,) = css(desk, f"#{LONG} details[data-verdict='reproduced'] summary")
        summary.click()
        assert css(desk, f"#claim-{LONG}-more-20")[0].is_displayed()
        assert not css(desk, ".filter")[0].is_displayed()
        assert not any(hint.is_displayed() for hint in css(desk, ".hint"))
    finally:
        desk.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
