"""What the comparisons share: a panel per model, equally high, and which tables fit."""

import math
import re
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

Tables = Mapping[str, pd.DataFrame]


def grid(count: int) -> tuple[int, int]:
    """Rows and columns for this many panels: one row of three, two of up to eight, then more."""
    columns = count if count <= 3 else min(4, math.ceil(count / 2))
    return math.ceil(count / columns), columns


def make_panels(values: Tables, *, width: float, labels: float) -> tuple[Figure, list, float]:
    """A figure with one panel per model, those in use, and the panels' height in inches.

    values: heatmaps, rows are layers. width: of a panel, in inches. labels: what the columns' names
    below it take at 9 points, in inches.
    """
    rows, columns = grid(len(values))
    larger = plt.rcParams["font.size"] / 9
    labelled = 1 + (rows > 1 and len(values) % columns > 0)  # a panel above a hole has names, too
    names = max(wrapped(name, width, 9 * larger).count("\n") + 1 for name in values)
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


def outer_labels(axes: list, x: str, y: str) -> None:
    """Axis labels at the left, and names of columns only where no panel follows below."""
    _, columns = grid(len(axes))
    for index, ax in enumerate(axes):
        last = index + columns >= len(axes)
        ax.set(xlabel=x if last else "", ylabel="" if index % columns else y)
        if not last:
            ax.set_xticklabels([])


def name_panel(ax, name: str, width: float) -> None:
    size = plt.rcParams["axes.titlesize"]
    ax.set_title(wrapped(name, width, size), parse_math=False)


def layer_step(rows: int, height: float) -> int:
    """Rows between two labelled ticks, so that labels in `height` inches do not touch."""
    room = height / (1.25 * plt.rcParams["font.size"] / 72)
    return next((step for step in (1, 2, 4, 5, 10, 20) if rows <= room * step), 50)


def wrapped(name: str, width: float, size: float) -> str:
    """The name in lines of at most `width` inches, broken after - _ or . where it can be."""
    lines = [""]
    for piece in re.findall(r"[^-_.]*[-_.]|[^-_.]+", name):
        if lines[-1] and text_width(lines[-1] + piece, size) > width:
            lines.append("")
        for letter in piece:  # a piece alone may be too long, too
            if lines[-1] and text_width(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def text_width(text: str, size: float) -> float:
    """Inches."""
    font = FontProperties(family=plt.rcParams["font.family"])
    return TextPath((0, 0), text, size=size, prop=font).get_extents().width / 72


def lacking_columns(table: pd.DataFrame, needed: set[str]) -> str | None:
    """Which columns a table made by another version does not have; None if it has all."""
    lacking = sorted(needed - set(table))
    return f"has no column {', '.join(lacking)}" if lacking else None


def no_scores(values: pd.Series, metric: str) -> str | None:
    """That none of the values to show is a number, as in one made by another config; else None."""
    return None if values.notna().any() else f"has no scores of {metric} to show"
