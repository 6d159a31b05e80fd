"""Refuse figures that would show what is no number without saying so.

A cell or a point without a value is drawn grey, as a dash or as a gap, and the caption must say so
in one of these words. An infinite value is always refused.
"""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from llm_figures.core.errors import UserError

NAMED = re.compile(r"\b(grey|gaps?|dash(es)?)\b", re.IGNORECASE)


def check_table(table: pd.DataFrame, where: str) -> None:
    """Refuse a table of scores with an infinite value. where: its path, for the message.

    Raises:
        UserError: the column, and how many of its values are infinite.
    """
    for name in table.select_dtypes("floating"):
        values = table[name].to_numpy(dtype=float, na_value=np.nan)
        if count := int(np.isinf(values).sum()):
            raise UserError(
                f"{where}: column {name}: {count:,} of {len(values):,} values are infinite, which "
                "no figure can show"
            )


def check_drawn(fig: Figure, caption: str, name: str) -> None:
    """Refuse a figure with values that are infinite, or missing and not named by its caption.

    name: the figure's, for the message.

    Raises:
        UserError: the figure, its first such panel, and how many of the values it concerns.
    """
    for panel, values in _drawn_values(fig):
        infinite, missing = int(np.isinf(values).sum()), int(np.isnan(values).sum())
        where = f"{name}{panel and f', {panel}'}"
        if infinite:
            raise UserError(f"{where}: {infinite:,} of {values.size:,} values are infinite")
        if missing and not NAMED.search(caption):
            raise UserError(
                f"{where}: {missing:,} of {values.size:,} values are NaN, and the caption does not "
                "say what is grey, a dash or a gap"
            )


def _drawn_values(fig: Figure) -> Iterator[tuple[str, np.ndarray]]:
    """(title, values) of every heatmap, labelled line, bar and cloud of points."""
    for ax in fig.axes:
        title = ax.get_title()
        if hasattr(ax, "panel"):
            own, cells = ax.panel
            yield own or title, cells.to_numpy(dtype=float)
        for line in ax.lines:
            # lines without a label are parts of something else, such as the error bar of a bar
            if not str(line.get_label()).startswith("_"):
                yield title, np.asarray(line.get_xydata(), dtype=float)
        for patch in ax.patches:
            if isinstance(patch, Rectangle):
                yield title, np.array([*patch.get_xy(), patch.get_width(), patch.get_height()])
        for points in ax.collections:
            if isinstance(points, PathCollection):
                yield title, np.ma.filled(points.get_offsets().astype(float), np.nan)
