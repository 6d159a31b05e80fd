import numpy as np
import pytest

from llm_figures.probe.cells import assign_folds, splits
from llm_figures.probe.protocol import protocol

COUNT = 300
STRICT = protocol({"preset": "strict", "seed": 0}, hold_out=False)


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random(COUNT) < 0.4).astype(int)


def test_twins_share_a_fold_and_labels_are_balanced(labels):
    twins = np.arange(COUNT) % 150
    folds = [assign_folds(labels, twins, folds=5, seed=seed) for seed in (0, 1)]
    for found in folds:
        assert (found[:150] == found[150:]).all()
        rates = [labels[found == fold].mean() for fold in range(5)]
        assert max(rates) - min(rates) < 0.1
    assert (folds[0] != folds[1]).any()


def test_splits_test_every_question_once_a_repeat_or_what_they_say(labels):
    nobody, twins = np.zeros(COUNT, bool), np.arange(COUNT)
    found = splits(labels, twins, nobody, STRICT | {"repeats": 2})
    assert len(found) == 10
    tested = sum(split.test.astype(int) for split in found)
    assert (tested == 2).all()
    assert all((split.train == ~split.test).all() for split in found)
    (single,) = splits(labels, twins, nobody, STRICT | {"split": "single"})
    assert single.test.sum() == COUNT / 5
    (single,) = splits(labels, twins % 150, nobody, STRICT | {"split": "single"})
    assert (single.test[:150] == single.test[150:]).all()
    held = np.arange(COUNT) >= 250
    (split,) = splits(labels, twins, held, protocol({"preset": "strict", "seed": 0}, True))
    assert (split.test == held).all()
    assert (split.train == ~held).all()
