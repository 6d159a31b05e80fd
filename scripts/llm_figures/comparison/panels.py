"""Lay out one panel per model, all equally high, and check the tables that comparisons need."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.plotting.layout import find_layout, make_grid
from llm_figures.plotting.text import wrap_name

Tables = Mapping[str, pd.DataFrame]
BESIDE = 0.8  # inches on a page beside the panels, for layers and the colour bar


def choose_grid(count: int) -> tuple[int, int]:
    """(rows, columns) for this many panels: one row of up to three, two of up to eight, or more."""
    columns = count if count <= 3 else min(4, math.ceil(count / 2))
    return math.ceil(count / columns), columns


def make_panels(values: Tables, *, width: float, labels: float) -> tuple[Figure, list, float]:
    """A figure with one panel per model, its panels, and their height in inches.

    values: heatmaps by model, rows are layers. width: of a panel, in inches. labels: height of the
    names of columns below a panel, in inches. Both are at a font size of 9 points. On a page the
    panels are as wide as it allows, in as many rows as that takes.
    """
    layout = find_layout()
    rows, columns = choose_grid(len(values))
    height = min(max(0.12 * max(map(len, values.values())), 2.6), 4.6)
    if layout.sized:
        cells = max(len(table.columns) for table in values.values())
        columns = layout.count(columns, 1.3 * layout.small / 72 * cells + 0.15, BESIDE)
        rows = math.ceil(len(values) / columns)
        width, height = layout.share(columns, BESIDE), 1.7
    larger = layout.small / 9 / layout.growth
    labelled = 1 + (
        rows > 1 and len(values) % columns > 0
    )  # the panel above an empty place has names, too
    names = max(wrap_name(name, width, 9 * larger).count("\n") + 1 for name in values)
    high = rows * (height + (0.15 + 0.18 * names) * larger) + labelled * labels * larger
    own = (columns * (width + 0.5 * larger) + 0.9 * larger, high)
    fig, axes = make_grid(rows, columns, own=own, height=high)
    for ax in axes.flat[len(values) :]:
        ax.remove()
    return fig, list(axes.flat[: len(values)]), layout.growth * height


def label_axes(axes: list, x: str, y: str) -> None:
    """Label the panels: the y axis at the left, the x axis and columns where no panel is below."""
    columns = axes[0].get_gridspec().ncols
    for index, ax in enumerate(axes):
        last = index + columns >= len(axes)
        ax.set(xlabel=x if last else "", ylabel="" if index % columns else y)
        if not last:
            ax.set_xticklabels([])


def name_panel(ax, name: str, width: float) -> None:
    """Title a panel with its model's name, wrapped to its width, or as a page allows.

    width: see `make_panels`.
    """
    layout, size = find_layout(), plt.rcParams["axes.titlesize"]
    width *= layout.growth
    if layout.sized:
        width = layout.share(ax.get_gridspec().ncols, BESIDE) - 0.1
    ax.set_title(wrap_name(name, width, size), parse_math=False)


def choose_layer_step(rows: int, height: float) -> int:
    """Rows between two labelled ticks, so that the labels fit into `height` inches."""
    room = height / (1.25 * plt.rcParams["font.size"] / 72)
    return next((step for step in (1, 2, 4, 5, 10, 20) if rows <= room * step), 50)


def find_missing_columns(table: pd.DataFrame, needed: set[str]) -> str | None:
    """The columns that a table, made by another version, lacks, in words; None if it has all."""
    missing = sorted(needed - set(table))
    return f"has no column {', '.join(missing)}" if missing else None


def find_no_numbers(values: pd.Series, nan: bool = False) -> str | None:
    """That values are infinite, or NaN if `nan`, in words; None if all can be drawn."""
    bad = np.isinf(values) | (values.isna() if nan else False)
    return f"has {bad.sum():,} values that are NaN or infinite" if bad.any() else None


def find_missing_scores(values: pd.Series, metric: str) -> str | None:
    """That no value is a number, as in a table made with another config; None if one is."""
    return None if values.notna().any() else f"has no scores of {metric} to show"
