"""The permutation test of the highest cell, beside loops over scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from llm_figures.probe.cells import make_cells
from llm_figures.probe.classification_metrics import compute_auc, compute_column_aucs, compute_p
from llm_figures.probe.permutation import (
    find_movable,
    permute_labels,
    score_permuted_cell,
    score_permuted_cells,
)
from llm_figures.probe.protocol import PRESETS

STRICT = PRESETS["strict"]
COUNT = 120


def make_cell(labels, split="folds", group=None):
    answers = pd.DataFrame(
        {
            "question_id": np.arange(len(labels)),
            "correct": labels == 0,
            "valid": True,
            "hold_out": np.arange(len(labels)) % 3 == 0,
            "split_group": np.arange(len(labels)),
            "group": group,
        }
    )
    keys = pd.DataFrame({"question_id": np.arange(len(labels)), "token": "-1"})
    (cell,), _ = make_cells(keys, answers, ["-1"], STRICT.changed(split=split))
    return cell


def noise(seed, rows=COUNT, hidden=12):
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, hidden)) * 3 + 5).astype(np.float32)


def labels_of(seed, count=COUNT):
    return (np.random.default_rng(seed).random(count) < 0.45).astype(int)


def score_by_sklearn(X, cell, labels):
    aucs = []
    for split in cell.splits:
        scaler = StandardScaler().fit(X[split.train])
        ridge = Ridge(alpha=4 * X.shape[1])
        ridge.fit(scaler.transform(X[split.train]), labels[split.train])
        scores = ridge.predict(scaler.transform(X[split.test]))
        aucs.append(roc_auc_score(labels[split.test], scores))
    return np.mean(aucs)


@pytest.mark.parametrize("hidden", [10, 200])
@pytest.mark.parametrize("split", ["folds", "single"])
def test_statistics_are_those_of_a_ridge_regression_for_each_permutation(hidden, split):
    labels = labels_of(1)
    X = noise(2, hidden=hidden) + labels[:, None] * 0.3
    cell = make_cell(labels, split)
    permuted = permute_labels(labels, np.arange(COUNT) % 3, np.arange(COUNT), 6, seed=0)
    columns = np.vstack([labels, permuted]).T
    found = score_permuted_cell(X.astype(np.float32), cell, columns)
    expected = [score_by_sklearn(X.astype(float), cell, column) for column in columns.T]
    assert found == pytest.approx(expected, abs=1e-3)


def test_labels_move_within_groups_alone():
    labels, groups = labels_of(3), np.arange(COUNT) % 4
    permuted = permute_labels(labels, groups, np.arange(COUNT), 50, seed=1)
    assert permuted.shape == (50, COUNT)
    for group in range(4):
        counts = permuted[:, groups == group].sum(axis=1)
        assert (counts == labels[groups == group].sum()).all()
    assert find_movable(labels, groups, np.arange(COUNT)) == 1
    assert len(np.unique(permuted, axis=0)) == 50
    again = permute_labels(labels, groups, np.arange(COUNT), 50, seed=1)
    assert (again == permuted).all()
    assert (permute_labels(labels, groups, np.arange(COUNT), 50, seed=2) != permuted).any()


def test_every_order_is_as_likely():
    labels = np.array([1, 0, 0, 0])
    permuted = permute_labels(labels, np.zeros(4, int), np.arange(4), 4000, seed=0)
    assert permuted.mean(axis=0) == pytest.approx([0.25] * 4, abs=0.03)


def test_labels_of_equal_questions_move_together():
    """Pairs of one question: their labels go to another pair, in the order of their groups."""
    labels = np.array([1, 0, 0, 1, 0, 0, 1, 1, 0, 1])
    groups = np.array([0, 1, 0, 1, 0, 1, 0, 0, 1, 1])
    equal = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6])
    permuted = permute_labels(labels, groups, equal, 200, seed=0)
    pairs = {tuple(row[[2 * n, 2 * n + 1]]) for row in permuted for n in range(3)}
    assert pairs == {(1, 0), (0, 1), (0, 0)}
    for row in permuted:
        drawn = sorted(tuple(row[[2 * n, 2 * n + 1]]) for n in range(3))
        assert drawn == [(0, 0), (0, 1), (1, 0)]
        assert row[6:8].tolist() == [1, 1]
        assert sorted(row[8:]) == [0, 1]


def test_groups_of_one_keep_their_labels():
    labels = labels_of(4)
    permuted = permute_labels(labels, np.arange(COUNT), np.arange(COUNT), 20, seed=0)
    assert (permuted == labels).all()
    assert find_movable(labels, np.arange(COUNT), np.arange(COUNT)) == 0


def test_a_label_that_did_not_change_by_chance_can_change():
    """One wrong answer among many: 20 permutations leave most right ones as they are."""
    labels = (np.arange(COUNT) == 0).astype(int)
    assert find_movable(labels, np.zeros(COUNT, int), np.arange(COUNT)) == 1
    # Two groups, of which one has right answers alone.
    assert find_movable(labels, np.arange(COUNT) % 2, np.arange(COUNT)) == 0.5
    # Pairs of one question: of three pairs two have the same labels, and one question none other.
    pairs = np.array([0, 0, 1, 1, 2, 2])
    labels = np.array([0, 1, 0, 0, 0, 1])
    assert find_movable(labels, np.array([0, 1] * 3), pairs) == 0.5


def test_the_area_of_every_column_is_that_of_one():
    random = np.random.default_rng(5)
    scores = random.integers(0, 6, (40, 30)).astype(np.float32)  # many ties
    scores[:, 1] = 2
    labels = random.integers(0, 2, (40, 30))
    labels[:, 2] = 1
    found = compute_column_aucs(labels, scores)
    expected = [compute_auc(labels[:, n], scores[:, n], np.ones((1, 40)))[0] for n in range(30)]
    np.testing.assert_array_equal(found, expected)
    assert found[1] == 0.5
    assert np.isnan(found[2])


def test_equal_states_score_exactly_one_half_whatever_the_labels():
    labels = labels_of(6)
    permuted = permute_labels(labels, np.zeros(COUNT, int), np.arange(COUNT), 10, seed=0)
    columns = np.vstack([labels, permuted]).T
    values = score_permuted_cell(np.tile(noise(7, 1), (COUNT, 1)), make_cell(labels), columns)
    assert (values == 0.5).all()
    # The maximum of such cells is no evidence of anything.
    assert compute_p(values[0], values[1:]) == 1


def find_p(seed, strength=0.0, group=None, within=None, count=39):
    """p of the highest of four cells."""
    labels = labels_of(seed) if group is None else group
    cell = make_cell(labels)
    groups = np.zeros(COUNT, int) if within is None else within
    permuted = permute_labels(labels, groups, np.arange(COUNT), count, seed)
    columns = np.vstack([labels, permuted]).T
    layers = [noise(100 * seed + n, hidden=6) for n in range(4)]
    layers[3] = layers[3] + (strength * labels[:, None]).astype(np.float32)
    loaders = [(n, lambda states=states: states) for n, states in enumerate(layers)]
    rows = [np.arange(COUNT)]
    found = score_permuted_cells(loaders, rows, [cell], columns, [np.arange(COUNT)], jobs=1)
    values = np.array([aucs for _, aucs in found])
    maxima = values.max(axis=(0, 1))
    return compute_p(maxima[0], maxima[1:])


def test_p_is_uniform_without_a_signal():
    values = np.array([find_p(seed) for seed in range(60)])
    assert 0.35 < values.mean() < 0.65
    assert (values <= 0.1).mean() <= 0.2
    assert (values <= 0.5).mean() == pytest.approx(0.5, abs=0.2)


def test_p_is_least_with_a_signal_in_one_cell():
    assert [find_p(seed, strength=4.0) for seed in range(3)] == [1 / 40] * 3


def test_what_the_group_gives_away_is_no_evidence_within_groups():
    """States hold the group, and the group decides most labels."""
    random = np.random.default_rng(8)
    groups = np.arange(COUNT) % 2
    labels = np.where(random.random(COUNT) < 0.85, groups, 1 - groups)
    X = noise(9, hidden=6)
    X[:, 0] += 20 * groups
    cell = make_cell(labels)
    values = {}
    for name, within in (("overall", np.zeros(COUNT, int)), ("within", groups)):
        permuted = permute_labels(labels, within, np.arange(COUNT), 99, seed=0)
        columns = np.vstack([labels, permuted]).T
        aucs = score_permuted_cell(X.copy(), cell, columns)
        values[name] = compute_p(aucs[0], aucs[1:])
    assert values["overall"] == 0.01
    assert values["within"] > 0.05
