"""Linear probes that detect wrong answers, fitted on some questions and scored on others.

The probe is L2-regularised logistic regression, the label 1 for a wrong answer. `newton` fits it to
convergence (see `newton`); `lbfgs` is sklearn's LogisticRegression with its default 100 iterations,
to compare with the published one.
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.errors import UserError
from llm_figures.labels import FEWEST_OF_A_LABEL
from llm_figures.metrics import metrics
from llm_figures.newton import NewtonSolver

# A group with fewer training examples than this is shuffled together with the other small ones: in
# a group of one, a shuffled label is the true one, and the control would be the probe itself.
SMALLEST_GROUP = 20
# Fewer tested answers of either label than this give no score where there is a single split.
FEWEST_TESTED = 4
# What `C: cv` chooses from, times 1 / hidden size, by AUC in this many folds of the training fold.
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
INNER_FOLDS = 3


@dataclass(frozen=True)
class Split:
    """One division of the questions; train, test: [questions], True for those inside."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


def splits(
    labels: np.ndarray, twins: Sequence[int], held_out: np.ndarray, protocol: Mapping
) -> list[Split]:
    """The divisions of a protocol's `split`.

    twins: [questions], equal for questions that are the same but for spelling. held_out:
    [questions], True for those of the hold-out file.

    Twins always stand on one side. folds: labels are balanced over the folds. single: a random
    fifth of the questions is tested, without regard to labels, as published. hold_out: the held-out
    questions are tested.
    """
    seed = protocol["seed"]
    match protocol["split"]:
        case "hold_out":
            return [Split(0, 0, ~held_out, held_out)]
        case "single":
            from sklearn.model_selection import train_test_split

            _, tested = train_test_split(np.unique(twins), test_size=0.2, random_state=seed)
            test = np.isin(twins, tested)
            return [Split(0, 0, ~test, test)]
    found = []
    for repeat in range(protocol["repeats"]):
        folds = assign_folds(labels, twins, folds=protocol["folds"], seed=seed + repeat)
        found += [Split(repeat, fold, folds != fold, folds == fold) for fold in np.unique(folds)]
    return found


def assign_folds(labels: np.ndarray, twins: Sequence[int], *, folds: int, seed: int) -> np.ndarray:
    """[examples]: the fold in which each example is tested; twins share one."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    assigned = np.empty(len(labels), dtype=np.int64)
    for fold, (_, test) in enumerate(splitter.split(labels, labels, twins)):
        assigned[test] = fold
    return assigned


def standardised(states: np.ndarray, train: np.ndarray) -> np.ndarray:
    """`states` [examples, hidden] with the training rows' mean 0 and deviation 1, in float32.

    A feature that does not vary in training beyond float32's precision carries nothing and is 0:
    dividing by its rounding error would make a signal of noise.
    """
    taught = states[train].astype(np.float64)
    mean, deviation = taught.mean(axis=0), taught.std(axis=0)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    # The mean goes first, in double precision where it is large beside the deviation.
    rows = states - mean
    rows *= scale
    return rows.astype(np.float32)


@dataclass(frozen=True)
class Fitted:
    """scores: [test], the logit of a wrong answer. C: the penalty that was used."""

    scores: np.ndarray
    converged: bool
    C: float


class Learner:
    """One cell's training and test examples, ready to be fitted to several labels.

    states: [examples, features]; train, test: [examples]; twins: [examples], for `C: cv`.
    """

    def __init__(
        self,
        states: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        protocol: Mapping,
        twins: np.ndarray,
    ):
        self._protocol, self._train, self._twins = protocol, train, twins
        self._states = states
        rows = (
            standardised(states, train)
            if protocol["standardise"]
            else states.astype(np.float32, copy=False)
        )
        self._train_rows = rows[train]
        # Identical inputs must score exactly equal: matrix products differ in the last bits from
        # row to row, and a ranking metric would rank that noise. So each distinct row is scored
        # once.
        _, first, self._same = np.unique(
            _rows_as_bytes(states[test]), return_index=True, return_inverse=True
        )
        self._test_rows = rows[test][first]
        self._solvers: dict[float, NewtonSolver] = {}

    def fit(self, labels: np.ndarray, C: float | None = None) -> Fitted:
        """labels: [train], 0 or 1, both present. C: by default the protocol's."""
        C = self._penalty(labels) if C is None else C
        weights = None
        if self._protocol["class_weight"] == "balanced":
            weights = (len(labels) / (2 * np.bincount(labels)))[labels]
        if self._protocol["solver"] == "lbfgs":
            scores, converged = self._lbfgs(labels, C)
        else:
            scores, converged = self._newton(labels, weights, C)
        return Fitted(scores[self._same], converged, C)

    def _newton(self, labels, weights, C):
        if C not in self._solvers:
            self._solvers[C] = NewtonSolver.of(self._train_rows, C)
        fit = self._solvers[C].fit(labels, weights)
        return self._test_rows @ fit.weights + fit.intercept, fit.converged

    def _lbfgs(self, labels, C):
        from sklearn.linear_model import LogisticRegression

        balanced = self._protocol["class_weight"] == "balanced"
        regression = LogisticRegression(
            C=C,
            class_weight="balanced" if balanced else None,
            random_state=self._protocol["seed"],
        )
        regression.fit(self._train_rows, labels)
        scores = regression.decision_function(self._test_rows)
        return scores, bool((regression.n_iter_ < regression.max_iter).all())

    def _penalty(self, labels: np.ndarray) -> float:
        """The protocol's C; `cv` looks at the training examples alone."""
        C = self._protocol["C"]
        unit = 1 / self._states.shape[1]
        if C == "auto":
            return unit
        if C != "cv":
            return float(C)
        states, twins = self._states[self._train], self._twins[self._train]
        folds = assign_folds(labels, twins, folds=INNER_FOLDS, seed=self._protocol["seed"])
        learners = [
            (folds != fold, Learner(states, folds != fold, folds == fold, self._protocol, twins))
            for fold in range(INNER_FOLDS)
            if len(np.unique(labels[folds != fold])) == 2 == len(np.unique(labels[folds == fold]))
        ]

        def score(choice: float) -> float:
            values = [
                metrics(labels[~train], learner.fit(labels[train], choice).scores)["auc"][0]
                for train, learner in learners
            ]
            return float(np.mean(values)) if values else 0.0

        return max((unit * choice for choice in C_GRID), key=score)


@dataclass(frozen=True)
class Cell:
    """The examples of one named token: what is the same in every layer.

    questions, labels, groups, twins: [examples]; questions are ids in ascending order, labels 1 for
    a wrong answer, groups numbers.
    splits: with masks [examples].
    """

    token: str
    questions: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    twins: np.ndarray
    splits: list[Split]

    @property
    def enough(self) -> bool:
        """Whether there are answers enough of either label for a score."""
        return bool(np.bincount(self.labels, minlength=2).min() >= FEWEST_OF_A_LABEL)


def probe_cell(
    states: np.ndarray, cell: Cell, layer: int, protocol: Mapping
) -> Iterator[pd.DataFrame]:
    """Fit the probe and its controls in one cell, one frame per split and control.

    states: [examples, features].

    Columns: question_id, score (logit of a wrong answer), layer, token, control ("none" for the
    probe itself), repeat, fold, n_train, converged, C. Of "shuffled_labels" the training labels are
    permuted, of "shuffled_within_group" each group's among themselves (groups of less than
    `SMALLEST_GROUP` training examples as one). Splits without both labels on both sides are left
    out, and a single split with fewer than `FEWEST_TESTED` tested of either; all of them where
    there are fewer than `FEWEST_OF_A_LABEL` answers of either label.
    """
    for split in cell.splits if cell.enough else []:
        train, test = split.train, split.test
        fewest = 1 if protocol["split"] == "folds" else FEWEST_TESTED
        counts = [np.bincount(cell.labels[side], minlength=2).min() for side in (train, test)]
        if min(counts) < fewest:
            continue
        learner = Learner(states, train, test, protocol, cell.twins)
        for control in ("none", *protocol["controls"]):
            # The shuffle is a cell's own, whatever job or thread it is fitted in.
            place = [layer, split.repeat, split.fold, zlib.crc32(f"{cell.token}{control}".encode())]
            random = np.random.default_rng([protocol["seed"], *place])
            taught = cell.labels[train]
            if control == "shuffled_labels":
                taught = random.permutation(taught)
            elif control == "shuffled_within_group":
                taught = _shuffled_within(taught, cell.groups[train], random)
            fitted = learner.fit(taught)
            yield pd.DataFrame(
                {
                    "question_id": cell.questions[test],
                    "score": fitted.scores.astype(np.float32),
                    "layer": np.int16(layer),
                    "token": cell.token,
                    "control": control,
                    "repeat": np.int16(split.repeat),
                    "fold": np.int16(split.fold),
                    "n_train": np.int32(train.sum()),
                    "converged": fitted.converged,
                    "C": np.float32(fitted.C),
                }
            )


def probe_layers(
    layers: Iterable[tuple[int, np.ndarray]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    protocol: Mapping,
    jobs: int,
) -> Iterator[list[pd.DataFrame]]:
    """`probe_cell` for every named token of every layer, in their order, one list per cell.

    layers: (layer, states [rows, features]), taken as they are needed, so that about one layer is
    held at a time. rows: for each cell, which rows of states are its examples. jobs: processes
    that fit side by side, each on one core: threads would wait for one another between the small
    steps of a fit.

    Raises:
        UserError: states that are not finite numbers.
    """

    def tasks():
        for layer, states in layers:
            _check_finite(layer, states)
            for cell, at in zip(cells, rows, strict=True):
                yield delayed(_probe_cell)(states[at], cell, layer, protocol)

    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(jobs, return_as="generator", batch_size=1, max_nbytes=None)(tasks())


def _probe_cell(states, cell, layer, protocol) -> list[pd.DataFrame]:
    with warnings.catch_warnings(action="ignore"):  # what has not converged is counted instead
        return list(probe_cell(states, cell, layer, protocol))


def _check_finite(layer: int, states: np.ndarray) -> None:
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        raise UserError(
            f"hidden states of layer {layer} hold values that are not finite, the first in row "
            f"{int(np.argmin(finite)) + 1} of the rows sorted by question and token; extract them "
            "again with dtype: float32"
        )


def make_cells(
    keys: pd.DataFrame, answers: pd.DataFrame, tokens: Sequence[str], protocol: Mapping
) -> tuple[list[Cell], list[np.ndarray]]:
    """The cells of every layer, one per named token, and which rows of `keys` each rests on.

    keys: question_id and token of every row of states. answers: the rows of forward/answers.parquet
    with a valid exact answer.
    """
    answers = answers.sort_values("question_id", ignore_index=True)
    labels = 1 - answers["correct"].to_numpy(int)  # a wrong answer is what the probe detects
    twins = answers["twin"].to_numpy()
    groups = pd.factorize(answers["group"].fillna(""))[0]
    divisions = splits(labels, twins, answers["hold_out"].to_numpy(bool), protocol)
    at = pd.Series(np.arange(len(answers)), index=answers["question_id"])
    wanted = keys[keys["token"].isin(tokens)]
    if protocol["short_answers"] == "complete":
        has = wanted.groupby("question_id")["token"].nunique()
        wanted = wanted[wanted["question_id"].map(has) == len(tokens)]
    cells, rows = [], []
    for token in tokens:
        cell = wanted[wanted["token"] == token].sort_values("question_id")
        inside = at[cell["question_id"]].to_numpy()
        cells.append(
            Cell(
                token=token,
                questions=cell["question_id"].to_numpy(np.int32),
                labels=labels[inside],
                groups=groups[inside],
                twins=twins[inside],
                splits=[
                    replace(split, train=split.train[inside], test=split.test[inside])
                    for split in divisions
                ],
            )
        )
        rows.append(cell.index.to_numpy())
    return cells, rows


def _shuffled_within(
    labels: np.ndarray, groups: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    groups = np.where(counts[which] < SMALLEST_GROUP, -1, which)
    shuffled = labels.copy()
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        shuffled[inside] = random.permutation(labels[inside])
    return shuffled


def _rows_as_bytes(states: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(states)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
