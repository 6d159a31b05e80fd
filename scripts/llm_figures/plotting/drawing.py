"""Drawing that all figures share: style, heatmaps, colour bars, titles, deterministic files."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea
from matplotlib.transforms import Bbox

from llm_figures.core.alt_text import make_alt_text
from llm_figures.core.atomic_files import whole_file, write_text
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.plotting.captions import make_caption
from llm_figures.plotting.finite import check_drawn, check_table
from llm_figures.plotting.layout import (
    LayerLocator,
    draw_to_fit,
    find_font_sizes,
    find_layout,
    layout_of,
)
from llm_figures.plotting.style import Style
from llm_figures.plotting.venues import SANS, TIMES, VENUES

# For characters that a font lacks.
FALLBACK = "DejaVu Sans"
# Lines and distances of a figure for a page.
PAGE = {
    "axes.linewidth": 0.5,
    "axes.labelpad": 2,
    "axes.titlepad": 3,
    **{f"{axis}tick.major.{key}": value for axis in "xy" for key, value in
       (("width", 0.5), ("size", 2), ("pad", 1.5))},
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.0,
    "legend.borderpad": 0.3,
    "legend.labelspacing": 0.3,
}  # fmt: skip
BLUE_WHITE_ORANGE = ("#2b5c9e", "#8fb3d9", "#ffffff", "#f6b26b", "#d95f0e")
# Inches, the breadth of a colour bar on a page.
BAR = 0.1
# With more cells per axis, a cell is about as narrow as the line of the frame.
NARROW = 64
# Of a PNG: in each direction, and altogether.
LONGEST_SIDE = 65_535
MOST_PIXELS = 600_000_000
# Heatmaps of more cells altogether are images in vector files, too. A cell takes 20 bytes of a PDF.
VECTOR_CELLS = 20_000
# Points by which a cell reaches below the next ones in vector files: one pixel at 60 dpi.
OVERLAP = 1.2
# The notes on the panels of a figure with more cells leave out the values.
MOST_CELLS = 100_000


@contextmanager
def drawing_style(style: Style) -> Iterator[None]:
    """The style of what is drawn inside the block, the same on every machine.

    Text in vector files stays text, unless the style says otherwise; ids are fixed.

    Raises:
        UserError: a font that matplotlib does not know.
    """
    font = style.font or VENUES[style.venue].font
    check_font(font)
    size, small = find_font_sizes(style)
    # for readers of an SVG who lack the font
    generic = "serif" if font == TIMES or "Serif" in font else "sans-serif"
    settings = {
        "font.family": [font, generic],
        f"font.{generic}": [font],
        "font.size": size,
        "axes.titlesize": size,
        "svg.fonttype": "none" if style.svg_text == "text" else "path",
        "svg.hashsalt": "llm-figures",
        "pdf.fonttype": 42,
        "savefig.dpi": style.dpi,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
    }
    if style.inches:
        settings |= PAGE | {
            "font.family": [font, FALLBACK, generic],
            "legend.fontsize": small,
            "xtick.labelsize": small,
            "ytick.labelsize": small,
        }
    # whatever a matplotlibrc of the user's, or another figure of this process, has set
    with plt.style.context(["default", settings]), layout_of(style):
        yield


def check_font(font: str) -> None:
    """Check that matplotlib finds a font of this family.

    Raises:
        UserError: it does not.
    """
    if font not in get_font_names():
        raise UserError(
            f"config: style.font: {font!r} is not known to matplotlib; install it, or take one "
            f"that comes with matplotlib, such as {SANS} or {TIMES}"
        )


def find_colour_map(palette: str, key: str = "palette") -> Colormap:
    """The palette `blue-white-orange`, or one known to seaborn; missing values are grey.

    key: of the config, for the message.

    Raises:
        UserError: an unknown palette.
    """
    if palette == "blue-white-orange":
        colours = LinearSegmentedColormap.from_list(palette, BLUE_WHITE_ORANGE)
    else:
        try:
            colours = sns.color_palette(palette, as_cmap=True)
        except (ValueError, TypeError):
            raise UserError(
                f"config: {key}: {palette!r} is not known; allowed: blue-white-orange, or a "
                "palette of seaborn or matplotlib such as coolwarm, Blues, viridis"
            ) from None
        if not isinstance(colours, Colormap):
            raise UserError(
                f"config: {key}: {palette!r} is a list of colours; choose a continuous one, such "
                "as coolwarm, Blues or viridis"
            )
    return colours.with_extremes(bad="0.85")


def find_colours(palette: str, count: int, key: str = "palette") -> list:
    """`count` distinct colours of a palette known to seaborn, for lines.

    key: of the config, for the message.

    Raises:
        UserError: an unknown palette.
    """
    try:
        return sns.color_palette(palette, count)
    except (ValueError, TypeError):
        raise UserError(
            f"config: {key}: {palette!r} is not known; allowed: a palette of seaborn or matplotlib "
            "such as colorblind, deep, Set2"
        ) from None


def draw_heatmap(
    values: pd.DataFrame,
    ax,
    *,
    cmap: Colormap,
    limits: Sequence[float],
    title: str = "",
    names: Mapping[str, Sequence[str]] | None = None,
    **options,
):
    """Draw a seaborn heatmap; return the mesh for a colour bar.

    values: the rows in the order in which they are drawn, with named index and columns.
    title: what distinguishes this panel from the others of the figure, for `describe_panels`.
    names: {"rows": , "columns": } what stands at each place, such as a token, if its label does not
        say so. It is for `describe_panels` as well.
    options: further arguments of `seaborn.heatmap`.
    """
    ax.panel = (title, values)
    ax.panel_names = names or {}
    # seaborn draws the whole figure, to see whether labels overlap. With nine panels that took half
    # of the time.
    others = [other for other in ax.figure.axes if other is not ax and other.get_visible()]
    plt.setp(others, visible=False)
    sns.heatmap(values, ax=ax, cmap=cmap, vmin=limits[0], vmax=limits[1], cbar=False, **options)
    plt.setp(others, visible=True)
    mesh = ax.collections[-1]  # a user's axes may hold others
    mesh.set_edgecolor("face")
    mesh.set_linewidth(0.1)
    for spine in ax.spines.values():
        spine.set_visible(True)
        if max(values.shape) > NARROW:
            spine.set_zorder(0)  # on top it would hide half of the first token's column
    return mesh


def add_colour_bar(fig: Figure, mesh, label: str, ticks: Sequence[float] | None = None, **options):
    """Add a vertical colour bar, as vectors in vector files. options: see `Figure.colorbar`.

    On a page it has the same breadth whatever its height. An end beyond which there are values of
    the panels is pointed.
    """
    options["extend"] = _find_pointed_ends(fig, mesh, options.get("ax"))
    if find_layout().sized and "ax" in options:
        panels = Bbox.union([ax.get_position() for ax in np.ravel(options["ax"])])
        options["aspect"] = panels.height * fig.get_figheight() / BAR
    bar = fig.colorbar(mesh, ticks=ticks, **options)
    bar.set_label(label)
    bar.solids.set_rasterized(False)
    bar.solids.set_edgecolor("face")
    bar.outline.set_linewidth(0.6)
    return bar


def _find_pointed_ends(fig: Figure, mesh, panels: Any) -> str:
    """What `Figure.colorbar` calls the ends of the scale beyond which there are values.

    panels: those that the bar is of; None are all of the figure.
    """
    axes = fig.axes if panels is None else np.ravel(panels)
    low, high = mesh.get_clim()
    slack = 1e-6 * (high - low)  # a weight of 1 may be rounded up
    values = [ax.panel[1].to_numpy(dtype=float) for ax in axes if hasattr(ax, "panel")]
    # false where no cell has a value
    below = any((part < low - slack).any() for part in values)
    above = any((part > high + slack).any() for part in values)
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (below, above), "neither"
    )


def add_title(place, text: str, name: str, *, anchor, transform, loc: str, size: float) -> None:
    """Add a title with its *starred* words in italics, as real text in every format.

    place: the axes or the figure. name: prefix of the ids of the title's pieces in the SVG.
    anchor, transform, loc: see `AnchoredOffsetbox`. size: of the font, in points.
    """
    pieces = []
    for index, part in enumerate(re.split(r"\*(.+?)\*", text)):
        for side in re.split(r"(^ | $)", part):
            if side == " ":  # at an edge it would get no room
                pieces.append(DrawingArea(0.32 * size, 0))
            elif side:
                area = TextArea(
                    side, textprops={"size": size, "style": "italic" if index % 2 else "normal"}
                )
                area._text.set_gid(f"{name}-{len(pieces)}")
                area._text.title = name  # its pieces touch each other
                pieces.append(area)
    place.add_artist(
        AnchoredOffsetbox(
            loc,
            child=HPacker(children=pieces, pad=0, sep=0, align="baseline"),
            bbox_to_anchor=anchor,
            bbox_transform=transform,
            frameon=False,
            pad=0,
            borderpad=0.4,
        )
    )


def choose_tick_step(rows: int, room: float = 18) -> int:
    """Rows from one labelled tick to the next: 2 for the published 32 layers, more for more.

    room: labels for which there is room.
    """
    return next((step for step in (1, 2, 4, 5, 10, 20) if rows <= room * step), 50)


def label_layers(ax, rows: int, step: int) -> None:
    """Label every `step`th row of a heatmap of layers, or as many as a page has room for."""
    ax.set_yticks(np.arange(0, rows, step) + 0.5, labels=[str(n) for n in range(0, rows, step)])
    if find_layout().sized:
        ax.yaxis.set_major_locator(LayerLocator(rows, choose_tick_step))
        ax.yaxis.set_major_formatter(lambda place, _: str(int(place)))
    ax.tick_params(axis="y", rotation=0)


def save(
    fig: Figure, paths: Sequence[str | Path], panels: str | Path | None = None, caption: str = ""
) -> None:
    """Write the figure in the format of each path's suffix: pdf, svg or png.

    Files do not depend on the time or the run. panels: JSON file for `describe_panels`.
    caption: gives the alt text of each: the title of an SVG, the subject of a PDF, the description
    of a PNG.

    Raises:
        UserError: a figure that is too large for an image.
    """
    _check_size(fig)
    heatmaps = [ax for ax in fig.axes if hasattr(ax, "panel")]
    as_image = sum(ax.panel[1].size for ax in heatmaps) > VECTOR_CELLS
    for ax in heatmaps:
        ax.collections[0].set_rasterized(as_image)
    alt = make_alt_text(caption)
    metadata = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": alt},
        "svg": {"Date": None, "Creator": None, "Title": alt},
        "png": {"Software": None, "Description": alt},
    }
    sized = find_layout().sized
    box = Bbox.from_bounds(0, 0, *fig.get_size_inches()) if sized else _measure_ink(fig)
    for path in map(Path, paths):
        kind = path.suffix.removeprefix(".")
        overlapping = [] if as_image or kind == "png" else heatmaps
        with whole_file(path) as partial, _overlapping_cells(overlapping):
            fig.savefig(partial, format=kind, metadata=metadata[kind], bbox_inches=box)
            if kind == "svg":  # browsers read the title of an image only
                text = Path(partial).read_text(encoding="utf-8")
                Path(partial).write_text(text.replace("<svg ", '<svg role="img" ', 1), "utf-8")
    if panels is not None:
        text = json.dumps(describe_panels(fig, box), ensure_ascii=False, separators=(",", ":"))
        write_text(panels, text)
    plt.close(fig)


@contextmanager
def _overlapping_cells(panels: Sequence) -> Iterator[None]:
    """Draw the cells of heatmaps so that each reaches under those that are drawn after it.

    Viewers of vector files blend the edge of a shape with what is under it. Cells that only touch
    each other would let the page through, as fine lines.
    """
    drawn = []
    for number, ax in enumerate(panels, start=1):
        mesh, points = ax.collections[0], 72 / ax.figure.dpi
        mesh.update_scalarmappable()
        unit = np.abs(ax.transData.transform((1, 1)) - ax.transData.transform((0, 0))) * points
        corners = mesh.get_coordinates()
        low = corners[:-1, :-1].reshape(-1, 2)
        high = corners[1:, 1:].reshape(-1, 2) + OVERLAP / unit
        places = [(low[:, 0], low[:, 1]), (high[:, 0], low[:, 1]),
                  (high[:, 0], high[:, 1]), (low[:, 0], high[:, 1])]  # fmt: skip
        cells = PolyCollection(
            np.stack([np.stack(place, axis=-1) for place in places], axis=1),
            facecolors=mesh.get_facecolors(),
            edgecolors="none",
            linewidths=0,
            zorder=mesh.get_zorder(),
            gid=f"cells-{number}",
        )
        ax.add_collection(cells, autolim=False)
        mesh.set_visible(False)
        drawn.append((mesh, cells))
    try:
        yield
    finally:
        for mesh, cells in drawn:
            cells.remove()
            mesh.set_visible(True)


def _check_size(fig: Figure) -> None:
    dpi = plt.rcParams["savefig.dpi"]
    width, height = fig.get_size_inches()
    pixels = [round(side * dpi) for side in (width, height)]
    if max(pixels) > LONGEST_SIDE or pixels[0] * pixels[1] > MOST_PIXELS:
        raise UserError(
            f"the figure is {width:,.0f} × {height:,.0f} inches, at config: style.dpi: {dpi:g} too "
            f"large for an image ({pixels[0]:,} × {pixels[1]:,} pixels); show fewer texts, models "
            "or columns, or take a lower dpi"
        )


def _measure_ink(fig: Figure) -> Bbox:
    """The part of the figure that is saved, in inches: everything drawn, and a margin.

    Each format measures text a little differently. All formats get the box of a raster image at the
    saved resolution, so that a place in one is the same place in the others.
    """
    dpi = fig.dpi
    fig.set_dpi(plt.rcParams["savefig.dpi"])
    fig.draw_without_rendering()
    box = fig.get_tightbbox().padded(0.08)
    fig.set_dpi(dpi)
    return box


def describe_panels(fig: Figure, box: Bbox) -> dict:
    """Where the heatmaps are in the saved figure, and what they show, for the report's pointer.

    Call it after the last format has been written, which fixes the layout.

    box: the part of the figure that was saved, in inches.

    Returns {"values": whether values are included (up to `MOST_CELLS` cells), "panels": a list of
    {title, box: [left, top, right, bottom] in fractions of the saved figure from its top left
    corner, row_axis, column_axis, rows, columns: labels from the top and from the left, row_names,
    column_names: what stands there, if that is known, values: [rows, columns] with 4 significant
    digits, null if missing; or null for all}}.
    """
    panels = [(ax, *ax.panel) for ax in fig.axes if hasattr(ax, "panel")]
    with_values = sum(values.size for *_, values in panels) <= MOST_CELLS
    notes = []
    for ax, title, values in panels:
        # A cell is one unit of the axes; an inverted axis shows the rows from the other end.
        rows, columns = values.shape
        corners = ax.transData.transform([(0, 0), (columns, rows)]) / fig.dpi
        (x0, y0), (x1, y1) = corners
        down, across = (1 if y0 > y1 else -1), (1 if x0 < x1 else -1)
        shown = values.iloc[::down, ::across]
        named = {
            f"{side.removesuffix('s')}_names": list(names)[::step]
            for side, step in (("rows", down), ("columns", across))
            if (names := ax.panel_names.get(side)) is not None
        }
        left, right = ((x - box.x0) / box.width for x in sorted((x0, x1)))
        top, bottom = ((box.y1 - y) / box.height for y in sorted((y0, y1), reverse=True))
        notes.append(
            {
                "title": title,
                "box": [round(edge, 6) for edge in (left, top, right, bottom)],
                "row_axis": str(shown.index.name or "row"),
                "column_axis": str(shown.columns.name or "column"),
                "rows": [str(label) for label in shown.index],
                "columns": [str(label) for label in shown.columns],
                **named,
                "values": [[_round(value) for value in row] for row in shown.to_numpy()]
                if with_values
                else None,
            }
        )
    return {"values": with_values, "panels": notes}


def _round(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


def render(
    module: ModuleType,
    *,
    scores: str,
    files: Sequence[str],
    caption: str,
    panels: str,
    model: str,
    options: Mapping[str, Any],
    style: Style,
    numbers: str | None = None,
    source: str = "",
) -> None:
    """Draw one figure from its tidy scores; write its files, its caption and its numbers.

    module: has `draw(scores, options)`, which returns the figure, and `describe(scores, model,
        options)`, which returns the caption. It may have `state_numbers(scores, options)`, the
        numbers of the caption; `describe` then takes them as a fourth argument, and prints them
        from there.
    files, panels: see `save`.
    numbers: JSON file for `captions.make_caption`. source: of the scores, relative to
        results/{model}/.
    options: plain values. Both functions get them as an object of the module's class `OPTIONS`, or
        as they are if the module has none.

    Raises:
        UserError: options that are not of that class; an unknown font or palette; values that are
            no numbers (see `finite`).
    """
    if kind := getattr(module, "OPTIONS", None):
        options = read_options(kind, options, f"options of {module.__name__}")
    table = read_frame(scores)
    check_table(table, scores)
    text, stated = make_caption(module, table, model, options, source)
    with drawing_style(style):
        name = Path(caption).name.partition(".")[0]
        fig = draw_to_fit(name, lambda: module.draw(table, options))
        check_drawn(fig, text, name)
        save(fig, files, panels, text)
    write_text(caption, text)
    if numbers is not None:
        write_text(numbers, json.dumps(stated, indent=1, ensure_ascii=False) + "\n")
