"""Drawing that all figures share: style, heatmaps, colour bars, titles."""

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
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea
from matplotlib.transforms import Bbox

from llm_figures.core.atomic_files import write_text
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
from llm_figures.plotting.saving import save
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
