"""The cell chosen by nested selection, and that with the highest score; with their controls."""

from collections.abc import Collection
from typing import NamedTuple

import pandas as pd

# In the rows of nested selection (see `nested`): their layer, the token where it is chosen, too,
# and what precedes the name of the metric.
CHOSEN_LAYER, ANY_TOKEN, NESTED = -1, "any", "nested_"
# Controls whose rows say how often a cell was chosen: among all, or among those of its token.
CHOSEN, CHOSEN_OF_TOKEN = "chosen", "chosen_of_token"


class HighestCell(NamedTuple):
    """probe: the row of the probe's score. beside: all rows of the cell, by control. scored: the
    number of cells with a score."""

    probe: pd.Series
    beside: pd.DataFrame
    scored: int


class NestedCell(NamedTuple):
    """The choice of a cell in every split, as if it were one cell.

    probe: the row of the probe's score. beside: all rows, by control. chosen: one row per cell that
    was chosen, the most frequent first; layer, token, mean, and folds: how often.
    """

    probe: pd.Series
    beside: pd.DataFrame
    chosen: pd.DataFrame


def find_highest_cell(
    scores: pd.DataFrame, metric: str, tokens: Collection[str] | None = None
) -> HighestCell | None:
    """The cell with the probe's highest mean, the first of equals; None without any score.

    Its score is favoured by the choice; see `find_nested_cell`. scores: tidy scores of the probe.
    tokens: those to choose from; by default all.
    """
    rows = scores[scores["metric"] == metric]
    if tokens is not None:
        rows = rows[rows["token"].isin(tokens)]
    scored = rows[rows["control"] == "none"].dropna(subset="mean")
    if scored.empty:
        return None
    best = scored.loc[scored["mean"].idxmax()]
    in_cell = (rows["layer"] == best["layer"]) & (rows["token"] == best["token"])
    return HighestCell(best, rows[in_cell].set_index("control"), len(scored))


def find_nested_cell(
    scores: pd.DataFrame, metric: str, token: str | None = None
) -> NestedCell | None:
    """The choice of a cell on the training answers alone, and its score on the tested ones.

    token: the one among whose layers is chosen; by default the token is chosen, too. None where
    there was no choice, as in scores of earlier versions.
    """
    rows = scores[scores["metric"] == f"{NESTED}{metric}"]
    summary = rows[(rows["layer"] == CHOSEN_LAYER) & (rows["token"] == (token or ANY_TOKEN))]
    if summary.empty:
        return None
    beside = summary.set_index("control")
    if pd.isna(beside.loc["none", "mean"]):
        return None
    chosen = rows[rows["control"] == (CHOSEN_OF_TOKEN if token else CHOSEN)]
    if token:
        chosen = chosen[chosen["token"] == token]
    chosen = chosen.sort_values(["folds", "layer"], ascending=[False, True], kind="stable")
    probe = summary[summary["control"] == "none"].iloc[0]
    return NestedCell(probe, beside, chosen.reset_index(drop=True))


def list_nested_scores(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The probe's rows where a layer is chosen for each token, by token."""
    rows = scores[(scores["metric"] == f"{NESTED}{metric}") & (scores["layer"] == CHOSEN_LAYER)]
    rows = rows[(rows["control"] == "none") & (rows["token"] != ANY_TOKEN)]
    return rows.set_index(rows["token"].astype(str))
