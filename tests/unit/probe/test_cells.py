import numpy as np
import pytest

from llm_figures.probe.cells import assign_folds, split_questions
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
