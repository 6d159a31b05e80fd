"""Is the highest of all cells higher than chance? A permutation test of the maximum.

Labels are permuted, all cells are scored again, and their maximum is taken: that is what the
highest of so many cells reaches where states say nothing of the labels. One permutation of the
questions serves all cells, so that the maximum is over cells as dependent as they are (Westfall &
Young 1993). The statistic is the cross-validated AUC of the first Newton step (see `selection`),
whose factor all permutations of a fold share; the observed labels are scored the same way.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import compute_column_aucs
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.split_fitter import ProbeFitter
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer

AT_ONCE = 64  # permutations


def permute_labels(
    labels: np.ndarray, groups: np.ndarray, split_groups: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """[count, questions], int8: labels permuted among questions of the same group.

    labels, groups: [questions]. split_groups: [questions], equal for questions that differ only in
    spelling: their labels move together, to as many equal questions of the same groups. A question
    that has no other to change places with keeps its label.
    """
    random = np.random.default_rng([seed, 21])
    permuted = np.tile(labels.astype(np.int8), (count, 1))
    for blocks in _list_exchangeable(groups, split_groups):
        for start in range(0, count, AT_ONCE):  # which bounds the memory
            some = permuted[start : start + AT_ONCE]
            drawn = random.permuted(np.tile(np.arange(len(blocks)), (len(some), 1)), axis=1)
            some[:, blocks] = labels[blocks][drawn]
    return permuted


def _list_exchangeable(groups: np.ndarray, split_groups: np.ndarray) -> Iterator[np.ndarray]:
    """Questions whose labels change places, as [sets of equal questions, questions of each]."""
    members: dict[int, list[int]] = {}
    # The same order of groups inside each set of equal questions.
    for question in np.lexsort((np.arange(len(groups)), groups)):
        members.setdefault(int(split_groups[question]), []).append(int(question))
    alike: dict[tuple[int, ...], list[list[int]]] = {}
    for _, questions in sorted(members.items()):
        alike.setdefault(tuple(groups[questions].tolist()), []).append(questions)
    for _, sets in sorted(alike.items()):
        yield np.array(sets)


def find_movable(labels: np.ndarray, groups: np.ndarray, split_groups: np.ndarray) -> float:
    """The share of questions whose label is another one in some permutation of all there are.

    Arguments as for `permute_labels`.
    """
    movable = 0
    for blocks in _list_exchangeable(groups, split_groups):
        differ = (labels[blocks] != labels[blocks[:1]]).any(axis=0)
        movable += int(differ.sum()) * len(blocks)
    return movable / len(labels)


def score_permuted_cells(
    layers: Sequence[tuple[int, LoadStates]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    labels: np.ndarray,
    places: Sequence[np.ndarray],
    jobs: int,
):
    """Yield (layer, [cells, columns]): the cross-validated AUC of each column of labels.

    layers: (layer, loader of its states [rows, features]). rows: for each cell, the rows of states
    that are its examples. labels: [questions, columns]; every process has a copy. places: for each
    cell [examples], the places of its questions among them. jobs: number of processes.

    NaN where no split has both labels on both sides, and in cells without a score of the probe.

    Raises:
        UserError: states that are not finite.
    """
    tasks = (
        delayed(_score_layer)(layer, load, rows, cells, labels, places) for layer, load in layers
    )
    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        results = Parallel(jobs, return_as="generator", batch_size=1, max_nbytes=None)(tasks)
        yield from results


def _score_layer(layer, load, rows, cells, labels, places) -> tuple[int, np.ndarray]:
    with threadpool_limits(1):
        values = [
            score_permuted_cell(states, cell, labels[at])
            for states, cell, at in zip(
                read_cells_of_layer(layer, load(), rows), cells, places, strict=True
            )
        ]
    return layer, np.array(values)


def score_permuted_cell(states: np.ndarray, cell: Cell, labels: np.ndarray) -> np.ndarray:
    """[columns]: the mean AUC over the splits of a cell. states, labels: [examples, …]."""
    values = []
    for split in cell.splits if cell.enough_answers else []:
        train, test = np.flatnonzero(split.train), np.flatnonzero(split.test)
        if not len(train) or not len(test):
            continue
        X_train, X_test = (states[part].astype(np.float32, copy=False) for part in (train, test))
        fitter = ProbeFitter(X_train, X_test, PRESETS["strict"], cell.split_groups[train])
        aucs = compute_column_aucs(labels[test], fitter.score_first_steps(labels[train]))
        rates = labels[train].mean(axis=0)
        values.append(np.where((rates > 0) & (rates < 1), aucs, np.nan))
    if not values:
        return np.full(labels.shape[1], np.nan)
    counted = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(counted, values, 0).sum(axis=0) / counted.sum(axis=0)
