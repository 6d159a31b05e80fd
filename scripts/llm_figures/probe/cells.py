"""Cells of the probe: which answers have a named token, and how they are split to train and test.

The label is 1 for a wrong answer, which is what the probe detects.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.protocol import BY_GROUP, CROSS_VALIDATIONS, SMALLEST_GROUP, Protocol
from llm_figures.questions.answers import FEWEST_OF_A_LABEL

# Folds within a training set, by which cells are compared there (`selection`), where those of the
# cross-validation do not serve.
INNER_FOLDS = 5
# `split: groups` fits one probe per group and cell, and compares cells by as many inner folds up to
# the second number.
MOST_GROUPS, MOST_INNER = 100, 10


@dataclass(frozen=True)
class Split:
    """One split of the questions. train, test: boolean masks, [questions].

    inner: [questions], the fold within the training set; of no meaning for other questions. None:
    there are no such folds.
    """

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray
    inner: np.ndarray | None = None

    def take(self, examples: np.ndarray) -> "Split":
        """The split of some of its questions. examples: their indices, or a mask."""
        inner = None if self.inner is None else self.inner[examples]
        return replace(self, train=self.train[examples], test=self.test[examples], inner=inner)


def split_questions(
    labels: np.ndarray, split_groups: np.ndarray, held_out: np.ndarray, protocol: Protocol
) -> list[Split]:
    """The splits of a protocol.

    labels: [questions], 0 or 1. split_groups: [questions], equal for questions that are never split
    between train and test, as from `find_split_groups`. held_out: [questions], True for those of
    the hold-out file.

    folds, group_folds: stratified by label. groups: one fold per group, in their order. single: a
    random fifth of the questions is the test set, whatever their labels, as published. hold_out:
    the held-out questions are the test set.

    Raises:
        UserError: fewer groups than folds by group; too many groups for a fold each.
    """

    def inner(train: np.ndarray) -> np.ndarray | None:
        return _assign_inner_folds(labels, split_groups, train, protocol.seed)

    match protocol.split:
        case "hold_out":
            return [Split(0, 0, ~held_out, held_out, inner(~held_out))]
        case "single":
            from sklearn.model_selection import train_test_split

            _, test_groups = train_test_split(
                np.unique(split_groups), test_size=0.2, random_state=protocol.seed
            )
            test = np.isin(split_groups, test_groups)
            return [Split(0, 0, ~test, test, inner(~test))]
        case "groups":
            folds = np.unique(split_groups, return_inverse=True)[1]
            _check_group_count(folds.max(initial=-1) + 1)
            return _cross_validate(0, folds, folds if folds.max() < MOST_INNER else None, inner)
    if protocol.split == "group_folds":
        _check_enough_groups(len(np.unique(split_groups)), protocol.folds)
    splits = []
    for repeat in range(protocol.repeats):
        seed = (protocol.seed + repeat) % 2**32  # the greatest seed is followed by 0
        folds = assign_folds(labels, split_groups, folds=protocol.folds, seed=seed)
        splits += _cross_validate(repeat, folds, folds, inner)
    return splits


def _cross_validate(
    repeat: int,
    folds: np.ndarray,
    shared: np.ndarray | None,
    inner: Callable[[np.ndarray], np.ndarray | None],
) -> list[Split]:
    """One split per fold. shared: inner folds of all of them; inner: makes those of one."""
    distinct = np.unique(folds)
    if shared is None or len(distinct) < 3:  # two folds leave one to train on
        return [
            Split(repeat, fold, folds != fold, folds == fold, inner(folds != fold))
            for fold in distinct
        ]
    return [Split(repeat, fold, folds != fold, folds == fold, shared) for fold in distinct]


def _assign_inner_folds(
    labels: np.ndarray, split_groups: np.ndarray, train: np.ndarray, seed: int
) -> np.ndarray | None:
    """[questions]: the inner fold of each question of a training set; None if it is one group."""
    count = min(INNER_FOLDS, len(np.unique(split_groups[train])))
    if count < 2 or np.bincount(labels[train], minlength=2).max() < count:
        return None
    folds = np.full(len(labels), -1)
    with warnings.catch_warnings(action="ignore"):  # fewer of a label than folds
        folds[train] = assign_folds(labels[train], split_groups[train], folds=count, seed=seed)
    return folds


def assign_folds(
    labels: np.ndarray, split_groups: np.ndarray, *, folds: int, seed: int
) -> np.ndarray:
    """[examples]: the fold whose test set has the example; a split group is in one fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    assigned = np.empty(len(labels), dtype=np.int64)
    for fold, (_, test) in enumerate(splitter.split(labels, labels, split_groups)):
        assigned[test] = fold
    return assigned


def _check_enough_groups(count: int, folds: int) -> None:
    if count < folds:
        found = f"they have {count}" if count > 1 else "they have none"
        raise UserError(
            f"config: probe.split: group_folds: probe.folds: {folds} needs the valid answers to be "
            f"in at least {folds} groups, but {found} (dataset.group; groups with a question in "
            "common count as one); lower probe.folds, or take another split"
        )


def _check_group_count(count: int) -> None:
    if 2 <= count <= MOST_GROUPS:
        return
    found = f"they are in {count}" if count > 1 else "they are in one, or have none"
    raise UserError(
        "config: probe.split: groups: tests one group after the other, which takes the valid "
        f"answers of 2 to {MOST_GROUPS} groups, but {found} (dataset.group; groups with a question "
        "in common count as one); "
        + ("split: group_folds tests many at once" if count > 1 else "take another split")
    )


def find_split_groups(
    split_groups: np.ndarray, groups: np.ndarray, protocol: Protocol
) -> np.ndarray:
    """[questions]: equal for questions that a protocol never splits between train and test.

    split_groups: [questions], equal for questions that differ only in spelling. groups:
    [questions], the question's group; with folds by group, whole groups stay together, and so do
    groups with a question in common.
    """
    if protocol.split not in BY_GROUP:
        return split_groups
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    spellings, groups = (
        np.unique(values, return_inverse=True)[1] for values in (split_groups, groups)
    )
    # Both are nodes of one graph, and every question joins two of them.
    nodes = (spellings, spellings.max(initial=0) + 1 + groups)
    size = nodes[1].max(initial=0) + 1
    edges = coo_array((np.ones(len(groups)), nodes), shape=(size, size))
    return connected_components(edges, directed=False)[1][spellings]


@dataclass(frozen=True)
class Cell:
    """The examples of one named token, the same in every layer.

    questions, labels, groups, split_groups: [examples]. questions: ids in ascending order. labels:
    1 for a wrong answer. groups: the question's group, as a number. split_groups: as from
    `find_split_groups`. splits: masks are [examples].
    """

    token: str
    questions: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    split_groups: np.ndarray
    splits: list[Split]

    @property
    def enough_answers(self) -> bool:
        """Whether there are enough answers of either label for a score."""
        return bool(np.bincount(self.labels, minlength=2).min() >= FEWEST_OF_A_LABEL)

    @property
    def group_count(self) -> int:
        """The number of groups; answers without a group are one."""
        return len(np.unique(self.groups))

    @cached_property
    def large_groups(self) -> np.ndarray:
        """The groups within which labels can be shuffled; none if all answers are of one group.

        They have at least `SMALLEST_GROUP` examples in every training set that has any of them.
        """
        if self.group_count < 2:
            return np.array([], dtype=self.groups.dtype)
        fewest = np.full(self.groups.max() + 1, np.iinfo(np.int64).max)
        for split in self.splits:
            counts = np.bincount(self.groups[split.train], minlength=len(fewest))
            fewest = np.where(counts > 0, np.minimum(fewest, counts), fewest)
        there = np.unique(self.groups)
        return there[fewest[there] >= SMALLEST_GROUP]

    def compute_within_group_share(self) -> float:
        """The share of training examples whose labels are shuffled within their own group."""
        within = np.isin(self.groups, self.large_groups)
        return float(np.mean([within[split.train].mean() for split in self.splits]))


def find_splits_of(
    predictions: pd.DataFrame, answers: pd.DataFrame, protocol: Protocol
) -> list[Split] | None:
    """The splits that predictions were made with, without inner folds; they import no scikit-learn.

    None if the predictions do not say in which fold every answer was tested. predictions:
    question_id, repeat, fold. answers: as for `make_cells`.
    """
    if protocol.split not in CROSS_VALIDATIONS:
        return None
    questions = np.sort(answers["question_id"].to_numpy())
    tested = predictions[["question_id", "repeat", "fold"]].drop_duplicates()
    splits = []
    for repeat in range(protocol.repeats):
        own = tested[tested["repeat"] == repeat].sort_values("question_id")
        if not np.array_equal(own["question_id"], questions):
            return None
        folds = own["fold"].to_numpy()
        splits += [Split(repeat, fold, folds != fold, folds == fold) for fold in np.unique(folds)]
    return splits


def replace_splits(cells: Sequence[Cell], answers: pd.DataFrame, protocol: Protocol) -> list[Cell]:
    """The same cells with the splits of another protocol. answers: as for `make_cells`."""
    keys = pd.concat(
        pd.DataFrame({"question_id": cell.questions, "token": cell.token}) for cell in cells
    ).reset_index(drop=True)
    return make_cells(keys, answers, [cell.token for cell in cells], protocol)[0]


def make_cells(
    keys: pd.DataFrame,
    answers: pd.DataFrame,
    tokens: Sequence[str],
    protocol: Protocol,
    splits: Sequence[Split] | None = None,
) -> tuple[list[Cell], list[np.ndarray]]:
    """One cell per named token, and for each the rows of `keys` that are its examples.

    keys: question_id and token of every row of states. answers: the rows of forward/answers.parquet
    with a valid exact answer. splits: of the answers by question_id; by default the protocol's.

    Raises:
        UserError: fewer groups than folds by group; too many groups for a fold each.
    """
    answers = answers.sort_values("question_id", ignore_index=True)
    labels = 1 - answers["correct"].to_numpy(int)  # 1: wrong
    groups = pd.factorize(answers["group"].fillna(""))[0]
    split_groups = find_split_groups(answers["split_group"].to_numpy(), groups, protocol)
    if splits is None:
        held_out = answers["hold_out"].to_numpy(bool)
        splits = split_questions(labels, split_groups, held_out, protocol)
    row_of_question = pd.Series(np.arange(len(answers)), index=answers["question_id"])
    keys = keys[keys["token"].isin(tokens)]
    if protocol.short_answers == "complete":
        counts = keys.groupby("question_id")["token"].nunique()
        keys = keys[keys["question_id"].map(counts) == len(tokens)]
    cells, rows = [], []
    for token in tokens:
        examples = keys[keys["token"] == token].sort_values("question_id")
        inside = row_of_question[examples["question_id"]].to_numpy()
        cells.append(
            Cell(
                token=token,
                questions=examples["question_id"].to_numpy(np.int32),
                labels=labels[inside],
                groups=groups[inside],
                split_groups=split_groups[inside],
                splits=[split.take(inside) for split in splits],
            )
        )
        rows.append(examples.index.to_numpy())
    return cells, rows
