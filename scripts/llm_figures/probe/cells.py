"""Cells of the probe: which answers each named token has, and how they are split to train and test.

The label is 1 for a wrong answer, which is what the probe detects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from llm_figures.questions.answers import FEWEST_OF_A_LABEL


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


def make_cells(
    keys: pd.DataFrame, answers: pd.DataFrame, tokens: Sequence[str], protocol: Mapping
) -> tuple[list[Cell], list[np.ndarray]]:
    """The cells of every layer, one per named token, and which rows of `keys` each rests on.

    keys: question_id and token of every row of states. answers: the rows of forward/answers.parquet
    with a valid exact answer.
    """
    answers = answers.sort_values("question_id", ignore_index=True)
    labels = 1 - answers["correct"].to_numpy(int)  # a wrong answer is what the probe detects
    twins = answers["split_group"].to_numpy()
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
