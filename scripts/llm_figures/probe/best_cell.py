"""The cell chosen by nested selection, and that with the highest score; with their controls."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd

# In the rows of nested selection (see `nested`): their layer, the token where it is chosen, too,
# and what precedes the name of the metric.
CHOSEN_LAYER, ANY_TOKEN, NESTED = -1, "any", "nested_"
# What else is said of the choice: pairs of one group, both classes of wrong answers to questions
# with options, and how far the probe's logits are probabilities (see `nested_details`).
WITHIN_GROUP = f"{NESTED}within_group_auc"
OFF_OPTION, OTHER_WRONG = (f"{NESTED}{name}_auc" for name in ("off_option", "other_wrong"))
SLOPE, CALIBRATION_ERROR, BRIER = (
    f"{NESTED}{name}" for name in ("calibration_slope", "calibration_error", "brier")
)
DETAILS = (WITHIN_GROUP, OFF_OPTION, OTHER_WRONG, SLOPE, CALIBRATION_ERROR, BRIER)
# Controls whose rows say how often a cell was chosen: among all, or among those of its token.
CHOSEN, CHOSEN_OF_TOKEN = "chosen", "chosen_of_token"
# A cell of fewer answers than this share of those of the largest cell is not compared with others:
# its score is the noisiest, and so the likeliest to be the highest by luck.
LEAST_SHARE = 0.5


class HighestCell(NamedTuple):
    """probe: the row of the probe's score. beside: all rows of the cell, by control. scored: the
    number of cells with a score. raw: AUCs of the output's confidence as it is, by control."""

    probe: pd.Series
    beside: pd.DataFrame
    scored: int
    raw: pd.Series


class NestedCell(NamedTuple):
    """The choice of a cell in every split, as if it were one cell.

    probe: the row of the probe's score. beside: all rows, by control. chosen: one row per cell that
    was chosen, the most frequent first; layer, token, mean, and folds: how often. raw: AUCs of the
    output's confidence as it is, by control. details: other values of the choice, by metric.
    """

    probe: pd.Series
    beside: pd.DataFrame
    chosen: pd.DataFrame
    raw: pd.Series
    details: pd.DataFrame


def find_highest_cell(
    scores: pd.DataFrame, metric: str, tokens: Collection[str] | None = None
) -> HighestCell | None:
    """The cell with the probe's highest mean, the first of equals; None without any score.

    Its score is favoured by the choice; see `find_nested_cell`. Cells at tokens that too few
    answers have are left out (see `list_candidates`). scores: tidy scores of the probe. tokens:
    those to choose from; by default all.
    """
    rows = scores[scores["metric"] == metric]
    if tokens is not None:
        rows = rows[rows["token"].isin(tokens)]
    scored = rows[rows["control"] == "none"].dropna(subset="mean")
    if scored.empty:
        return None
    scored = scored[scored["token"].isin(list_candidates(scored))]
    best = scored.loc[scored["mean"].idxmax()]
    in_cell = (rows["layer"] == best["layer"]) & (rows["token"] == best["token"])
    beside = rows[in_cell].set_index("control")
    return HighestCell(best, beside, len(scored), _find_raw(scores, "raw_auc", best))


def select_probe(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of the probe itself in single cells."""
    return scores[(scores["metric"] == metric) & (scores["control"] == "none")]


def list_candidates(scores: pd.DataFrame) -> list[str]:
    """The tokens of which cells may be the best: enough answers have them (`LEAST_SHARE`).

    scores: rows of the probe itself, with values of mean and n.
    """
    counts = scores[scores["mean"].notna()].groupby("token", sort=False, observed=True)["n"].max()
    return [str(token) for token in counts.index[has_enough_answers(counts.to_numpy())]]


def has_enough_answers(counts: np.ndarray) -> np.ndarray:
    """Which cells may be the best. counts: their answers."""
    return counts >= LEAST_SHARE * counts.max(initial=0)


def _find_raw(scores: pd.DataFrame, metric: str, cell: pd.Series) -> pd.Series:
    rows = scores[(scores["metric"] == metric) & (scores["layer"] == cell["layer"])]
    return rows[rows["token"] == cell["token"]].set_index("control")["mean"]


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
    raw = _find_raw(scores, f"{NESTED}raw_auc", probe)
    details = scores[(scores["control"] == "none") & (scores["layer"] == CHOSEN_LAYER)]
    details = details[(details["token"] == probe["token"]) & details["metric"].isin(DETAILS)]
    details = details.set_index("metric")
    return NestedCell(probe, beside, chosen.reset_index(drop=True), raw, details)


def list_nested_scores(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The probe's rows where a layer is chosen for each token, by token."""
    rows = scores[(scores["metric"] == f"{NESTED}{metric}") & (scores["layer"] == CHOSEN_LAYER)]
    rows = rows[(rows["control"] == "none") & (rows["token"] != ANY_TOKEN)]
    return rows.set_index(rows["token"].astype(str))
