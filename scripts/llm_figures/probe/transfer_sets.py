"""Question sets between which probes are transferred: their answers, and folds within folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import Cell, Split, make_cells
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol
from llm_figures.questions.answers import FEWEST_OF_A_LABEL
from llm_figures.questions.duplicates import normalise_question

# Names of the run's own questions where they have no groups, and of those without one.
WHOLE, WITHOUT_GROUP = "dataset", "without a group"
# A cell is chosen on the training folds, one of which tests it: with fewer there is nothing to
# choose on.
FEWEST_FOLDS = 3
FOLDS = 5  # where the protocol has a single split
FEWEST_QUESTIONS = 20  # that differ in more than spelling: as many as there can be folds


@dataclass(frozen=True)
class AnsweredSet:
    """The valid answers to one set of questions, and where their states are.

    answers: rows of forward/answers.parquet, in order of question_id. keys: question_id and token
    of the rows of states that are theirs; the index is the row, counted through the files of all
    sets. excluded: the set whose questions are left out of this one; None if none are.
    """

    name: str
    answers: pd.DataFrame
    keys: pd.DataFrame
    excluded: str | None = None

    @property
    def labels(self) -> np.ndarray:
        """[answers]: 1 for a wrong answer."""
        return 1 - self.answers["correct"].to_numpy(int)

    @property
    def questions(self) -> frozenset[str]:
        """What is asked, apart from spelling."""
        return frozenset(self.answers["question"].map(normalise_question))

    @property
    def problem(self) -> str:
        """Why no probe can be trained on the set or tested on it; "" if it can."""
        wrong = int(self.labels.sum())
        right = len(self.labels) - wrong
        if min(right, wrong) < FEWEST_OF_A_LABEL:
            return f"{right} right and {wrong} wrong answers"
        distinct = self.answers["split_group"].nunique()
        return "" if distinct >= FEWEST_QUESTIONS else f"{distinct} distinct questions"

    def without(self, other: "AnsweredSet") -> "AnsweredSet":
        """This set without the questions that the other one asks, too."""
        asked = self.answers["question"].map(normalise_question).isin(other.questions)
        return _select(self, ~asked.to_numpy(), self.name, other.name)


def divide_by_group(
    own: AnsweredSet, taken: Sequence[str] = (), by_group: bool = True
) -> list[AnsweredSet]:
    """One set per group of the run's own questions; without groups, or by_group, one of all.

    taken: names of other sets, from which a group of the same name is told apart.
    """
    groups = own.answers["group"]
    if not by_group or groups.isna().all():
        return [_select(own, np.ones(len(groups), bool), _name(WHOLE, taken))]
    named = groups.fillna(WITHOUT_GROUP)
    return [
        _select(own, (named == group).to_numpy(), _name(str(group), taken))
        for group in named.unique()
    ]


def choose_sets(sets: Sequence[AnsweredSet], names: Sequence[str] | None) -> list[AnsweredSet]:
    """The named sets, in the order of the names; all of them without names.

    Raises:
        UserError: there is no set of that name.
    """
    if names is None:
        return list(sets)
    known = {one.name: one for one in sets}
    for name in names:
        if name not in known:
            raise UserError(
                f"config: figures.probe_transfer.sets: no set {name!r}; there is {', '.join(known)}"
            )
    return [known[name] for name in names]


def list_training_sets(sets: Sequence[AnsweredSet]) -> list[AnsweredSet]:
    """What probes are trained on: each set, and where two share questions, one without these.

    No question is ever trained on in one set and tested in another.
    """
    training = list(sets)
    for one in sets:
        for other in sets:
            if one is not other and one.questions & other.questions:
                training.append(one.without(other))
    return training


def nested_protocol(protocol: Protocol) -> Protocol:
    """The protocol with folds by question in place of its own split, and without controls."""
    folds = protocol.folds if protocol.split in CROSS_VALIDATIONS else FOLDS
    return protocol.changed(split="folds", folds=max(folds, FEWEST_FOLDS), repeats=1, controls=())


@dataclass(frozen=True)
class NestedCells:
    """The cells of a set to train on, with its splits.

    folds: [answers], the fold that tests each. ids: [answers], the numbers of its questions in the
    cells, counted through all sets. cells, rows: one per token; rows are those of the states.
    """

    folds: np.ndarray
    ids: np.ndarray
    cells: list[Cell]
    rows: list[np.ndarray]


def nest_cells(
    one: AnsweredSet, tokens: Sequence[str], protocol: Protocol, start: int
) -> NestedCells:
    """The cells of a set, with a split for every fold and one for every pair of folds.

    protocol: as from `nested_protocol`. start: the number of its first question.

    A probe fitted without folds j and k scores fold j for the choice of a cell that fold k tests,
    and fold k for the choice of one that fold j tests. In the cells' splits, repeat is 0 for single
    folds and 1 for pairs.
    """
    ids = np.arange(start, start + len(one.answers))
    number_of = pd.Series(ids, index=one.answers["question_id"])
    keys = one.keys.assign(question_id=one.keys["question_id"].map(number_of))
    answers = one.answers.assign(question_id=ids, hold_out=False)
    # the splits of all answers, of which a token may lack some
    whole = pd.DataFrame({"question_id": ids, "token": ""})
    [every], _ = make_cells(whole, answers, [""], protocol)
    folds = np.empty(len(ids), dtype=np.int64)
    # by their places, which number pairs: one of many folds may have no question
    for place, split in enumerate(every.splits):
        folds[split.test] = place
    cells, rows = make_cells(keys, answers, tokens, protocol)
    cells = [replace(cell, splits=[*cell.splits, *_pair(cell.splits)]) for cell in cells]
    return NestedCells(folds, ids, cells, rows)


def _pair(splits: Sequence[Split]) -> list[Split]:
    return [
        Split(1, len(splits) * at + later, one.train & other.train, one.test | other.test)
        for at, one in enumerate(splits)
        for later, other in enumerate(splits)
        if at < later
    ]


def _select(
    one: AnsweredSet, inside: np.ndarray, name: str, excluded: str | None = None
) -> AnsweredSet:
    answers = one.answers[inside]
    keys = one.keys[one.keys["question_id"].isin(answers["question_id"])]
    return AnsweredSet(name, answers.reset_index(drop=True), keys, excluded)


def _name(group: str, taken: Sequence[str]) -> str:
    return f"{group} ({WHOLE})" if group in taken else group


def read_sets(
    answers: Mapping[str, pd.DataFrame], keys: Mapping[str, pd.DataFrame], by_group: bool = True
) -> list[AnsweredSet]:
    """The sets of a run: its own questions, named "", by group or as one, then the further ones.

    answers: rows of forward/answers.parquet. keys: question_id and token of every row of the states
    of a set; both {name of the set: frame}, in the order in which the states are read.
    """
    start, read = 0, []
    for name, rows in answers.items():
        own = keys[name]
        own = own.set_axis(range(start, start + len(own)))
        start += len(own)
        valid = rows[rows["valid"]].sort_values("question_id", ignore_index=True)
        unknown = own.loc[~own["question_id"].isin(valid["question_id"]), "question_id"]
        if len(unknown):
            raise UserError(
                f"the hidden states of {name or 'the dataset'} hold question {unknown.iloc[0]}, to "
                "which there is no valid answer; they are not of one run: remove them and run again"
            )
        read.append(AnsweredSet(name, valid, own))
    own, *others = read
    return [*divide_by_group(own, [one.name for one in others], by_group), *others]
