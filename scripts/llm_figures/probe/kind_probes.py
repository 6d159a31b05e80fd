"""Probes of the kind of error: one kind against all others, on the splits of the probe.

All labels of a split share one standardisation and one factorisation (`split_fitter.ProbeFitter`).
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import (
    compute_auc,
    compute_bootstrap_interval,
    compute_fold_interval,
    draw_resamples,
)
from llm_figures.probe.fitting import FEWEST_TEST_ANSWERS
from llm_figures.probe.protocol import CROSS_VALIDATIONS, PRESETS, Protocol
from llm_figures.probe.scores import DRAWS
from llm_figures.probe.split_fitter import ProbeFitter, draw_seed
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer
from llm_figures.questions.answers import FEWEST_OF_A_LABEL
from llm_figures.questions.error_kinds import KINDS

COLUMNS = [
    "metric", "kind", "layer", "token", "control", "mean", "ci_low", "ci_high", "n", "total",
    "folds", "samples",
]  # fmt: skip


class FoldScore(NamedTuple):
    """AUC of one fit. values: [1], or [1 + draws] where the split is resampled."""

    layer: int
    token: str
    kind: str
    control: str
    values: np.ndarray
    n_train: int
    n_test: int


def restrict_cell(cell: Cell, keep: np.ndarray) -> Cell:
    """The cell with some of its examples. keep: [examples], boolean."""
    kept = np.flatnonzero(keep)
    return replace(
        cell,
        questions=cell.questions[kept],
        labels=cell.labels[kept],
        groups=cell.groups[kept],
        split_groups=cell.split_groups[kept],
        splits=[split.take(kept) for split in cell.splits],
    )


def find_probed_kinds(kinds: Iterable[str]) -> list[str]:
    """The kinds that can be probed, in the order of `KINDS`.

    kinds: of every question. A kind needs `FEWEST_OF_A_LABEL` questions, and so do all others.
    """
    counts = pd.Series(list(kinds), dtype=object).value_counts()
    most = counts.sum() - FEWEST_OF_A_LABEL
    return [kind for kind in KINDS if FEWEST_OF_A_LABEL <= counts.get(kind, 0) <= most]


def probe_kinds(
    layers: Sequence[tuple[int, LoadStates]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    kind_of: Mapping[int, str],
    protocol: Protocol,
    jobs: int,
) -> Iterator[list[FoldScore]]:
    """Fit the probe of every kind, and its control, at every token of every layer.

    layers, rows, jobs: as for `fitting.probe_layers`. cells: of the questions of `kind_of`.
    kind_of: {question: its kind}.

    control is "none", or "shuffled_labels": the training labels are permuted. A split in which a
    kind lacks examples, or counterexamples, to train or to test is left out.
    """
    kinds = [np.array([kind_of[question] for question in cell.questions]) for cell in cells]
    tasks = (
        delayed(_probe_layer)(layer, load, rows, cells, kinds, protocol) for layer, load in layers
    )
    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(jobs, return_as="generator", batch_size=1, max_nbytes=None)(tasks)


def probe_groups(
    cells: Sequence[Cell], kind_of: Mapping[int, str], layers: Sequence[int], protocol: Protocol
) -> Iterator[FoldScore]:
    """The same with the question's group as the only input: the control "group_only".

    layers: those for which it is listed; it is the same in all. None where all are of one group.
    """
    # As strong as it can be, whatever the probe's own protocol.
    strict = PRESETS["strict"]
    protocol = protocol.changed(
        kind=strict.kind,
        standardise=strict.standardise,
        solver=strict.solver,
        C=strict.C,
        class_weight=protocol.class_weight or strict.class_weight,
    )
    for cell in cells:
        if cell.group_count < 2:
            continue
        states = pd.get_dummies(cell.groups).to_numpy(np.float32)
        kinds = np.array([kind_of[question] for question in cell.questions])
        for score in _probe_cell(states, cell, kinds, 0, protocol, ("none",)):
            for layer in layers:
                yield score._replace(layer=layer, control="group_only")


def _probe_layer(layer, load, rows, cells, kinds, protocol) -> list[FoldScore]:
    with warnings.catch_warnings(action="ignore"):
        return [
            score
            for states, cell, kind in zip(
                read_cells_of_layer(layer, load(), rows), cells, kinds, strict=True
            )
            for score in _probe_cell(states, cell, kind, layer, protocol)
        ]


def _probe_cell(
    states: np.ndarray,
    cell: Cell,
    kinds: np.ndarray,
    layer: int,
    protocol: Protocol,
    controls: Sequence[str] = ("none", "shuffled_labels"),
) -> Iterator[FoldScore]:
    """states: [examples, features]; kinds: [examples]."""
    over_folds = protocol.split in CROSS_VALIDATIONS
    probed = find_probed_kinds(kinds)
    for split in cell.splits if probed else []:
        train, test = np.flatnonzero(split.train), np.flatnonzero(split.test)
        if not len(train) or not len(test):
            continue
        X_train, X_test = (states[at].astype(np.float32, copy=True) for at in (train, test))
        fitter = ProbeFitter(X_train, X_test, protocol, cell.split_groups[train])
        weights = np.ones((1, len(test)))
        if not over_folds:
            weights = draw_resamples(cell.split_groups[test], DRAWS, protocol.seed)
        for kind in probed:
            labels = (kinds == kind).astype(int)
            counts = [np.bincount(labels[at], minlength=2).min() for at in (train, test)]
            if min(counts) < (1 if over_folds else FEWEST_TEST_ANSWERS):
                continue
            for control in controls:
                taught = labels[train]
                name = zlib.crc32(f"{cell.token}{kind}{control}".encode())
                key = [protocol.seed, layer, split.repeat, split.fold, name]
                if control == "shuffled_labels":
                    taught = np.random.default_rng(key).permutation(taught)
                scores = fitter.fit(taught, seed=draw_seed(*key)).scores
                values = compute_auc(labels[test], scores, weights)
                yield FoldScore(layer, cell.token, kind, control, values, len(train), len(test))


def score_kinds(
    fits: Iterable[FoldScore],
    kinds: pd.DataFrame,
    split_groups: np.ndarray,
    protocol: Protocol,
) -> pd.DataFrame:
    """The table probe/error_kinds.parquet, with `COLUMNS`.

    fits: as from `probe_kinds` and `probe_groups`. kinds: as from `error_kinds.assign_kinds`.
    split_groups: of its questions.

    metric "share": the share of the questions that are of a kind, with a bootstrap interval over
    split groups; without layer, token and control. metric "auc": of telling the kind from all
    others, with the probe's intervals, where there are two folds at least. n: questions of the
    kind, among `total` of all sampled questions. folds: of the score. samples: of a question.
    """
    weights = draw_resamples(split_groups, DRAWS, protocol.seed)
    total, count = len(kinds), int(kinds["samples"].max())
    rows = []
    for kind in KINDS:
        inside = (kinds["kind"] == kind).to_numpy()
        mean, low, high = compute_bootstrap_interval(weights @ inside / weights.sum(axis=1))
        place = {"metric": "share", "kind": kind, "token": "", "control": "none"}
        rows.append(place | {"mean": mean, "ci_low": low, "ci_high": high, "folds": 0})
    scored: dict[tuple, list[FoldScore]] = {}
    for fit in fits:
        scored.setdefault((fit.kind, fit.token, fit.layer, fit.control), []).append(fit)
    order = {kind: place for place, kind in enumerate(KINDS)}
    for (kind, token, layer, control), folds in sorted(
        scored.items(), key=lambda item: (order[item[0][0]], *item[0][1:])
    ):
        mean, low, high = _interval(folds, protocol)
        if not np.isfinite(mean):  # of a single fold
            continue
        place = {"metric": "auc", "kind": kind, "token": token, "layer": layer, "control": control}
        ends = {"ci_low": max(low, 0.0), "ci_high": min(high, 1.0)}
        rows.append(place | ends | {"mean": mean, "folds": len(folds)})
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    numbers = kinds["kind"].value_counts()
    table["n"] = [int(numbers.get(kind, 0)) for kind in table["kind"]]
    return table.assign(total=total, samples=count).astype({"layer": float})


def _interval(folds: Sequence[FoldScore], protocol: Protocol) -> tuple[float, float, float]:
    values = np.array(list(chain.from_iterable(fold.values for fold in folds)))
    if protocol.split not in CROSS_VALIDATIONS:
        return compute_bootstrap_interval(values)
    n_train, n_test = (np.mean([getattr(f, name) for f in folds]) for name in ("n_train", "n_test"))
    return compute_fold_interval(values, n_train, n_test)
