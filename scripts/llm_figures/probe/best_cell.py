"""The layer and token with the probe's highest score, and the controls there."""

from collections.abc import Collection
from typing import NamedTuple

import pandas as pd


class BestCell(NamedTuple):
    """probe: the row of the probe's score. beside: all rows of the cell, by control. scored: the
    number of cells with a score."""

    probe: pd.Series
    beside: pd.DataFrame
    scored: int


def find_best_cell(
    scores: pd.DataFrame, metric: str, tokens: Collection[str] | None = None
) -> BestCell | None:
    """The cell with the probe's highest mean, the first of equals; None without any score.

    scores: tidy scores of the probe. tokens: those to choose from; by default all.
    """
    rows = scores[scores["metric"] == metric]
    if tokens is not None:
        rows = rows[rows["token"].isin(tokens)]
    scored = rows[rows["control"] == "none"].dropna(subset="mean")
    if scored.empty:
        return None
    best = scored.loc[scored["mean"].idxmax()]
    in_cell = (rows["layer"] == best["layer"]) & (rows["token"] == best["token"])
    return BestCell(best, rows[in_cell].set_index("control"), len(scored))
