"""Transfer of probes: trained on one set of questions, tested on another.

After Orgad et al. 2025 (arXiv 2410.02707, section 4), who ask whether one probe detects wrong
answers to any kind of question, and compare it with the probabilities of the output.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.classification_metrics import (
    compute_auc,
    compute_bootstrap_interval,
    draw_resamples,
)
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.split_fitter import ProbeFitter, draw_seed
from llm_figures.probe.stored_states import StoredStates
from llm_figures.probe.transfer_sets import AnsweredSet, NestedCells
from llm_figures.questions.answers import FEWEST_OF_A_LABEL

# Resamples of the tested answers behind every interval.
DRAWS = 1000
BASELINE = "logit_baseline"
# Scores of the output that the baseline chooses from; each may count in either direction.
LOGITS = ("exact_answer_log_probability", "answer_log_probability")
COLUMNS = [
    "train", "test", "control", "auc", "ci_low", "ci_high", "difference", "difference_low",
    "difference_high", "gain", "gain_low", "gain_high", "layer", "token", "score", "n_train",
    "n_test", "right", "wrong", "shared", "unconverged", "problem",
]  # fmt: skip
# Columns of whole numbers, some of them missing.
WHOLE = ("layer", "n_train", "n_test", "right", "wrong", "shared", "unconverged")


@dataclass(frozen=True)
class Candidates:
    """Ways to score the answers of a set, one of which is chosen.

    names: of the candidates. scores: [candidates, answers], of probes that did not see the answer's
    fold. inner: [candidates, answers, folds], of probes that saw neither its fold nor that one. NaN
    where an answer lacks the token.
    """

    names: Sequence[tuple]
    scores: np.ndarray
    inner: np.ndarray


class Choice(NamedTuple):
    """best: the candidate chosen on all folds. scores: [answers], in each fold those of the
    candidate that was chosen on all others."""

    best: tuple
    scores: np.ndarray


def join_predictions(frames: Iterable[pd.DataFrame], tokens: Sequence[str]) -> pd.DataFrame:
    """The predictions of all layers.

    Raises:
        UserError: there are none.
    """
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        raise UserError(
            f"config: figures.probe_transfer.tokens: {', '.join(tokens)}: in no set do "
            f"{FEWEST_OF_A_LABEL} right and {FEWEST_OF_A_LABEL} wrong answers have one of them; "
            "choose other tokens"
        )
    return pd.concat(frames, ignore_index=True)


def gather_probes(
    predictions: pd.DataFrame, nested: NestedCells, tokens: Sequence[str]
) -> Candidates:
    """The candidates of a probe, every layer and token, in this order.

    predictions: as from `fitting.probe_layers`, of the set's cells among others.
    """
    layers = sorted(predictions["layer"].unique())
    names = [(int(layer), token) for layer in layers for token in tokens]
    count = int(nested.folds.max()) + 1
    scores = np.full((len(names), len(nested.ids)), np.nan)
    inner = np.full((*scores.shape, count), np.nan)
    first, last = nested.ids[0], nested.ids[-1]
    own = predictions[predictions["question_id"].between(first, last)]
    place = {name: index for index, name in enumerate(names)}
    at = np.array(
        [place[pair] for pair in zip(own["layer"], own["token"], strict=True)], dtype=np.int64
    )
    answer = own["question_id"].to_numpy(int) - first
    single = (own["repeat"] == 0).to_numpy()
    values = own["score"].to_numpy(float)
    scores[at[single], answer[single]] = values[single]
    # of the two folds of a pair, the one that the answer is not in
    pair = own["fold"].to_numpy(int)
    other = pair // count + pair % count - nested.folds[answer]
    inner[at[~single], answer[~single], other[~single]] = values[~single]
    return Candidates(names, scores, inner)


def gather_logits(one: AnsweredSet, folds: np.ndarray) -> Candidates:
    """The candidates of the baseline: either score of the output, in either direction."""
    names = [(score, sign) for score in LOGITS for sign in (-1, 1)]
    scores = np.stack([score_logits(one, one, name) for name in names])
    inner = np.repeat(scores[:, :, None], int(folds.max()) + 1, axis=2)
    return Candidates(names, scores, inner)


def score_logits(train: AnsweredSet, test: AnsweredSet, name: tuple) -> np.ndarray:
    """[answers of test]: a score of the output; one that is missing is the median of training."""
    score, sign = name
    median = train.answers[score].median()
    values = test.answers[score].fillna(median if np.isfinite(median) else 0.0)
    return sign * values.to_numpy(float)


def choose(candidates: Candidates, labels: np.ndarray, folds: np.ndarray) -> Choice | None:
    """Choose the candidate with the highest AUC, averaged over folds; of equal ones the first.

    Returns None where no candidate has a score.
    """
    numbers = np.unique(folds)
    inside = [folds == fold for fold in numbers]
    aucs = np.array(
        [[_auc(labels, row, mask) for mask in inside] for row in candidates.scores]
    )  # [candidates, folds]
    best = _argmax(aucs)
    if best is None:
        return None
    scores = np.full(len(labels), np.nan)
    for fold, mask in zip(numbers, inside, strict=True):
        others = [other for other, of in zip(inside, numbers, strict=True) if of != fold]
        inner = np.array(
            [[_auc(labels, row, other) for other in others] for row in candidates.inner[..., fold]]
        )
        chosen = _argmax(inner)
        if chosen is not None:
            scores[mask] = candidates.scores[chosen, mask]
    return Choice(candidates.names[best], scores)


def _auc(labels: np.ndarray, scores: np.ndarray, inside: np.ndarray) -> float:
    inside = inside & np.isfinite(scores)
    if not inside.any():
        return np.nan
    return float(compute_auc(labels[inside], scores[inside], np.ones((1, inside.sum())))[0])


def _argmax(aucs: np.ndarray) -> int | None:
    """The row of [candidates, folds] with the highest mean; rows that lack a fold do not count."""
    means = aucs.mean(axis=1)
    return int(np.nanargmax(means)) if np.isfinite(means).any() else None


@dataclass(frozen=True)
class Trained:
    """What was trained on one set, and its scores of every set's answers.

    train: the set. own: {control: scores of its own answers, as `Choice.scores`}. scores: {control:
    {tested set: [answers]}}. chosen: {control: name of the candidate}.
    """

    train: AnsweredSet
    own: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    chosen: dict[str, tuple] = field(default_factory=dict)
    unconverged: int = 0


def transfer(
    train: AnsweredSet,
    nested: NestedCells,
    predictions: pd.DataFrame,
    tests: Sequence[AnsweredSet],
    load: Callable[[int], np.ndarray | StoredStates],
    tokens: Sequence[str],
    protocol: Protocol,
) -> Trained:
    """Choose the layer and token of a probe on its own set, fit it to all of that, score others.

    load: of the states [rows, features] of a layer. The tested sets are seen by no choice.
    """
    labels, folds = train.labels, nested.folds
    trained = Trained(train)
    logits = choose(gather_logits(train, folds), labels, folds)
    trained.own[BASELINE], trained.chosen[BASELINE] = logits.scores, logits.best
    trained.scores[BASELINE] = {test.name: score_logits(train, test, logits.best) for test in tests}
    probe = choose(gather_probes(predictions, nested, tokens), labels, folds)
    if probe is None:
        return trained
    trained.own["none"], trained.chosen["none"] = probe.scores, probe.best
    layer, token = probe.best
    cell = tokens.index(token)
    states = load(layer)
    where = [_find_rows(test, token) for test in tests]
    rows = np.concatenate([of_test[of_test >= 0] for of_test in where])
    of_cell = nested.cells[cell]
    own = nested.rows[cell]
    read = states[np.concatenate([own, rows])].astype(np.float32, copy=False)
    fitter = ProbeFitter(
        read[: len(own)],
        read[len(own) :],
        protocol,
        of_cell.split_groups,
    )
    with warnings.catch_warnings(action="ignore"):  # unconverged fits are counted instead
        fit = fitter.fit(of_cell.labels, seed=draw_seed(protocol.seed, layer, cell))
    trained.scores["none"], start = {}, 0
    for test, of_test in zip(tests, where, strict=True):
        scores = np.full(len(of_test), np.nan)
        count = int((of_test >= 0).sum())
        scores[of_test >= 0] = fit.scores[start : start + count]
        start += count
        trained.scores["none"][test.name] = scores
    return _with_unconverged(trained, predictions, nested, fit.converged)


def _with_unconverged(
    trained: Trained, predictions: pd.DataFrame, nested: NestedCells, converged: bool
) -> Trained:
    own = predictions[predictions["question_id"].between(nested.ids[0], nested.ids[-1])]
    fits = own.drop_duplicates(["layer", "token", "repeat", "fold"])
    count = int((~fits["converged"].astype(bool)).sum()) + (not converged)
    return Trained(trained.train, trained.own, trained.scores, trained.chosen, count)


def _find_rows(one: AnsweredSet, token: str) -> np.ndarray:
    """[answers]: the row of states at a token, -1 for an answer without it."""
    keys = one.keys[one.keys["token"] == token]
    row_of = pd.Series(keys.index, index=keys["question_id"])
    return row_of.reindex(one.answers["question_id"]).fillna(-1).to_numpy(int)


def compare_transfer(
    sets: Sequence[AnsweredSet],
    trained: Sequence[Trained],
    folds: dict[str, np.ndarray],
    left_out: dict[str, str],
    seed: int,
) -> pd.DataFrame:
    """Tidy scores, one row per set trained on × set tested on × control.

    sets: those with enough answers. trained: one per training set, those without shared questions
    among them. folds: {set: [answers]}. left_out: {set: why it is neither trained nor tested on}.

    control is "none" for the probe and `BASELINE` for the probabilities of the output. auc is the
    mean over the folds of the tested set, on the diagonal (train equals test) of probes that did
    not see the fold, at the cell chosen without it. difference: auc − auc of the same control
    trained on the tested set itself. gain (baseline only): probe − baseline. Both are of the
    answers that have the tokens of both. ci_low to gain_high: 95% bootstrap intervals over the
    tested answers, which are resampled alike for all; probes are not fitted again. layer, token: of
    the probe that is fitted to all of the training set; score: the baseline's, with a minus if low
    values mean a wrong answer. n_train, n_test, right, wrong: answers of the sets, of which some
    may lack the token. shared: questions of the training set that were left out because the tested
    set asks them. unconverged: fits of the training set. problem: why there is no score, else "".
    """
    by_name = {(one.train.name, one.train.excluded): one for one in trained}
    rows = []
    for test in sets:
        labels, of_fold = test.labels, folds[test.name]
        groups = pd.factorize(test.answers["split_group"])[0]
        weights = draw_resamples(groups, DRAWS, seed)
        own = by_name[test.name, None].own

        @cache  # by the bytes of the scores: most answers have every token
        def measure_bytes(scores: bytes, labels=labels, of_fold=of_fold, weights=weights):
            return _mean_over_folds(labels, np.frombuffer(scores), of_fold, weights)

        def measure(scores: np.ndarray, other: np.ndarray, measure_bytes=measure_bytes):
            """[draws], of the answers that both score."""
            return measure_bytes(np.where(np.isfinite(other), scores, np.nan).tobytes())

        for train in sets:
            one = by_name.get((train.name, test.name), by_name[train.name, None])
            here = train is test
            known = own if here else {name: of[test.name] for name, of in one.scores.items()}
            problems = {
                control: _find_problem(one, control, known.get(control), labels)
                for control in ("none", BASELINE)
            }
            for control, problem in problems.items():
                row = {
                    "train": train.name,
                    "test": test.name,
                    "control": control,
                    "n_train": len(one.train.answers),
                    "n_test": len(labels),
                    "right": int((labels == 0).sum()),
                    "wrong": int(labels.sum()),
                    "shared": 0 if here else len(train.answers) - len(one.train.answers),
                    "unconverged": one.unconverged if control == "none" else 0,
                    "problem": problem,
                }
                if not problem:
                    scores = known[control]
                    row |= _interval("auc", measure(scores, scores), ("auc", "ci_low", "ci_high"))
                    row |= _describe_choice(control, one.chosen[control])
                    if not here and control in own:
                        other = own[control]
                        difference = measure(scores, other) - measure(other, scores)
                        row |= _interval("difference", difference)
                    if control == BASELINE and not problems["none"]:
                        probe = known["none"]
                        row |= _interval("gain", measure(probe, scores) - measure(scores, probe))
                rows.append(row)
    for name, problem in left_out.items():
        rows += [
            {"train": name, "test": name, "control": "none", "shared": 0, "unconverged": 0}
            | {"problem": problem}
        ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(WHOLE, "Int64"))


def _find_problem(one: Trained, control: str, scores: np.ndarray | None, labels: np.ndarray) -> str:
    """Why a set's answers have no score of what was trained on one, else "".

    scores: [answers], NaN without the token; None where there is no candidate.
    """
    if one.train.problem:
        return f"train: {one.train.problem}"
    if scores is None:
        return "no token has enough answers of either label"
    known = labels[np.isfinite(scores)]
    right, wrong = np.bincount(known, minlength=2)
    if min(right, wrong) >= FEWEST_OF_A_LABEL:
        return ""
    return f"test: {right} right and {wrong} wrong answers with {one.chosen[control][1]}"


def _describe_choice(control: str, chosen: tuple) -> dict:
    if control == BASELINE:
        score, sign = chosen
        return {"score": f"-{score}" if sign < 0 else score}
    layer, token = chosen
    return {"layer": layer, "token": token}


def _interval(name: str, draws: np.ndarray, keys: Sequence[str] = ()) -> dict[str, float]:
    keys = keys or (name, f"{name}_low", f"{name}_high")
    return dict(zip(keys, compute_bootstrap_interval(draws), strict=True))


def _mean_over_folds(
    labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """[draws]: the AUC within each fold, averaged: on the diagonal each fold has its own probe."""
    values = []
    for fold in np.unique(folds):
        inside = (folds == fold) & np.isfinite(scores)
        if inside.any():
            values.append(compute_auc(labels[inside], scores[inside], weights[:, inside]))
    with warnings.catch_warnings(action="ignore"):  # a draw may lack a label in every fold
        return np.nanmean(values, axis=0) if values else np.full(len(weights), np.nan)


def check_sets(sets: Sequence[AnsweredSet], left_out: dict[str, str]) -> None:
    """Check that there are two sets with enough answers of either label.

    Raises:
        UserError: there are fewer.
    """
    if len(sets) < 2:
        reasons = "; ".join(f"{name}: {problem}" for name, problem in left_out.items())
        raise UserError(
            "config: datasets: probe_transfer needs two sets with at least 20 right and 20 wrong "
            f"answers; left out: {reasons or 'none'}; add sets, or questions to them"
        )
