"""What else is said of the chosen cells: pairs of a group, classes of errors, and calibration.

AUC says how answers are ordered. Whether the probe's logits are probabilities, the calibration
slope says (Cox 1958), the expected calibration error (Naeini, Cooper & Hauskrecht 2015) and the
score of Brier (1950).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from llm_figures.probe.best_cell import (
    ANY_TOKEN,
    BRIER,
    CALIBRATION_ERROR,
    CHOSEN_LAYER,
    OFF_OPTION,
    OTHER_WRONG,
    SLOPE,
    WITHIN_GROUP,
)
from llm_figures.probe.nested import select_nested
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.scores import COLUMNS
from llm_figures.probe.stored_predictions import Predictions
from llm_figures.probe.within_groups import MEAN, tabulate_within_groups

BINS = 10
# Columns of a choice that are the same in its rows.
OF_CHOICE = ("n_train", "n_test", "folds", "unconverged", "groups")
# Newton's method on two parameters ends after a few steps, or diverges where labels are separated.
STEPS, HALVINGS, TOLERANCE, LARGEST_SLOPE = 100, 30, 1e-10, 1e3


def tabulate_nested_details(
    predictions: Predictions,
    table: pd.DataFrame,
    answers: pd.DataFrame,
    tokens: Sequence[str],
    candidates: Sequence[str],
    protocol: Protocol,
) -> pd.DataFrame:
    """Rows for the table of scores, of nested selection among all cells and those of each token.

    nested_within_group_auc: the AUC over all pairs of a wrong and a right answer of one group, both
    tested by the same probe; with its interval. n: answers in groups that have one.

    nested_off_option_auc, nested_other_wrong_auc: the AUC over pairs of a right answer and a wrong
    one that names none of its question's options, or of any other wrong one; in the same way. Where
    all wrong answers are of one class there is neither.

    nested_calibration_slope, nested_calibration_error, nested_brier: of the logits of all tested
    answers, of logistic regression without weights of classes alone (see `measure_calibration`).

    predictions: of the probe itself, as from `fitting.probe_layers`. table: the rows of nested
    selection (`nested.tabulate_nested`). answers: question_id, group, split_group, correct and, if
    it is known, off_option of the valid ones. candidates: the tokens among which one is chosen
    (`best_cell.list_candidates`).
    """
    chosen = set(table.loc[table["layer"] == CHOSEN_LAYER, "token"].astype(str))
    scopes = []
    if ANY_TOKEN in chosen:
        scopes.append((ANY_TOKEN, select_nested(predictions, candidates)))
    if by_token := chosen - {ANY_TOKEN}:
        of_tokens = select_nested(predictions, tokens, of_token=True)
        scopes += [
            (token, of_tokens[of_tokens["token"] == token]) for token in tokens if token in by_token
        ]
    wrong = ~answers.set_index("question_id")["correct"].astype(bool)
    grouped = answers["group"].fillna("").nunique() > 1
    probabilities = protocol.kind == "logistic" and protocol.class_weight == "none"
    rows: list[dict] = []
    for token, tested in scopes:
        place = {
            "layer": CHOSEN_LAYER,
            "token": token,
            "control": "none",
            "n": tested["question_id"].nunique(),
        }
        own = table[(table["layer"] == CHOSEN_LAYER) & (table["token"] == token)].iloc[0]
        place |= {name: int(own[name]) for name in OF_CHOICE}
        if grouped:
            rows.append(place | _score_pairs(WITHIN_GROUP, tested, answers, protocol.seed))
        for metric, own in _divide_by_class(answers):
            rows.append(place | _score_pairs(metric, tested, own.assign(group=""), protocol.seed))
        if probabilities:
            labels = wrong.loc[tested["question_id"]].to_numpy(float)
            values = measure_calibration(labels, tested["score"].to_numpy(float))
            rows += [place | {"metric": metric, "mean": value} for metric, value in values]
    return pd.DataFrame(rows, columns=COLUMNS)


def _divide_by_class(answers: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(metric, the right answers with the wrong ones of a class), where there are two classes."""
    wrong = ~answers["correct"].astype(bool)
    off = answers.get("off_option", False) & wrong
    if off.any() and not off.equals(wrong):
        yield OFF_OPTION, answers[off | ~wrong]
        yield OTHER_WRONG, answers[~off]


def _score_pairs(metric: str, tested: pd.DataFrame, answers: pd.DataFrame, seed: int) -> dict:
    """The AUC over all pairs of a wrong and a right answer of a group, with its interval.

    tested: the scores of the choice; those of other answers are left out.
    """
    tested = tested[tested["question_id"].isin(answers["question_id"])]
    groups = tabulate_within_groups([], tested, answers, seed)
    means = groups[groups["level"] == MEAN].to_dict("records")
    if not means:  # none of these answers is tested
        return {"metric": metric, "n": 0}
    (mean,) = means
    intervals = {end: mean[end] for end in ("ci_low", "ci_high")}
    return {"metric": metric, "mean": mean["auc"], "n": mean["n"]} | intervals


def measure_calibration(labels: np.ndarray, logits: np.ndarray) -> Iterator[tuple[str, float]]:
    """(metric, value) of logits as probabilities of label 1.

    labels: [examples], 0 or 1. logits: [examples].

    The slope is that of a logistic regression of the labels on the logits: 1 where they are
    calibrated, above 1 where they are too close to 0; NaN where the logits separate the labels. The
    error is the mean distance of the share of label 1 from the mean probability, over ten bins of
    equal width weighted by their examples. The score of Brier is the mean squared error of the
    probabilities.
    """
    probabilities = expit(logits)
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    sums = np.bincount(bins, labels - probabilities, minlength=BINS)
    yield SLOPE, _fit_slope(labels, logits)
    yield CALIBRATION_ERROR, float(np.abs(sums).sum() / len(labels))
    yield BRIER, float(np.mean((labels - probabilities) ** 2))


def _fit_slope(labels: np.ndarray, logits: np.ndarray) -> float:
    """The slope of a logistic regression with an intercept, by Newton's method."""
    scale = logits.std()
    if not scale > 0:
        return float("nan")
    X = np.stack([np.ones_like(logits), logits / scale], axis=1)
    point = np.zeros(2)
    for _ in range(STEPS):
        expected = expit(X @ point)
        gradient = X.T @ (labels - expected)
        curvature = (X * (expected * (1 - expected))[:, None]).T @ X
        try:
            step = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError:
            return float("nan")
        before = _measure_loss(X, labels, point)
        for _ in range(HALVINGS):
            if _measure_loss(X, labels, point + step) <= before:
                break
            step = step / 2
        point += step
        if not np.isfinite(point).all() or abs(point[1]) > LARGEST_SLOPE:
            return float("nan")
        if np.abs(step).max() < TOLERANCE:
            return float(point[1] / scale)
    return float("nan")


def _measure_loss(X: np.ndarray, labels: np.ndarray, point: np.ndarray) -> float:
    """The logistic loss of all examples."""
    logits = X @ point
    return float((np.logaddexp(0, logits) - labels * logits).sum())
