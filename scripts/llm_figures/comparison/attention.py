"""Compare the attention figures of several models."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.attention.figure import draw_panel, label_panels, make_figure_title
from llm_figures.attention.options import AttentionFigure
from llm_figures.comparison.panels import (
    Tables,
    choose_grid,
    find_missing_columns,
    find_no_numbers,
)
from llm_figures.plotting.drawing import add_colour_bar, add_title, find_colour_map
from llm_figures.plotting.layout import find_layout, make_figure
from llm_figures.plotting.text import measure_text, wrap_name

OPTIONS = AttentionFigure
NEEDED = {
    "panel_row", "panel_column", "input", "component", "operation", "over", "epsilon", "scope",
    "layer", "head", "query_position", "key_position", "weight",
}  # fmt: skip
# Inches.
MARGIN = 0.12
MAP, GAP = 0.92, 0.07
BLOCK_GAP = 0.32
BAR, BAR_GAP = 0.14, 0.22
# On a page: the margin, between blocks, and before the colour bar.
PAGE = (0.03, 0.12, 0.08)
SMALLEST_MAP = 0.45


def find_problem(table: pd.DataFrame, options: AttentionFigure) -> str | None:
    """Why a model's cells cannot be drawn with others; None if they can."""
    if missing := find_missing_columns(table, NEEDED):
        return missing
    return find_no_numbers(table["weight"], nan=True) if len(table) else "is empty"


def draw(tables: Tables, options: AttentionFigure) -> Figure:
    """Draw a block of maps per model, with titles of columns above it and of rows at its left.

    All places are computed beforehand, so that every map of every model has the same size.
    """
    layout, cmap = find_layout(), find_colour_map(options.palette)
    size = layout.small
    line = 1.4 * size / 72
    growth = layout.growth
    own_gaps = (growth * gap for gap in (MARGIN, BLOCK_GAP, BAR_GAP))
    margin, block_gap, bar_gap = PAGE if layout.sized else own_gaps
    between = growth * GAP  # two maps
    shapes = {
        name: (cells["panel_row"].max() + 1, cells["panel_column"].max() + 1)
        for name, cells in tables.items()
    }
    labels = {name: label_panels(cells) for name, cells in tables.items()}
    # maps are at least as wide as the widest title, whatever the ε or the font
    least = max(
        measure_text(text.replace("*", ""), size) + 0.08
        for pair in labels.values()
        for part in pair
        for text in part
    )
    side = max(growth * MAP, least)
    most_rows, most_columns = (max(shape[axis] for shape in shapes.values()) for axis in (0, 1))
    ticks = np.round(np.linspace(*options.limits, 6), 10)
    rows, columns = choose_grid(len(tables))
    beside_bar = bar_gap + BAR + 4.5 * line + margin
    if layout.sized:
        marks = max(measure_text(f"{tick:g}", size) for tick in ticks)
        beside_bar = bar_gap + BAR + marks + 2.2 * line + margin

        def find_side(columns: int) -> float:
            gaps = columns * (line + (most_columns - 1) * GAP) + (columns - 1) * block_gap
            wide = layout.share(columns * most_columns, margin + gaps + beside_bar)
            rows = math.ceil(len(tables) / columns)
            above = rows * (most_rows * GAP + 4 * line + block_gap)  # with names of one line
            return min(wide, max((layout.height - above) / (rows * most_rows), 0.01))

        # as many side by side as are legible; the largest maps if they are small in any grid
        choices = {count: find_side(count) for count in range(columns, 0, -1)}
        large = [count for count, found in choices.items() if found >= max(least, SMALLEST_MAP)]
        columns = large[0] if large else max(choices, key=choices.get)
        rows, side = math.ceil(len(tables) / columns), choices[columns]
    maps_wide, maps_high = (n * side + (n - 1) * between for n in (most_columns, most_rows))
    names = {name: wrap_name(name, maps_wide, 1.2 * size) for name in tables}
    lines = [text.count("\n") + 1 for text in names.values()]
    # tops of the maps by row of the grid; the columns' titles and the models' names are above
    tops, below = [], margin
    for row in range(rows):
        above = line + 1.2 * line * max(lines[row * columns : (row + 1) * columns])
        tops.append(below + above)
        below += above + maps_high + block_gap
    block_wide = line + maps_wide
    titled = options.titles and not layout.sized
    bottom = margin + (2.4 if titled else 0.5) * line  # with the figure's title
    right = margin + columns * block_wide + (columns - 1) * block_gap
    wide, high = right + beside_bar, tops[-1] + maps_high + bottom
    fig = make_figure((wide / growth, high / growth), high)  # grown above already
    total_wide, total_high = fig.get_size_inches()

    def place(left: float, top: float) -> tuple[float, float]:
        """A point in inches from the left and from the top, as fractions of the figure."""
        return left / total_wide, 1 - top / total_high

    for index, (name, cells) in enumerate(tables.items()):
        left = margin + index % columns * (block_wide + block_gap) + line
        top = tops[index // columns]
        column_labels, row_labels = labels[name]
        for (row, column), panel in cells.groupby(["panel_row", "panel_column"]):
            x, y = left + column * (side + between), top + row * (side + between)
            ax = fig.add_axes(
                (*place(x, y + side), side / total_wide, side / total_high),
                gid=f"block-{index}-panel-{row}-{column}",
            )
            mesh = draw_panel(panel, ax, cmap, options.limits, options.masked)
        middle = left + (shapes[name][1] * (side + between) - between) / 2
        fig.text(
            *place(middle, top - line - 0.2 * line),
            names[name],
            size=1.2 * size,
            ha="center",
            va="bottom",
            gid=f"block-{index}-title",
            parse_math=False,
        )
        for column, text in enumerate(column_labels):
            fig.text(
                *place(left + column * (side + between) + side / 2, top - 0.25 * line),
                text.replace("*", ""),
                style="italic" if "*" in text else "normal",
                size=size,
                ha="center",
                va="bottom",
                gid=f"block-{index}-column-{column}",
            )
        for row, text in enumerate(row_labels):
            fig.text(
                *place(left - 0.25 * line, top + row * (side + between) + side / 2),
                text.replace("*", ""),
                size=size,
                ha="right",
                va="center",
                rotation=90,
                gid=f"block-{index}-row-{row}",
            )
    top, end = tops[0], tops[-1] + maps_high
    bar = fig.add_axes(
        (*place(right + bar_gap, end), BAR / total_wide, (end - top) / total_high), gid="bar"
    )
    add_colour_bar(fig, mesh, "Attention Weight", ticks=ticks, cax=bar)
    if titled:
        add_title(
            fig,
            make_figure_title(options),
            "figure-title",
            anchor=((margin + right) / 2 / total_wide, 0.0),
            transform=fig.transFigure,
            loc="lower center",
            size=1.4 * size,
        )
    return fig


def describe(tables: Tables, options: AttentionFigure) -> str:
    """What the blocks have in common, and which layer and head of each model is displayed."""
    low, high = options.limits
    interventions = {name: _describe_intervention(cells) for name, cells in tables.items()}
    same = len(set(interventions.values())) == 1
    shown = []
    for name, cells in tables.items():
        first = cells.iloc[0]
        head = "its heads' average" if first["head"] == "mean" else f"head {first['head']}"
        shown.append(
            f"{name}, layer {first['layer']} (from 0), {head}"
            + ("" if same else f", {interventions[name]}")
        )
    what = f": Query, Key or Value {next(iter(interventions.values()))}" if same else ""
    masked = " Grey: keys that the queries cannot attend to." if options.masked == "grey" else ""
    return (
        f"Attention weights of one layer, one block per model{what}. Rows of a map are query "
        "positions from the top, columns key positions; models cut the same text into different "
        f"tokens. Colours span {low:g} to {high:g} in all blocks.{masked} Displayed: "
        f"{'; '.join(shown)}."
    )


def _describe_intervention(cells: pd.DataFrame) -> str:
    """The intervention behind an attention figure, its stage and its layers."""
    first = cells.iloc[0]
    stage = "before" if first.get("stage") == "before_rotary" else "after"
    what = "multiplied by ε"
    if first["operation"] == "mean":
        axis = {"features": "head dimension", "tokens": "token positions"}[first["over"]]
        what = f"replaced by its mean over the {axis}"
    where = "in this layer only" if first["scope"] == "layer" else "in every layer"
    return f"{what}, {stage} rotary embedding, {where}"
