"""The table of `probe_best`: permuted maxima, the chosen and the highest cell, and groups."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.best_cell import (
    BRIER,
    CALIBRATION_ERROR,
    CHOSEN_LAYER,
    NESTED,
    SLOPE,
    WITHIN_GROUP,
    find_highest_cell,
    find_nested_cell,
    list_candidates,
    select_probe,
)
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.stored_predictions import Predictions, iterate_layers
from llm_figures.probe.within_groups import MEAN

COLUMNS = [
    "kind", "control", "permutation", "repeat", "fold", "group", "layer", "token", "n",
    "wrong_share", "value", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "spread",
    "inner_auc", "highest", "note",
]  # fmt: skip


class PermutedCells(NamedTuple):
    """layers, tokens: of the axes. aucs: [layers, tokens, 1 + permutations], the observed first.

    shuffle: within_group or overall. movable: share of the questions whose label can change.
    """

    layers: Sequence[int]
    tokens: Sequence[str]
    aucs: np.ndarray
    shuffle: str
    movable: float


def tabulate_best(
    permuted: PermutedCells,
    scores: pd.DataFrame,
    predictions: Predictions,
    nested: pd.DataFrame,
    groups: pd.DataFrame,
    repeated: pd.DataFrame,
    answers: pd.DataFrame,
) -> pd.DataFrame:
    """One row per number, of these kinds; values are AUCs if nothing else is said.

    permuted: the maximum over all cells with permuted labels, by number of the permutation.
        Without a value where it leaves no test set of any cell with both labels: such labels say
        nothing, and do not count.
    observed: the same maximum with the labels as they are, its cell, and as note and n how labels
        were permuted and how many permutations count.
    above: as value, how many of n cells with the labels as they are exceed 95% of the maxima with
        permuted labels.
    movable: as value, the share of the questions whose label can change.
    nested, highest: the probe's score where the cell is chosen on the training answers and where it
        is highest, with the controls there.
    repeated: the same as nested over many draws of folds, with gain, gain_low and gain_high (probe
        − control); of shuffled labels over many permutations, with their spread, the standard
        deviation from one to the other.
    within, calibration_slope, calibration_error, brier: of the choices of these draws, the AUC over
        pairs of a group, and measures of calibration (`nested_details`).
    fold: of each split, the chosen cell with its inner_auc, its value on the test answers, and that
        of the highest cell.
    group: of each group of questions, the chosen cells' AUC within it, or why there is none.
    mean: over the pairs of all these groups.

    scores: tidy scores of the probe. predictions, nested: the probe's own, and those of the chosen
    cells (`nested.select_nested`). groups: as from `within_groups.tabulate_within_groups`.
    repeated: as from `repeated_choice.score_repeated_choice`. answers: question_id and correct of
    the valid ones.

    Raises:
        UserError: no cell has a score; no permutation counts.
    """
    highest = find_highest_cell(scores, "auc")
    if highest is None or not np.isfinite(permuted.aucs[..., 0]).any():
        raise UserError("probe/scores.parquet has no cell with a score; there is no best one")
    candidates = list_candidates(select_probe(scores, "auc"))
    aucs = np.where(np.isin(permuted.tokens, candidates)[None, :, None], permuted.aucs, np.nan)
    flat = aucs.reshape(-1, aucs.shape[-1])
    maxima = np.where(np.isfinite(flat), flat, -np.inf).max(axis=0)
    maxima[~np.isfinite(maxima)] = np.nan
    counted = int(np.isfinite(maxima[1:]).sum())
    if not counted:
        raise UserError(
            "config: figures.probe_best: no permutation of the labels leaves both right and wrong "
            "answers in a test set; test on more answers"
        )
    layer, token = np.unravel_index(int(np.nanargmax(aucs[..., 0])), aucs.shape[:2])
    # What 95% of the maxima are below is exceeded by any cell without knowledge in 5% of cases.
    level = np.nanpercentile(maxima[1:], 95)
    scored = flat[np.isfinite(flat[:, 0]), 0]
    rows = [
        {
            "kind": "observed",
            "layer": permuted.layers[layer],
            "token": permuted.tokens[token],
            "n": counted,
            "value": maxima[0],
            "note": permuted.shuffle,
        },
        {
            "kind": "above",
            "value": int((scored > level).sum()),
            "n": len(scored),
            "note": permuted.shuffle,
        },
        {"kind": "movable", "value": permuted.movable, "note": permuted.shuffle},
        *(
            {"kind": "permuted", "permutation": number, "value": value}
            for number, value in enumerate(maxima[1:].tolist(), start=1)
        ),
    ]
    cells = {"nested": find_nested_cell(scores, "auc"), "highest": highest}
    for kind, cell in cells.items():
        for control, row in cell.beside.iterrows() if cell else ():
            rows.append(
                {
                    "kind": kind,
                    "control": control,
                    **{key: row[key] for key in ("layer", "token", "n", "ci_low", "ci_high")},
                    "value": row["mean"],
                }
            )
    rows += _tabulate_repeated(repeated)
    rows += _tabulate_folds(highest.probe, predictions, nested, answers)
    own = groups[groups["layer"] == CHOSEN_LAYER]
    for row in own.to_dict("records"):
        rows.append(
            {
                "kind": "mean" if row["level"] == MEAN else "group",
                "value": row["auc"],
                **{
                    key: row[key]
                    for key in ("group", "n", "wrong_share", "ci_low", "ci_high", "note")
                },
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    whole = ["permutation", "repeat", "fold", "layer", "n"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def find_row(table: pd.DataFrame, kind: str, control: str = "none") -> pd.Series | None:
    """The row of a kind, of the probe itself where there are controls."""
    rows = table[table["kind"] == kind]
    rows = rows[rows["control"].isna() | (rows["control"] == control)]
    return rows.iloc[0] if len(rows) else None


def _tabulate_repeated(repeated: pd.DataFrame) -> Iterator[dict]:
    """Rows of the AUC with its controls, and of the other values of the choice."""
    kinds = {f"{NESTED}auc": "repeated", WITHIN_GROUP: "within"}
    kinds |= {name: name.removeprefix(NESTED) for name in (SLOPE, CALIBRATION_ERROR, BRIER)}
    for row in repeated.to_dict("records"):
        if row["metric"] in kinds:
            yield {
                "kind": kinds[row["metric"]],
                "value": row["mean"],
                **{key: row[key] for key in ("control", "n", "ci_low", "ci_high", "spread")},
                **{key: row[key] for key in ("gain", "gain_low", "gain_high")},
            }


def _tabulate_folds(
    highest: pd.Series, predictions: Predictions, nested: pd.DataFrame, answers: pd.DataFrame
) -> list[dict]:
    """One row per split: the chosen cell and the highest one on the same test set."""
    wrong = 1 - answers.set_index("question_id")["correct"].astype(int)
    in_highest = pd.concat(
        frame[(frame["layer"] == highest["layer"]) & (frame["token"] == highest["token"])]
        for frame in iterate_layers(predictions)
    )
    other = {split: _score(fold, wrong) for split, fold in in_highest.groupby(["repeat", "fold"])}
    return [
        {
            "kind": "fold",
            "repeat": split[0],
            "fold": split[1],
            "layer": fold["layer"].iloc[0],
            "token": fold["token"].iloc[0],
            "n": len(fold),
            "value": _score(fold, wrong),
            "inner_auc": float(fold["inner_auc"].iloc[0]),
            "highest": other.get(split, np.nan),
        }
        for split, fold in nested.groupby(["repeat", "fold"])
    ]


def _score(fold: pd.DataFrame, wrong: pd.Series) -> float:
    labels = wrong.loc[fold["question_id"]].to_numpy()
    return float(compute_metrics(labels, fold["score"].to_numpy())["auc"][0])
