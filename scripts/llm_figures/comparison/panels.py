"""Lay out one panel per model, all equally high, and check the tables that comparisons need."""

import math
import re
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

Tables = Mapping[str, pd.DataFrame]


def choose_grid(count: int) -> tuple[int, int]:
    """(rows, columns) for this many panels: one row of up to three, two of up to eight, or more."""
    columns = count if count <= 3 else min(4, math.ceil(count / 2))
    return math.ceil(count / columns), columns


def make_panels(values: Tables, *, width: float, labels: float) -> tuple[Figure, list, float]:
    """A figure with one panel per model, its panels, and their height in inches.

    values: heatmaps by model, rows are layers. width: of a panel, in inches. labels: height of the
    names of columns below a panel at a font size of 9 points, in inches.
    """
    rows, columns = choose_grid(len(values))
    larger = plt.rcParams["font.size"] / 9
    labelled = 1 + (
        rows > 1 and len(values) % columns > 0
    )  # the panel above an empty place has names, too
    names = max(wrap_name(name, width, 9 * larger).count("\n") + 1 for name in values)
    height = min(max(0.12 * max(map(len, values.values())), 2.6), 4.6)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            columns * (width + 0.5 * larger) + 0.9 * larger,
            rows * (height + (0.15 + 0.18 * names) * larger) + labelled * labels * larger,
        ),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(values) :]:
        ax.remove()
    return fig, list(axes.flat[: len(values)]), height


def label_axes(axes: list, x: str, y: str) -> None:
    """Label the panels: the y axis at the left, the x axis and columns where no panel is below."""
    _, columns = choose_grid(len(axes))
    for index, ax in enumerate(axes):
        last = index + columns >= len(axes)
        ax.set(xlabel=x if last else "", ylabel="" if index % columns else y)
        if not last:
            ax.set_xticklabels([])


def name_panel(ax, name: str, width: float) -> None:
    """Title a panel with its model's name, wrapped to `width` inches."""
    size = plt.rcParams["axes.titlesize"]
    ax.set_title(wrap_name(name, width, size), parse_math=False)


def choose_layer_step(rows: int, height: float) -> int:
    """Rows between two labelled ticks, so that the labels fit into `height` inches."""
    room = height / (1.25 * plt.rcParams["font.size"] / 72)
    return next((step for step in (1, 2, 4, 5, 10, 20) if rows <= room * step), 50)


def wrap_name(name: str, width: float, size: float) -> str:
    """The name in lines of at most `width` inches, broken after - _ or . if possible."""
    lines = [""]
    for piece in re.findall(r"[^-_.]*[-_.]|[^-_.]+", name):
        if lines[-1] and measure_text(lines[-1] + piece, size) > width:
            lines.append("")
        for letter in piece:  # a single piece may be too long, too
            if lines[-1] and measure_text(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def measure_text(text: str, size: float) -> float:
    """The width of a text in inches. size: of its font, in points."""
    font = FontProperties(family=plt.rcParams["font.family"])
    return TextPath((0, 0), text, size=size, prop=font).get_extents().width / 72


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
