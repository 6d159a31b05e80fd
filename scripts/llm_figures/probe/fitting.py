"""Probes that detect wrong answers, trained on some questions and tested on others.

By default the probe is L2-regularised logistic regression with label 1 for a wrong answer. The
solver `newton` fits it to convergence (see `newton`). `lbfgs` is scikit-learn's LogisticRegression
with its default of 100 iterations, for comparison with the published probe. Other kinds of probe
are in `kinds`.
"""

import math
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from scipy.linalg.lapack import sposv
from threadpoolctl import threadpool_limits

from llm_figures.probe.cells import Cell, Split, assign_folds
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.kinds import fit_kind
from llm_figures.probe.newton import BLOCK, LogisticSolver, Primal
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol
from llm_figures.probe.selection import find_penalty, score_inner_folds
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer

# A single split with fewer test answers of either label gives no score.
FEWEST_TEST_ANSWERS = 4
# What `C: cv` chooses from, times 1 / hidden size, by AUC over so many folds of the training set.
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
INNER_FOLDS = 3
# A feature that varies less, in units of its mean, varies no more than single precision rounds.
CONSTANT = 1e-6
# Deviations of a training set, in units of the cell's, up to which, or down to one over which, its
# fits are solved together with the others; and how many at once.
UNLIKE = 2.0
TOGETHER = 60
# The least number of tasks per process, so that none is idle for long at the end.
TASKS_PER_PROCESS = 3
# Columns of predictions.
COLUMNS = (
    "question_id", "score", "layer", "token", "control", "repeat", "fold", "n_train", "converged",
    "C", "inner_auc",
)  # fmt: skip


class Scaler(NamedTuple):
    """A state x becomes (x − mean) / scale; both [features], float64.

    A feature that does not vary in training has scale 1. The pipeline makes it 0, and its weight is
    0.
    """

    mean: np.ndarray
    scale: np.ndarray


def standardise(X_train: np.ndarray, X_test: np.ndarray | None = None) -> Scaler:
    """Scale features to mean 0 and deviation 1 on the training set, in place.

    X_train, X_test: [examples, features], float32.

    A feature that varies no more than float32's precision becomes 0: divided by its rounding error,
    it would turn noise into a signal.

    Returns what it did.
    """
    count = np.float32(len(X_train))
    # The rounding error of this mean is subtracted in the second pass.
    mean = np.full(len(X_train), 1 / count) @ X_train
    sums, squares = np.zeros(len(mean)), np.zeros(len(mean))
    for start in range(0, len(X_train), BLOCK):
        rows = X_train[start : start + BLOCK]
        rows -= mean
        sums += rows.sum(axis=0)
        squares += np.square(rows).sum(axis=0)
    rest = sums / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(rest), 0))
    varies = deviation > CONSTANT * np.maximum(np.abs(mean), 1e-30)
    deviation = np.where(varies, deviation, 1.0)
    scaler = Scaler(mean + rest, deviation)
    scale = np.where(varies, 1 / deviation, 0.0).astype(np.float32)
    rest = rest.astype(np.float32)
    for start in range(0, len(X_train), BLOCK):
        rows = X_train[start : start + BLOCK]
        rows -= rest
        rows *= scale
    if X_test is not None:
        X_test -= mean
        X_test -= rest
        X_test *= scale
    return scaler


@dataclass(frozen=True)
class ProbeFit:
    """scores: [test], above 0 for a wrong answer; of logistic regression, its logit.

    C: the inverse penalty of the fit; NaN for a kind of probe without one. weights, intercept: of
    the features as they were fitted, standardised or raw; None for a probe that is not linear.
    """

    scores: np.ndarray
    converged: bool
    C: float
    weights: np.ndarray | None
    intercept: float | None


class ProbeFitter:
    """Training and test set of one split of a cell, to be fitted to several labels.

    X_train, X_test: [examples, features], float32; they are changed in place. split_groups:
    [train], for `C: cv`.

    scaler: how features were standardised; None for raw ones.
    """

    def __init__(
        self,
        X_train: np.ndarray,
        X_test: np.ndarray,
        protocol: Protocol,
        split_groups: np.ndarray,
    ):
        self._protocol, self._split_groups = protocol, split_groups
        # Inner folds are standardised by their own training set.
        self._raw_train = X_train.copy() if protocol.C == "cv" else None
        # Identical inputs must get equal scores. Matrix products differ in the last bits from row
        # to row, and a ranking metric would rank that noise. So each distinct row is scored once.
        first, self._distinct_of_row = find_distinct_rows(X_test)
        X_test = X_test if len(first) == len(X_test) else X_test[first]
        self.scaler: Scaler | None = None
        if protocol.standardise:
            self.scaler = standardise(X_train, X_test)
            # Equal now, too, are rows that differ only in features which do not vary in training,
            # such as groups of which all questions are tested.
            first, distinct_of_row = find_distinct_rows(X_test)
            if len(first) < len(X_test):
                X_test = X_test[first]
                self._distinct_of_row = distinct_of_row[self._distinct_of_row]
        self._X_train, self._X_test = X_train, X_test
        self._solver: LogisticSolver | None = None

    def fit(self, labels: np.ndarray, C: float | None = None, seed: int | None = None) -> ProbeFit:
        """labels: [train], 0 or 1, both present. C: by default the protocol's.

        seed: of a kind of probe with randomness; by default the protocol's. Such kinds count as
        converged.
        """
        if self._protocol.kind != "logistic":
            seed = self._protocol.seed if seed is None else seed
            found = fit_kind(self._protocol.kind, self._X_train, labels, seed)
            scores = found.score(self._X_test)[self._distinct_of_row]
            return ProbeFit(scores, True, math.nan, found.weights, found.intercept)
        C = self._choose_penalty(labels) if C is None else C
        solve = self._fit_lbfgs if self._protocol.solver == "lbfgs" else self._fit_newton
        scores, weights, intercept, converged = solve(labels, C)
        return ProbeFit(scores[self._distinct_of_row], converged, C, weights, intercept)

    def score_first_steps(self, labels: np.ndarray) -> np.ndarray:
        """[test, columns]: scores after the first Newton step from zero, but for a constant.

        labels: [train, columns], one fit for each column, which all share one factor. It is the
        ridge regression of `selection`; features must be standardised.
        """
        X = self._X_train
        residuals = (labels - labels.mean(axis=0)).astype(np.float32)
        penalty = np.float32(find_penalty(X.shape[1]))
        if len(X) < X.shape[1]:
            weights = X.T @ _solve_ridge(X @ X.T, penalty, residuals)
        else:
            weights = _solve_ridge(X.T @ X, penalty, X.T @ residuals)
        return (self._X_test @ weights)[self._distinct_of_row]

    def _fit_newton(
        self, labels: np.ndarray, C: float
    ) -> tuple[np.ndarray, np.ndarray, float, bool]:
        """Scores, weights, intercept, and whether the fit converged."""
        if self._solver is None:
            X, features = self._X_train, ()
            if not self._protocol.standardise:
                X = X.copy()
                scaler = standardise(X)
                features = (scaler.scale[None], scaler.mean[None])
            self._solver = LogisticSolver.of(X, find_distinct_rows(X))
            self._features = features
        weights = weigh_examples(labels, self._protocol)
        fits = self._solver.fit(labels[None], weights[None], C, *self._features)
        weights, intercept = fits.weights[0], float(fits.intercepts[0])
        return self._X_test @ weights + intercept, weights, intercept, bool(fits.converged[0])

    def _fit_lbfgs(
        self, labels: np.ndarray, C: float
    ) -> tuple[np.ndarray, np.ndarray, float, bool]:
        from sklearn.linear_model import LogisticRegression

        balanced = self._protocol.class_weight == "balanced"
        regression = LogisticRegression(
            C=C,
            class_weight="balanced" if balanced else None,
            random_state=self._protocol.seed,
        )
        regression.fit(self._X_train, labels)
        scores = regression.decision_function(self._X_test)
        converged = bool((regression.n_iter_ < regression.max_iter).all())
        return scores, regression.coef_[0], float(regression.intercept_[0]), converged

    def _choose_penalty(self, labels: np.ndarray) -> float:
        """The protocol's C; `cv` chooses it within the training set."""
        C = self._protocol.C
        unit = 1 / self._X_train.shape[1]
        if C == "auto":
            return unit
        if C != "cv":
            return float(C)
        X, groups = self._raw_train, self._split_groups
        if len(np.unique(groups)) < INNER_FOLDS:
            return unit
        folds = assign_folds(labels, groups, folds=INNER_FOLDS, seed=self._protocol.seed)
        inner = self._protocol.changed(C="auto")  # `fit` is given each C of the grid
        fitters = [
            (
                folds != fold,
                ProbeFitter(X[folds != fold], X[folds == fold], inner, groups[folds != fold]),
            )
            for fold in range(INNER_FOLDS)
            if len(np.unique(labels[folds != fold])) == 2 == len(np.unique(labels[folds == fold]))
        ]

        def mean_auc(C: float) -> float:
            values = [
                compute_metrics(labels[~train], fitter.fit(labels[train], C).scores)["auc"][0]
                for train, fitter in fitters
            ]
            return float(np.mean(values))

        if not fitters:  # every fold of one label
            return unit
        return max((unit * factor for factor in C_GRID), key=mean_auc)


def _solve_ridge(system: np.ndarray, penalty: np.float32, right: np.ndarray) -> np.ndarray:
    """(system + penalty · I)⁻¹ right; system: positive semidefinite, changed in place."""
    system.flat[:: len(system) + 1] += penalty
    _, solved, failed = sposv(system.T, right, lower=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError(f"leading minor {failed} is not positive")
    return solved


def draw_seed(*key: int) -> int:
    """The seed of one fit. key: the protocol's seed and what identifies the fit."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def weigh_examples(labels: np.ndarray, protocol: Protocol) -> np.ndarray:
    """[train]: the weight of each example in the loss."""
    if protocol.class_weight == "balanced":
        return weigh_classes(labels)[labels]
    return np.ones(len(labels))


def weigh_classes(labels: np.ndarray) -> np.ndarray:
    """[2]: the weights of both labels with which each counts half."""
    return len(labels) / (2 * np.bincount(labels, minlength=2))


def probe_cell(states: np.ndarray, cell: Cell, layer: int, protocol: Protocol) -> pd.DataFrame:
    """Fit the probe and its controls in one cell.

    states: [examples, features], of `cell`.

    Returns one row per test answer of every split and control: question_id, score (above 0 for a
    wrong answer), layer, token, control ("none" for the probe itself), repeat, fold, n_train,
    converged, C, inner_auc (NaN; `probe_layers` has it). "shuffled_labels" permutes the training
    labels, "shuffled_within_group" permutes them within each of the cell's large groups, and those
    of all other groups together; without any large group it is not fitted.

    A split without both labels in both sets is left out, and so is a single split with fewer than
    `FEWEST_TEST_ANSWERS` test answers of either. There are no rows for a cell with fewer than
    `FEWEST_OF_A_LABEL` answers of either label.
    """
    return _make_frame(_fit_splits(states, np.arange(len(cell.labels)), cell, layer, protocol))


@dataclass(frozen=True)
class Task:
    """A fit of a cell. labels: [train]. key: what identifies the fit, and so all that is random."""

    split: Split
    control: str
    labels: np.ndarray
    key: tuple[int, ...]


def list_tasks(cell: Cell, layer: int, protocol: Protocol) -> list[Task]:
    """The fits of `probe_cell`, split by split."""
    fewest = 1 if protocol.split in CROSS_VALIDATIONS else FEWEST_TEST_ANSWERS
    tasks = []
    for split in cell.splits if cell.enough_answers else []:
        labels = cell.labels[split.train]
        counts = [np.bincount(part, minlength=2) for part in (labels, cell.labels[split.test])]
        if min(count.min() for count in counts) < fewest:
            continue
        for control in ("none", *protocol.controls):
            # A shuffle depends on its cell alone, not on the job or process that fits it.
            place = zlib.crc32(f"{cell.token}{control}".encode())
            key = (protocol.seed, layer, split.repeat, split.fold, place)
            own = labels
            if control == "shuffled_within_group" and not len(cell.large_groups):
                continue
            if control == "shuffled_labels":
                own = np.random.default_rng(key).permutation(labels)
            elif control == "shuffled_within_group":
                groups = cell.groups[split.train]
                random = np.random.default_rng(key)
                own = _shuffle_within_groups(labels, groups, cell.large_groups, random)
            tasks.append(Task(split, control, own, key))
    return tasks


def _fit_splits(
    states: np.ndarray,
    rows: np.ndarray,
    cell: Cell,
    layer: int,
    protocol: Protocol,
    select: bool = False,
) -> Iterator[dict[str, Any]]:
    """The columns of `probe_cell`, fit by fit; one value where all rows of a fit have the same.

    rows: [examples], the cell's rows of states. select: whether to compute inner_auc, by which
    nested selection compares cells (see `selection`).
    """
    tasks = list_tasks(cell, layer, protocol)
    if not tasks:
        return
    X = states[rows].astype(np.float32, copy=False)
    together = protocol.kind == "logistic" and protocol.solver == "newton" and protocol.C != "cv"
    scaler = standardise(X) if together else None
    distinct = find_distinct_rows(X)
    solver = LogisticSolver.of(X, distinct) if together else None
    inner_aucs: dict[tuple[int, int], float] = {}
    if select:
        # of products that the fits need, too
        gram = solver.gram if isinstance(solver, Primal) and len(distinct[0]) == len(X) else None
        own = X if gram is not None else X.copy()
        values = score_inner_folds(own, distinct, cell.labels, cell.splits, gram)
        splits = [(split.repeat, split.fold) for split in cell.splits]
        inner_aucs = dict(zip(splits, values.tolist(), strict=True))
    if together:
        features = _find_features(X, scaler, tasks, protocol)
        fits: list[ProbeFit | None] = [None] * len(tasks)
        apart = np.flatnonzero(features.apart)
        if len(apart):
            raw = states[rows].astype(np.float32, copy=False)
            own = [tasks[at] for at in apart]
            for at, fit in zip(apart, _fit_apart(raw, cell, own, protocol), strict=True):
                fits[at] = fit
        near = np.flatnonzero(~features.apart)
        for start in range(0, len(near), TOGETHER):
            ats = near[start : start + TOGETHER]
            own = [tasks[at] for at in ats]
            part = features.take(ats)
            found = _fit_together(solver, X, part, distinct, own, protocol)
            for at, fit in zip(ats, found, strict=True):
                fits[at] = fit
    else:
        fits = _fit_apart(X, cell, tasks, protocol)
    for task, fit in zip(tasks, fits, strict=True):
        split = task.split
        inner_auc = inner_aucs.get((split.repeat, split.fold)) if task.control == "none" else None
        yield {
            "question_id": cell.questions[split.test],
            "score": fit.scores.astype(np.float32),
            "layer": np.int16(layer),
            "token": cell.token,
            "control": task.control,
            "repeat": np.int16(split.repeat),
            "fold": np.int16(split.fold),
            "n_train": np.int32(len(task.labels)),
            "converged": fit.converged,
            "C": np.float32(fit.C),
            "inner_auc": np.float32(np.nan if inner_auc is None else inner_auc),
        }


def _fit_apart(
    X: np.ndarray, cell: Cell, tasks: Sequence[Task], protocol: Protocol
) -> Iterator[ProbeFit]:
    """The fits of each split by themselves. X: [examples, features], float32, of the cell."""
    fitter, fitted = None, None
    for task in tasks:
        split = task.split
        if fitted is not split:
            groups = cell.split_groups[split.train]
            fitter, fitted = ProbeFitter(X[split.train], X[split.test], protocol, groups), split
        yield fitter.fit(task.labels, seed=draw_seed(*task.key))


class _Features(NamedTuple):
    """The features of each fit: X · scales + offsets, both [fits, features].

    apart: [fits], whether its training set is so unlike the cell, as where the test set has an
    outlier, that single precision would be lost on the way.
    """

    scales: np.ndarray
    offsets: np.ndarray
    apart: np.ndarray

    def take(self, fits: np.ndarray) -> "_Features":
        return _Features(*(values[fits] for values in self))


def _find_features(
    X: np.ndarray, scaler: Scaler, tasks: Sequence[Task], protocol: Protocol
) -> _Features:
    """X: [examples, features], float32, as `scaler` made them from the cell's states."""
    if not protocol.standardise:
        scales, offsets = (np.tile(values, (len(tasks), 1)) for values in scaler[::-1])
        return _Features(scales, offsets, np.zeros(len(tasks), bool))
    splits = {id(task.split): task.split for task in tasks}
    order = {key: number for number, key in enumerate(splits)}
    of_fit = [order[id(task.split)] for task in tasks]
    trains = np.array([split.train for split in splits.values()])
    means, deviations = measure_features(X, trains, scaler)
    scales = np.divide(1, deviations, out=np.zeros_like(means), where=deviations > 0)
    apart = ((scales > UNLIKE) | ((scales > 0) & (scales < 1 / UNLIKE))).any(axis=1)
    return _Features(scales[of_fit], (-means * scales)[of_fit], apart[of_fit])


def _fit_together(
    solver: LogisticSolver,
    X: np.ndarray,
    features: _Features,
    distinct: tuple[np.ndarray, np.ndarray],
    tasks: Sequence[Task],
    protocol: Protocol,
) -> Iterator[ProbeFit]:
    """Fits of several splits by one solver, made for X.

    X: [examples, features], float32, standardised on all of them. distinct: the first of each set
    of equal rows, and for every row the index of its first.
    """
    C = 1 / X.shape[1] if protocol.C == "auto" else float(protocol.C)
    labels, weights = np.zeros((2, len(tasks), len(X)))
    for number, task in enumerate(tasks):
        labels[number, task.split.train] = task.labels
        weights[number, task.split.train] = weigh_examples(task.labels, protocol)
    fits = solver.fit(labels, weights, C, features.scales, features.offsets)
    # Identical inputs must get equal scores. Matrix products differ in the last bits from row to
    # row, and a ranking metric would rank that noise.
    varies = X.any(axis=0)
    same_of: dict[bytes, np.ndarray] = {varies.tobytes(): distinct[0][distinct[1]]}
    for number, task in enumerate(tasks):
        used = varies & (features.scales[number] > 0)
        if used.tobytes() not in same_of:
            # Equal for the fit, too, are rows that differ only in features which do not vary in its
            # training set, such as groups of which all questions are tested.
            first, of_row = find_distinct_rows(X[:, used])
            same_of[used.tobytes()] = first[of_row]
        same = same_of[used.tobytes()]
        yield ProbeFit(
            fits.logits[number, same[task.split.test]],
            bool(fits.converged[number]),
            C,
            fits.weights[number],
            float(fits.intercepts[number]),
        )


def measure_features(
    X: np.ndarray, trains: np.ndarray, scaler: Scaler
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of features in each training set, both [sets, features].

    X: [examples, features], float32, as `scaler` made them from states. trains: masks [sets,
    examples]. The deviation of a feature that varies no more than the states' precision is 0.
    """
    masks = trains / trains.sum(axis=1, keepdims=True)
    means, squares = np.zeros((2, len(trains), X.shape[1]))
    for start in range(0, len(X), BLOCK):
        rows, own = X[start : start + BLOCK].astype(np.float64), masks[:, start : start + BLOCK]
        means += own @ rows
        squares += own @ np.square(rows)
    deviations = np.sqrt(np.maximum(squares - np.square(means), 0))
    sizes = np.maximum(abs(means), abs(scaler.mean / scaler.scale + means))
    return means, np.where(deviations > CONSTANT * sizes, deviations, 0)


def _make_frame(fits: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One frame of all fits: a frame of each would take longer than some fits."""
    fits = list(fits)
    if not fits:
        return pd.DataFrame({name: [] for name in COLUMNS})
    counts = [len(fit["score"]) for fit in fits]
    return pd.DataFrame(
        {
            name: np.concatenate(values)
            if np.ndim(values[0])
            else np.repeat(np.array(values), counts)
            for name in COLUMNS
            for values in [[fit[name] for fit in fits]]
        }
    )


def probe_layers(
    layers: Sequence[tuple[int, LoadStates]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    protocol: Protocol,
    jobs: int,
    select: bool = True,
) -> Iterator[pd.DataFrame]:
    """`probe_cell` for every named token of every layer: one frame per layer, in their order.

    select: whether to compute inner_auc, the cell's mean AUC over inner folds of the split's
    training set, in the rows of the probe itself (see `selection`).

    layers: (layer, loader of its states [rows, features]). States are loaded inside the worker.
    rows: for each cell, the rows of states that are its examples. jobs: number of worker processes,
    each on one core and with few cells in memory (see `stored_states`); threads would wait for one
    another between the small steps of a fit.

    Raises:
        UserError: states that are not finite.
    """
    # A layer is one task, or several where there are too few layers to keep every process busy.
    parts = min(len(cells), -(-TASKS_PER_PROCESS * jobs // max(1, len(layers)))) if jobs > 1 else 1
    shares = [
        [(cells[index], rows[index]) for index in share]
        for share in np.array_split(np.arange(len(cells)), parts)
    ]
    tasks = (
        delayed(_probe_layer)(layer, load, share, protocol, select)
        for layer, load in layers
        for share in shares
    )
    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        results = Parallel(jobs, return_as="generator", batch_size=1, max_nbytes=None)(tasks)
        while layer_fits := list(islice(results, len(shares))):
            # A layer in parts gives the same frame as a whole one, down to its layout in memory, on
            # which the bytes of a file depend.
            yield _make_frame(fit for fits in layer_fits for fit in fits)


def _probe_layer(
    layer: int,
    load: Callable[[], np.ndarray],
    examples: Sequence[tuple[Cell, np.ndarray]],
    protocol: Protocol,
    select: bool,
) -> list[dict[str, Any]]:
    with warnings.catch_warnings(action="ignore"):  # unconverged fits are counted instead
        states_of_cells = read_cells_of_layer(layer, load(), [rows for _, rows in examples])
        return [
            fit
            for (cell, rows), states in zip(examples, states_of_cells, strict=True)
            for fit in _fit_splits(states, np.arange(len(rows)), cell, layer, protocol, select)
        ]


def _shuffle_within_groups(
    labels: np.ndarray, groups: np.ndarray, large: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """`labels` permuted within each of the `large` groups, and among all others."""
    groups = np.where(np.isin(groups, large), groups, -1)
    shuffled = labels.copy()
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        shuffled[inside] = random.permutation(labels[inside])
    return shuffled


def find_distinct_rows(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each set of equal rows, and for every row of X the index of its first."""
    if not X.shape[1]:
        return np.arange(min(1, len(X))), np.zeros(len(X), int)
    # Rows that differ usually do so in their first features.
    for width in (4, X.shape[1]):
        part = np.ascontiguousarray(X[:, :width]) + np.float32(0)  # -0 becomes 0
        as_bytes = part.view(np.dtype((np.void, part.dtype.itemsize * part.shape[1])))[:, 0]
        _, first, distinct_of_row = np.unique(as_bytes, return_index=True, return_inverse=True)
        if len(first) == len(X):
            return np.arange(len(X)), np.arange(len(X))
    return first, distinct_of_row
