"""Probes that detect wrong answers, trained on some questions and tested on others.

By default the probe is L2-regularised logistic regression with label 1 for a wrong answer. The
solver `newton` fits it to convergence (see `newton`). `lbfgs` is scikit-learn's LogisticRegression
with its default of 100 iterations, for comparison with the published probe. Other kinds of probe
are in `kinds`.
"""

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.probe.cells import Cell, Split
from llm_figures.probe.descent import LogisticSolver
from llm_figures.probe.newton import Primal, make_solver
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol
from llm_figures.probe.selection import score_inner_folds
from llm_figures.probe.split_fitter import ProbeFit, ProbeFitter, draw_seed, weigh_examples
from llm_figures.probe.standardising import (
    Scaler,
    find_distinct_rows,
    measure_features,
    standardise,
)
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer

# A single split with fewer test answers of either label gives no score.
FEWEST_TEST_ANSWERS = 4
# Deviations of a training set, in units of the cell's, up to which, or down to one over which, its
# fits are solved together with the others; and how many at once.
UNLIKE = 2.0
TOGETHER = 60
# The least number of tasks per process, so that none is idle for long at the end.
TASKS_PER_PROCESS = 3
# Columns of predictions.
COLUMNS = (
    "question_id", "score", "layer", "token", "control", "repeat", "fold", "n_train", "converged",
    "C", "inner_auc", "permutation",
)  # fmt: skip


def probe_cell(
    states: np.ndarray,
    cell: Cell,
    layer: int,
    protocol: Protocol,
    permutations: int = 1,
    splits: Sequence[Split] | None = None,
) -> pd.DataFrame:
    """Fit the probe and its controls in one cell.

    states: [examples, features], of `cell`. permutations: of the labels, for each control. splits:
    some of the cell's; by default all.

    Returns one row per test answer of every split and control: question_id, score (above 0 for a
    wrong answer), layer, token, control ("none" for the probe itself), repeat, fold, n_train,
    converged, C, inner_auc (NaN; `probe_layers` has it), permutation (0 for the probe itself).
    "shuffled_labels" permutes the training labels, "shuffled_within_group" permutes them within
    each of the cell's large groups, and those of all other groups together; without any large group
    it is not fitted.

    A split without both labels in both sets is left out, and so is a single split with fewer than
    `FEWEST_TEST_ANSWERS` test answers of either. There are no rows for a cell with fewer than
    `FEWEST_OF_A_LABEL` answers of either label.
    """
    tasks = list_tasks(cell, layer, protocol, permutations, splits)
    return _make_frame(_fit_splits(states, cell, layer, protocol, tasks))


@dataclass(frozen=True)
class Task:
    """A fit of a cell. labels: [train]. permutation: its number, of a control. key: what identifies
    the fit, and so all that is random."""

    split: Split
    control: str
    permutation: int
    labels: np.ndarray
    key: tuple[int, ...]


def list_tasks(
    cell: Cell,
    layer: int,
    protocol: Protocol,
    permutations: int = 1,
    splits: Sequence[Split] | None = None,
) -> list[Task]:
    """The fits of `probe_cell`, split by split."""
    splits = cell.splits if splits is None else splits
    fewest = 1 if protocol.split in CROSS_VALIDATIONS else FEWEST_TEST_ANSWERS
    tasks = []
    for split in splits if cell.enough_answers else []:
        labels = cell.labels[split.train]
        counts = [np.bincount(part, minlength=2) for part in (labels, cell.labels[split.test])]
        if min(count.min() for count in counts) < fewest:
            continue
        tasks.append(_describe_task(split, "none", 0, labels, cell, layer, protocol))
        for control in protocol.controls:
            if control == "shuffled_within_group" and not len(cell.large_groups):
                continue
            tasks += [
                _describe_task(split, control, number, labels, cell, layer, protocol)
                for number in range(permutations)
            ]
    return tasks


def _describe_task(
    split: Split,
    control: str,
    permutation: int,
    labels: np.ndarray,
    cell: Cell,
    layer: int,
    protocol: Protocol,
) -> Task:
    """A fit to the labels [train] of a split, shuffled if a control has them so."""
    # A shuffle depends on its cell alone, not on the job or process that fits it.
    place = zlib.crc32(f"{cell.token}{control}".encode())
    key = (protocol.seed, layer, split.repeat, split.fold, place)
    key += (permutation,) if permutation else ()
    if control == "shuffled_labels":
        labels = np.random.default_rng(key).permutation(labels)
    elif control == "shuffled_within_group":
        random, groups = np.random.default_rng(key), cell.groups[split.train]
        labels = _shuffle_within_groups(labels, groups, cell.large_groups, random)
    return Task(split, control, permutation, labels, key)


def _fit_splits(
    states: np.ndarray,
    cell: Cell,
    layer: int,
    protocol: Protocol,
    tasks: Sequence[Task],
    select: bool = False,
) -> Iterator[dict[str, Any]]:
    """The columns of `probe_cell`, fit by fit; one value where all rows of a fit have the same.

    states: [examples, features], of the cell. select: whether to compute inner_auc, by which nested
    selection compares cells (see `selection`).
    """
    if not tasks:
        return
    X = states.astype(np.float32)  # a copy, which is standardised in place
    together = protocol.kind == "logistic" and protocol.solver == "newton" and protocol.C != "cv"
    scaler = standardise(X) if together else None
    distinct = find_distinct_rows(X)
    solver = make_solver(X, distinct) if together else None
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
            raw = states.astype(np.float32)
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
            "permutation": np.int16(task.permutation),
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
            for (cell, _), states in zip(examples, states_of_cells, strict=True)
            for fit in _fit_splits(
                states, cell, layer, protocol, list_tasks(cell, layer, protocol), select
            )
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
