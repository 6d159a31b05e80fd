import numpy as np
import pandas as pd
import pytest

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import (
    Cell,
    Split,
    assign_folds,
    find_split_groups,
    find_splits_of,
    make_cells,
    split_questions,
)
from llm_figures.probe.protocol import PRESETS

COUNT = 300
STRICT = PRESETS["strict"]


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random(COUNT) < 0.4).astype(int)


def test_a_split_group_is_in_one_fold_and_labels_are_balanced(labels):
    split_groups = np.arange(COUNT) % 150
    folds = [assign_folds(labels, split_groups, folds=5, seed=seed) for seed in (0, 1)]
    for found in folds:
        assert (found[:150] == found[150:]).all()
        rates = [labels[found == fold].mean() for fold in range(5)]
        assert max(rates) - min(rates) < 0.1
    assert (folds[0] != folds[1]).any()


def test_every_question_is_tested_once_a_repeat_or_as_its_split_says(labels):
    nobody, split_groups = np.zeros(COUNT, bool), np.arange(COUNT)
    found = split_questions(labels, split_groups, nobody, STRICT.changed(repeats=2))
    assert len(found) == 10
    tested = sum(split.test.astype(int) for split in found)
    assert (tested == 2).all()
    assert all((split.train == ~split.test).all() for split in found)
    (single,) = split_questions(labels, split_groups, nobody, STRICT.changed(split="single"))
    assert single.test.sum() == COUNT / 5
    (single,) = split_questions(labels, split_groups % 150, nobody, STRICT.changed(split="single"))
    assert (single.test[:150] == single.test[150:]).all()
    held = np.arange(COUNT) >= 250
    (split,) = split_questions(labels, split_groups, held, STRICT.changed(split="hold_out"))
    assert (split.test == held).all()
    assert (split.train == ~held).all()


def test_the_greatest_seed_is_followed_by_0(labels):
    nobody, split_groups = np.zeros(COUNT, bool), np.arange(COUNT)
    protocol = STRICT.changed(seed=2**32 - 1, repeats=3)
    found = split_questions(labels, split_groups, nobody, protocol)
    again = split_questions(labels, split_groups, nobody, STRICT.changed(seed=0, repeats=2))
    first, *others = (np.stack([split.test for split in found[n : n + 5]]) for n in (0, 5, 10))
    for mine, its in zip(others, (again[:5], again[5:]), strict=True):
        assert (mine == np.stack([split.test for split in its])).all()
        assert (first != mine).any()


BY_GROUP = STRICT.changed(split="group_folds")


def test_groups_and_what_shares_a_question_with_them_stay_together():
    #         a  a  b  c  c  d   the questions 1 and 2 are spelled alike, and so are 4 and 5
    groups = np.array([0, 0, 1, 2, 2, 3])
    spellings = np.array([10, 11, 11, 12, 13, 13])
    joined = find_split_groups(spellings, groups, BY_GROUP)
    assert joined.tolist() == [0, 0, 0, 1, 1, 1]
    assert find_split_groups(spellings, groups, STRICT) is spellings
    # Through a third group.
    chained = find_split_groups(
        np.array([0, 1, 1, 2, 2, 3]), np.array([0, 0, 1, 1, 2, 3]), BY_GROUP
    )
    assert chained.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_folds_by_group_never_part_a_group(labels, seed):
    random = np.random.default_rng(seed)
    groups, spellings = random.integers(0, 40, COUNT), np.arange(COUNT)
    spellings[:10] = spellings[10:20]
    joined = find_split_groups(spellings, groups, BY_GROUP)
    splits = split_questions(
        labels, joined, np.zeros(COUNT, bool), BY_GROUP.changed(repeats=2, seed=seed)
    )
    assert len(splits) == 10
    for split in splits:
        assert not set(groups[split.train]) & set(groups[split.test])
        assert not set(spellings[split.train]) & set(spellings[split.test])
    assert (sum(split.test.astype(int) for split in splits) == 2).all()


@pytest.mark.parametrize("sizes", [[296, 1, 1, 1, 1], [60] * 5, [100, 100, 50, 30, 20]])
def test_as_many_groups_as_folds_are_enough(labels, sizes):
    groups = np.repeat(np.arange(5), sizes)
    splits = split_questions(labels, groups, np.zeros(COUNT, bool), BY_GROUP)
    assert sorted(split.test.sum() for split in splits) == sorted(sizes)


@pytest.mark.parametrize(("count", "found"), [(4, "they have 4"), (1, "they have none")])
def test_fewer_groups_than_folds_are_one_clear_line(labels, count, found):
    with pytest.raises(UserError) as caught:
        split_questions(labels, np.arange(COUNT) % count, np.zeros(COUNT, bool), BY_GROUP)
    assert str(caught.value) == (
        "config: probe.split: group_folds: probe.folds: 5 needs the valid answers to be in at "
        f"least 5 groups, but {found} (dataset.group; groups with a question in common count as "
        "one); lower probe.folds, or take another split"
    )


@pytest.mark.parametrize(
    ("training", "large"),
    [([[20, 30], [20, 25]], [0, 1]), ([[20, 30], [19, 25]], [1]), ([[20, 0], [0, 25]], [0, 1]),
     ([[19, 19]], []), ([[40]], [])],
    ids=["all", "one fold too small", "in other folds", "none", "one group"],
)  # fmt: skip
def test_large_groups_have_twenty_training_answers_wherever_they_are_trained_on(training, large):
    groups = np.repeat(np.arange(len(training[0])), 50)
    splits = []
    for fold, counts in enumerate(training):
        train = np.concatenate([np.arange(50) < count for count in counts])
        splits.append(Split(0, fold, train, ~train))
    cell = Cell("-1", np.arange(len(groups)), groups % 2, groups, groups, splits)
    assert cell.large_groups.tolist() == large
    shares = [sum(counts[group] for group in large) / sum(counts) for counts in training]
    assert cell.compute_within_group_share() == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("split", ["folds", "group_folds", "groups"])
def test_splits_are_found_again_in_predictions(split):
    """Fold by fold the same questions, whatever their order and however many cells there are."""
    random = np.random.default_rng(0)
    count = 60
    answers = pd.DataFrame(
        {
            "question_id": random.permutation(count) * 2,
            "correct": random.random(count) < 0.5,
            "hold_out": False,
            "split_group": np.arange(count),
            "group": (np.arange(count) % 6).astype(str),
        }
    )
    protocol = STRICT.changed(split=split, repeats=1 if split == "groups" else 2)
    keys = pd.DataFrame({"question_id": answers["question_id"], "token": "-1"})
    (cell,), _ = make_cells(keys, answers, ["-1"], protocol)
    predictions = pd.concat(
        pd.DataFrame({"question_id": cell.questions[s.test], "repeat": s.repeat, "fold": s.fold})
        for s in [*cell.splits, *cell.splits]
    ).sample(frac=1, random_state=0)
    found = find_splits_of(predictions, answers, protocol)
    (again,), _ = make_cells(keys, answers, ["-1"], protocol, found)
    assert len(again.splits) == len(cell.splits)
    for one, other in zip(again.splits, cell.splits, strict=True):
        assert (one.repeat, one.fold) == (other.repeat, other.fold)
        assert (one.train == other.train).all()
        assert (one.test == other.test).all()
    some = predictions[predictions["question_id"] != cell.questions[0]]
    assert find_splits_of(some, answers, protocol) is None
    assert find_splits_of(predictions, answers, protocol.changed(split="single")) is None
