"""Choosing among the sampled answers to a question: by the probe, and by other strategies.

The probe of a wrong answer is trained on the greedy answers to the training questions of a split,
and chooses among the samples of its test questions. Its layer is chosen on the training questions,
too: by AUC in cross-validation among them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.probe.cells import Cell, assign_folds
from llm_figures.probe.classification_metrics import (
    compute_auc,
    compute_bootstrap_interval,
    compute_fold_interval,
    compute_metrics,
    draw_resamples,
)
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol
from llm_figures.probe.scores import DRAWS
from llm_figures.probe.split_fitter import INNER_FOLDS, ProbeFitter, draw_seed
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer
from llm_figures.questions.error_kinds import KINDS

# {strategy: its display name}, in the order of the figure.
STRATEGIES = {
    "greedy": "greedy decoding",
    "random": "random sample",
    "majority": "majority vote",
    "most_probable": "most probable sample",
    "probe": "probe",
    "any_right": "any sample right",
}
# What detects a wrong greedy answer: {name: its display name}.
DETECTORS = {
    "probe": "probe",
    "semantic_entropy": "semantic entropy",
    "semantic_entropy_weighted": "semantic entropy, by probability",
    "answer_log_probability": "answer probability",
    "exact_answer_log_probability": "exact answer probability",
}
ALL = "all"
COLUMNS = [
    "metric", "kind", "strategy", "mean", "ci_low", "ci_high", "gain", "gain_low", "gain_high",
    "probe_gain", "probe_gain_low", "probe_gain_high", "n", "samples", "layers",
]  # fmt: skip


class SplitChoice(NamedTuple):
    """What the probe of one split says of its test questions.

    layer: chosen on the training questions. questions: [test], ids. labels: [test], 1 where the
    greedy answer is wrong. greedy: [test], the logit of a wrong answer for the greedy answers.
    states: [sampled states of the test questions], their rows; samples: their logits. n_train: the
    number of training questions.
    """

    repeat: int
    fold: int
    layer: int
    questions: np.ndarray
    labels: np.ndarray
    greedy: np.ndarray
    states: np.ndarray
    samples: np.ndarray
    n_train: int


def select_layers(
    layers: Sequence[tuple[int, LoadStates]],
    rows: np.ndarray,
    cell: Cell,
    protocol: Protocol,
    jobs: int,
) -> list[int]:
    """The layer with the highest AUC among the training questions, for each split of the cell.

    layers: (layer, loader of the states [rows, features] of the greedy answers). rows: [examples],
    the cell's rows of states. The AUC is the mean over `INNER_FOLDS` folds of the training
    questions; of equal layers the first is taken.
    """
    # C: cv would choose a penalty within every inner fold, too
    inner = protocol.changed(C="auto") if protocol.C == "cv" else protocol
    tasks = (delayed(_measure_layer)(layer, load, rows, cell, inner) for layer, load in layers)
    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        values = np.array(Parallel(jobs, batch_size=1, max_nbytes=None)(tasks))  # [layers, splits]
    numbers = [layer for layer, _ in layers]
    return [numbers[int(np.argmax(of_split))] for of_split in values.T]


def _measure_layer(layer, load, rows, cell: Cell, protocol: Protocol) -> list[float]:
    """The mean AUC over the inner folds of each split; −1 where there is none."""
    (states,) = read_cells_of_layer(layer, load(), [rows])
    means = []
    for split in cell.splits:
        train = np.flatnonzero(split.train)
        labels, groups = cell.labels[train], cell.split_groups[train]
        if len(np.unique(groups)) < INNER_FOLDS:  # whole groups are too few to be divided
            groups = np.arange(len(train))
        folds = assign_folds(labels, groups, folds=INNER_FOLDS, seed=protocol.seed)
        values = []
        for fold in range(INNER_FOLDS):
            own, other = train[folds != fold], train[folds == fold]
            if min(len(np.unique(cell.labels[part])) for part in (own, other)) < 2:
                continue
            X_train, X_test = (states[part] for part in (own, other))
            fitter = ProbeFitter(X_train, X_test, protocol, cell.split_groups[own])
            seed = draw_seed(protocol.seed, layer, split.repeat, split.fold, fold)
            scores = fitter.fit(cell.labels[own], seed=seed).scores
            values.append(compute_metrics(cell.labels[other], scores)["auc"][0])
        means.append(float(np.mean(values)) if values else -1.0)
    return means


def apply_probe(
    states: np.ndarray,
    sampled: np.ndarray,
    sampled_questions: np.ndarray,
    cell: Cell,
    split: int,
    layer: int,
    protocol: Protocol,
) -> SplitChoice:
    """Train the probe of a split on greedy answers; score its test questions and their samples.

    states: [examples, features], of the cell's greedy answers. sampled: [sampled states, features],
    of the questions sampled_questions.
    """
    own = cell.splits[split]
    train, test = np.flatnonzero(own.train), np.flatnonzero(own.test)
    of_test = np.flatnonzero(np.isin(sampled_questions, cell.questions[test]))
    X_test = np.concatenate([states[test], sampled[of_test]]).astype(np.float32)
    X_train = states[train].astype(np.float32)
    seed = draw_seed(protocol.seed, layer, own.repeat, own.fold)
    with threadpool_limits(1):  # sums differ with the number of threads
        fitter = ProbeFitter(X_train, X_test, protocol, cell.split_groups[train])
        scores = fitter.fit(cell.labels[train], seed=seed).scores
    return SplitChoice(
        own.repeat, own.fold, layer, cell.questions[test], cell.labels[test], scores[: len(test)],
        of_test, scores[len(test) :], len(train),
    )  # fmt: skip


def choose_answers(samples: pd.DataFrame, logits: np.ndarray | None = None) -> dict[str, float]:
    """How right each strategy's choice among the samples of one question is, from 0 to 1.

    samples: rows of forward/samples.parquet. logits: [samples], of a wrong answer; NaN where there
    is none. By default nothing is chosen by the probe.

    Only valid samples are chosen; without any, every choice is wrong. random: the share of right
    ones. majority: the most frequent exact answer. most_probable: the sample whose tokens have the
    highest probability. probe: the one with the lowest logit. any_right: whether any is right. Of
    equal candidates, the share of right ones.
    """
    valid = samples["valid"].to_numpy(bool)
    right = samples["correct"].to_numpy(float)

    def share(chosen: np.ndarray) -> float:
        return float(right[chosen].mean()) if chosen.any() else 0.0

    def best(values: np.ndarray) -> np.ndarray:
        known = valid & np.isfinite(values)
        return known & (values == values[known].max()) if known.any() else known

    clusters = samples["cluster"].to_numpy()
    sizes = np.array([np.sum(valid & (clusters == own)) for own in clusters], float)
    credits = {
        "random": share(valid),
        # equally frequent answers count alike, whatever the order
        "majority": share(best(sizes)),
        "most_probable": share(best(samples["log_probability"].to_numpy(float))),
        "any_right": float((valid & (right > 0)).any()),
    }
    if logits is not None:
        credits["probe"] = share(best(-logits))
    return credits


def compare_strategies(
    choices: Sequence[SplitChoice],
    answers: pd.DataFrame,
    samples: pd.DataFrame,
    state_of: np.ndarray,
    kinds: pd.DataFrame,
    protocol: Protocol,
) -> pd.DataFrame:
    """The table probe/answer_choice.parquet, with `COLUMNS`.

    choices: of every split. answers: rows of forward/answers.parquet. samples: all rows of
    forward/samples.parquet. state_of: [samples], the row of their sampled state, −1 without one.
    kinds: as from `error_kinds.assign_kinds`.

    metric "accuracy": of each of `STRATEGIES`, over all tested questions (kind "all") and those of
    each kind, with bootstrap intervals over split groups. gain: strategy − greedy; probe_gain:
    probe − strategy, both paired by question. metric "auc": of detecting a wrong greedy answer by
    each of `DETECTORS`, over the folds of the probe, with its intervals. n: questions. samples: of
    a question. layers: those that were chosen, as text.
    """
    answers = answers.set_index("question_id")
    credits = _give_credits(choices, answers, samples, state_of)
    kinds = kinds.set_index("question_id")
    of_kind = kinds.loc[credits.index, "kind"]
    groups = answers.loc[credits.index, "split_group"].to_numpy()
    rows = []
    for kind in (ALL, *KINDS):
        inside = np.ones(len(credits), bool) if kind == ALL else (of_kind == kind).to_numpy()
        if inside.any():
            rows += _accuracies(credits[inside], groups[inside], kind, protocol)
    rows += _detections(choices, answers, kinds, protocol)
    layers = ", ".join(str(layer) for layer in sorted({choice.layer for choice in choices}))
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return table.assign(samples=int(kinds["samples"].max()), layers=layers)


def _give_credits(choices, answers, samples, state_of) -> pd.DataFrame:
    """[questions × strategies]: how right each choice is, averaged over the splits that test it."""
    of_question = {key: np.array(at) for key, at in samples.groupby("question_id").indices.items()}
    found: dict[int, list[dict[str, float]]] = {}
    for choice in choices:
        logit_of_state = dict(zip(choice.states.tolist(), choice.samples.tolist(), strict=True))
        for question in choice.questions:
            if question not in of_question:
                continue
            at = of_question[question]
            logits = np.array([logit_of_state.get(int(state), np.nan) for state in state_of[at]])
            credits = choose_answers(samples.iloc[at], logits)
            credits["greedy"] = float(answers.at[question, "correct"])
            found.setdefault(int(question), []).append(credits)
    means = {question: pd.DataFrame(own).mean() for question, own in sorted(found.items())}
    return pd.DataFrame(means).T[[*STRATEGIES]]


def _accuracies(credits: pd.DataFrame, groups: np.ndarray, kind: str, protocol: Protocol):
    weights = draw_resamples(groups, DRAWS, protocol.seed)
    means = {name: weights @ credits[name].to_numpy() / weights.sum(axis=1) for name in STRATEGIES}
    for name, values in means.items():
        yield {
            "metric": "accuracy",
            "kind": kind,
            "strategy": name,
            "n": len(credits),
            **_ends("", compute_bootstrap_interval(values)),
            **_ends("gain", compute_bootstrap_interval(values - means["greedy"])),
            **_ends("probe_gain", compute_bootstrap_interval(means["probe"] - values)),
        }


def _detections(
    choices: Sequence[SplitChoice], answers: pd.DataFrame, kinds: pd.DataFrame, protocol: Protocol
):
    over_folds = protocol.split in CROSS_VALIDATIONS
    known = {name: _read_detector(name, answers, kinds) for name in DETECTORS if name != "probe"}
    values: dict[str, list[np.ndarray]] = {name: [] for name in DETECTORS}
    sizes = []
    tested: set[int] = set()
    for choice in choices:
        inside = np.isin(choice.questions, kinds.index)
        questions, labels = choice.questions[inside], choice.labels[inside]
        if len(np.unique(labels)) < 2:
            continue
        tested |= set(questions.tolist())
        weights = np.ones((1, len(questions)))
        if not over_folds:
            groups = answers.loc[questions, "split_group"].to_numpy()
            weights = draw_resamples(groups, DRAWS, protocol.seed)
        sizes.append((choice.n_train, len(questions)))
        for name in DETECTORS:
            scores = choice.greedy[inside] if name == "probe" else known[name].loc[questions]
            if np.isfinite(scores).all():
                values[name].append(compute_auc(labels, np.asarray(scores, float), weights))

    def interval(folds: np.ndarray) -> tuple[float, float, float]:
        if over_folds:
            return compute_fold_interval(folds, *np.mean(sizes, axis=0))
        return compute_bootstrap_interval(folds)

    for name, folds in values.items():
        if len(folds) < len(sizes) or not folds:
            continue
        own, probe = np.concatenate(folds), np.concatenate(values["probe"])
        mean, low, high = interval(own)
        yield {
            "metric": "auc",
            "kind": ALL,
            "strategy": name,
            "n": len(tested),
            **_ends("", (mean, max(low, 0.0), min(high, 1.0))),
            **_ends("probe_gain", interval(probe - own)),
        }


def _read_detector(name: str, answers: pd.DataFrame, kinds: pd.DataFrame) -> pd.Series:
    """By question, higher for answers that are likelier to be wrong; the median where unknown."""
    unknown = pd.Series(np.nan, answers.index)
    values = kinds[name] if name in kinds else -answers.get(name, unknown)
    return values.fillna(values.median())


def _ends(name: str, values: tuple[float, float, float]) -> Mapping[str, float]:
    names = [name, f"{name}_low", f"{name}_high"] if name else ["mean", "ci_low", "ci_high"]
    return dict(zip(names, values, strict=True))
