"""The layer and token at which the probe scores highest, and its controls there."""

from collections.abc import Collection
from typing import NamedTuple

import pandas as pd


class BestCell(NamedTuple):
    """probe: the row of its score. beside: all rows of the cell, by control. scored: cells with
    a score, of which it is the best."""

    probe: pd.Series
    beside: pd.DataFrame
    scored: int


def find_best_cell(
    scores: pd.DataFrame, metric: str, tokens: Collection[str] | None = None
) -> BestCell | None:
    """The cell with the highest mean of the probe itself, the first of equals; None without scores.

    scores: tidy scores of the probe. tokens: those that count; all by default.
    """
    rows = scores[scores["metric"] == metric]
    if tokens is not None:
        rows = rows[rows["token"].isin(tokens)]
    scored = rows[rows["control"] == "none"].dropna(subset="mean")
    if scored.empty:
        return None
    best = scored.loc[scored["mean"].idxmax()]
    there = (rows["layer"] == best["layer"]) & (rows["token"] == best["token"])
    return BestCell(best, rows[there].set_index("control"), len(scored))
