"""Linear probes that detect wrong answers, fitted on some questions and scored on others.

The probe is L2-regularised logistic regression, the label 1 for a wrong answer. `newton` fits it to
convergence (see `newton`); `lbfgs` is sklearn's LogisticRegression with its default 100 iterations,
to compare with the published one.
"""

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import Cell, assign_folds
from llm_figures.probe.classification_metrics import metrics
from llm_figures.probe.newton import BLOCK, NewtonSolver

# A group with fewer training examples than this is shuffled together with the other small ones: in
# a group of one, a shuffled label is the true one, and the control would be the probe itself.
SMALLEST_GROUP = 20
# Fewer tested answers of either label than this give no score where there is a single split.
FEWEST_TESTED = 4
# What `C: cv` chooses from, times 1 / hidden size, by AUC in this many folds of the training fold.
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
INNER_FOLDS = 3
# How many tasks a process is given at least, so that none is idle for long at the end.
TASKS_OF_A_PROCESS = 3
# Of a row of scores.
COLUMNS = (
    "question_id", "score", "layer", "token", "control", "repeat", "fold", "n_train", "converged",
    "C",
)  # fmt: skip


def standardise(taught: np.ndarray, tested: np.ndarray) -> None:
    """Give the features of `taught` mean 0 and deviation 1, and those of `tested` the same change.

    taught, tested: [examples, features], float32, changed in place.

    A feature that does not vary in training beyond float32's precision carries nothing and is 0:
    dividing by its rounding error would make a signal of noise.
    """
    count = np.float32(len(taught))
    # What rounding leaves of the mean is found and taken off in the second turn.
    mean = np.full(len(taught), 1 / count) @ taught
    sums, squares = np.zeros(len(mean)), np.zeros(len(mean))
    for start in range(0, len(taught), BLOCK):
        rows = taught[start : start + BLOCK]
        rows -= mean
        sums += rows.sum(axis=0)
        squares += np.square(rows).sum(axis=0)
    rest = sums / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(rest), 0))
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0).astype(np.float32)
    rest = rest.astype(np.float32)
    for start in range(0, len(taught), BLOCK):
        rows = taught[start : start + BLOCK]
        rows -= rest
        rows *= scale
    tested -= mean
    tested -= rest
    tested *= scale


@dataclass(frozen=True)
class Fitted:
    """scores: [test], the logit of a wrong answer. C: the penalty that was used."""

    scores: np.ndarray
    converged: bool
    C: float


class Learner:
    """Training and test examples of one split of a cell, ready to be fitted to several labels.

    taught, tested: [examples, features], float32, and the learner's own: they are changed in place.
    twins: [taught], for `C: cv`.
    """

    def __init__(
        self, taught: np.ndarray, tested: np.ndarray, protocol: Mapping, twins: np.ndarray
    ):
        self._protocol, self._twins = protocol, twins
        # Folds inside the training examples are standardised for themselves.
        self._as_they_are = taught.copy() if protocol["C"] == "cv" else None
        # Identical inputs must score exactly equal: matrix products differ in the last bits from
        # row to row, and a ranking metric would rank that noise. So each distinct row is scored
        # once.
        first, self._same = _distinct(tested)
        tested = tested if len(first) == len(tested) else tested[first]
        if protocol["standardise"]:
            standardise(taught, tested)
        self._taught, self._tested = taught, tested
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
            self._solvers[C] = NewtonSolver.of(self._taught, C)
        fit = self._solvers[C].fit(labels, weights)
        return self._tested @ fit.weights + fit.intercept, fit.converged

    def _lbfgs(self, labels, C):
        from sklearn.linear_model import LogisticRegression

        balanced = self._protocol["class_weight"] == "balanced"
        regression = LogisticRegression(
            C=C,
            class_weight="balanced" if balanced else None,
            random_state=self._protocol["seed"],
        )
        regression.fit(self._taught, labels)
        scores = regression.decision_function(self._tested)
        return scores, bool((regression.n_iter_ < regression.max_iter).all())

    def _penalty(self, labels: np.ndarray) -> float:
        """The protocol's C; `cv` looks at the training examples alone."""
        C = self._protocol["C"]
        unit = 1 / self._taught.shape[1]
        if C == "auto":
            return unit
        if C != "cv":
            return float(C)
        states, twins = self._as_they_are, self._twins
        folds = assign_folds(labels, twins, folds=INNER_FOLDS, seed=self._protocol["seed"])
        inner = dict(self._protocol) | {"C": "auto"}  # each fit is told which
        learners = [
            (
                folds != fold,
                Learner(states[folds != fold], states[folds == fold], inner, twins[folds != fold]),
            )
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


def probe_cell(states: np.ndarray, cell: Cell, layer: int, protocol: Mapping) -> pd.DataFrame:
    """Fit the probe and its controls in one cell.

    states: [examples, features], of `cell`.

    Returns a row per tested answer of every split and control: question_id, score (logit of a wrong
    answer), layer, token, control ("none" for the probe itself), repeat, fold, n_train, converged,
    C. Of "shuffled_labels" the training labels are permuted, of "shuffled_within_group" each
    group's among themselves (groups of less than `SMALLEST_GROUP` training examples as one). Splits
    without both labels on both sides are left out, and a single split with fewer than
    `FEWEST_TESTED` tested of either; all of them where there are fewer than `FEWEST_OF_A_LABEL`
    answers of either label.
    """
    return _frame(_fits(states, np.arange(len(cell.labels)), cell, layer, protocol))


def _fits(
    states: np.ndarray, at: np.ndarray, cell: Cell, layer: int, protocol: Mapping
) -> Iterator[dict[str, np.ndarray]]:
    """`probe_cell`'s columns, fit by fit. at: [examples], which rows of states are the cell's."""
    for split in cell.splits if cell.enough else []:
        train, test = np.flatnonzero(split.train), np.flatnonzero(split.test)
        fewest = 1 if protocol["split"] == "folds" else FEWEST_TESTED
        if (
            min(np.bincount(cell.labels[side], minlength=2).min() for side in (train, test))
            < fewest
        ):
            continue
        taught, tested = (states[at[side]].astype(np.float32, copy=False) for side in (train, test))
        learner = Learner(taught, tested, protocol, cell.twins[train])
        for control in ("none", *protocol["controls"]):
            # The shuffle is a cell's own, whatever job or thread it is fitted in.
            place = [layer, split.repeat, split.fold, zlib.crc32(f"{cell.token}{control}".encode())]
            random = np.random.default_rng([protocol["seed"], *place])
            labels = cell.labels[train]
            if control == "shuffled_labels":
                labels = random.permutation(labels)
            elif control == "shuffled_within_group":
                labels = _shuffled_within(labels, cell.groups[train], random)
            fitted = learner.fit(labels)
            same = {
                "layer": np.int16(layer),
                "token": cell.token,
                "control": control,
                "repeat": np.int16(split.repeat),
                "fold": np.int16(split.fold),
                "n_train": np.int32(len(train)),
                "converged": fitted.converged,
                "C": np.float32(fitted.C),
            }
            yield {
                "question_id": cell.questions[test],
                "score": fitted.scores.astype(np.float32),
                **{name: np.full(len(test), value) for name, value in same.items()},
            }


def _frame(fits: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
    """One frame of all fits: to make a frame of each takes longer than some fits."""
    found = list(fits)
    return pd.DataFrame(
        {name: np.concatenate([fit[name] for fit in found]) for name in found[0]}
        if found
        else {name: [] for name in COLUMNS}
    )


def probe_layers(
    layers: Sequence[tuple[int, Callable[[], np.ndarray]]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    protocol: Mapping,
    jobs: int,
) -> Iterator[pd.DataFrame]:
    """`probe_cell` for every named token of every layer, one frame per layer, in their order.

    layers: (layer, what returns its states [rows, features]), called by the process that fits them,
    which spares one that reads and hands out. rows: for each cell, which rows of states are its
    examples. jobs: processes that fit side by side, each on one core and with one layer in memory:
    threads would wait for one another between the small steps of a fit.

    Raises:
        UserError: states that are not finite numbers.
    """
    # A layer is one task, or more where there are too few layers to keep every process busy.
    parts = min(len(cells), -(-TASKS_OF_A_PROCESS * jobs // max(1, len(layers)))) if jobs > 1 else 1
    shares = np.array_split(np.arange(len(cells)), parts)
    examples = [[(cells[index], rows[index]) for index in share] for share in shares]
    tasks = (
        delayed(_probe_layer)(layer, states, some, protocol)
        for layer, states in layers
        for some in examples
    )
    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        found = Parallel(jobs, return_as="generator", batch_size=1, max_nbytes=None)(tasks)
        while fits := list(islice(found, len(shares))):
            # Of a layer in parts the same frame as of a whole one, to the layout in memory, on
            # which a file's bytes depend.
            yield _frame(fit for share in fits for fit in share)


def _probe_layer(layer, states, examples, protocol) -> list[dict[str, np.ndarray]]:
    values = states()
    _check_finite(layer, values)
    with warnings.catch_warnings(action="ignore"):  # what has not converged is counted instead
        return [fit for cell, at in examples for fit in _fits(values, at, cell, layer, protocol)]


def _check_finite(layer: int, states: np.ndarray) -> None:
    # A sum is finite only if all in it are, and takes half as long to look at.
    if np.isfinite(states @ np.ones(states.shape[1], states.dtype)).all():
        return
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        raise UserError(
            f"hidden states of layer {layer} hold values that are not finite, the first in row "
            f"{int(np.argmin(finite)) + 1} of its file, counted through all shards; extract them "
            "again with dtype: float32"
        )


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


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows to keep for each to stand once, and for every row which of these it is."""
    # Rows that differ do so in their first features, as a rule.
    for width in (4, rows.shape[1]):
        some = np.ascontiguousarray(rows[:, :width])
        as_bytes = some.view(np.dtype((np.void, some.dtype.itemsize * some.shape[1])))[:, 0]
        _, first, same = np.unique(as_bytes, return_index=True, return_inverse=True)
        if len(first) == len(rows):
            return np.arange(len(rows)), np.arange(len(rows))
    return first, same
