import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from llm_figures.errors import UserError
from llm_figures.probes import (
    accuracy,
    assign_folds,
    auc,
    check_labels,
    cross_validate,
    fit_dual,
    interval,
    probe_layer,
    standardised,
)

COUNT, HIDDEN = 300, 24


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random(COUNT) < 0.4).astype(int)


def noise(seed, count=COUNT, hidden=HIDDEN):
    """States as models have them: features of very different size and offset."""
    random = np.random.default_rng(seed)
    size, offset = random.lognormal(0, 2, hidden), random.normal(0, 30, hidden)
    return (random.normal(size=(count, hidden)) * size + offset).astype(np.float32)


@pytest.mark.parametrize("penalty", [1.0, 0.01, 1 / HIDDEN])
def test_the_fit_is_sklearns_converged_one(labels, penalty):
    states = noise(0)
    states[:, 0] += 2 * labels * states[:, 0].std()
    train = np.arange(COUNT) < 200
    rows = standardised(states, train)
    probe = fit_dual(penalty * rows[train] @ rows[train].T, labels[train])
    assert probe.converged
    found = penalty * rows[~train] @ rows[train].T @ probe.dual + probe.intercept
    reference = LogisticRegression(C=penalty, tol=1e-10, max_iter=10_000)
    reference.fit(rows[train].astype(float), labels[train])
    np.testing.assert_allclose(found, reference.decision_function(rows[~train]), atol=1e-3)
    assert auc(labels[~train], found) == pytest.approx(roc_auc_score(labels[~train], found))


def test_separable_labels_converge_too(labels):
    rows = standardised(noise(0), np.ones(COUNT, bool))
    rows[:, 0] = 10 * (2 * labels - 1)
    assert fit_dual(rows @ rows.T, labels).converged


def test_standardised_uses_the_training_rows_and_drops_what_does_not_vary():
    states = noise(3)
    states[:, 5] = 7.1
    train = np.arange(COUNT) < 100
    rows = standardised(states, train)
    varying = np.arange(HIDDEN) != 5
    np.testing.assert_allclose(rows[train].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows[train][:, varying].std(axis=0), 1, atol=1e-5)
    assert (rows[:, 5] == 0).all()
    assert np.abs(rows[~train].mean(axis=0)).max() > 0.01


def test_auc_and_accuracy_by_hand():
    labels = np.array([0, 0, 1, 1])
    assert auc(labels, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auc(labels, np.zeros(4)) == 0.5
    assert accuracy(labels, np.array([-1.0, 2.0, 3.0, 4.0])) == 0.75


def test_a_planted_direction_is_found_at_its_layer_and_token_and_nowhere_else(labels):
    tokens = ["last_q", "exact_answer_last", "-1"]
    folds = assign_folds(labels, list(map(str, range(COUNT))), folds=5, repeats=1, seed=0)
    cells = pd.DataFrame(
        {
            "token": np.repeat(tokens, COUNT),
            "label": np.tile(labels, 3),
            "fold_0": np.tile(folds[0], 3),
        }
    )
    found = []
    for layer in range(4):
        states = noise(layer, 3 * COUNT)
        if layer == 2:
            at = (cells["token"] == "exact_answer_last").to_numpy()
            direction = np.random.default_rng(9).normal(size=HIDDEN) * states.std(axis=0)
            states[at] += 0.6 * labels[:, None] * direction
        scores = probe_layer(states, cells, tokens, C=1 / HIDDEN, seed=0, threads=2)
        found.append(scores.assign(layer=layer))
    scores = pd.concat(found)
    scores = scores[scores["metric"] == "auc"].set_index(["control", "layer", "token"])["mean"]
    assert scores["none", 2, "exact_answer_last"] > 0.9
    others = scores["none"].drop((2, "exact_answer_last"))
    assert others.between(0.38, 0.62).all(), others
    assert scores["shuffled_labels"].between(0.35, 0.65).all()


def test_identical_inputs_score_exactly_one_half(labels):
    states = np.repeat(noise(0)[:1], COUNT, axis=0)
    folds = assign_folds(labels, list(map(str, range(COUNT))), folds=5, repeats=1, seed=0)
    scores = cross_validate(states, labels, folds, C=1.0, seed=0)
    scores = scores[scores["metric"] == "auc"]
    assert (scores["mean"] == 0.5).all()


def test_copies_of_an_input_tie_exactly(labels):
    """A few distinct inputs, as tokens in the embeddings: order within the copies is no signal."""
    which = np.arange(COUNT) % 3
    folds = assign_folds(labels, list(map(str, range(COUNT))), folds=5, repeats=1, seed=0)
    found = cross_validate(noise(0)[which], labels, folds, C=1.0, seed=0)
    expected = []
    for fold in range(5):
        train, test = folds[0] != fold, folds[0] == fold
        rows = standardised(noise(0)[which], train)
        probe = fit_dual(rows[train] @ rows[train].T, labels[train])
        value = {
            kind: (rows[which == kind][:1] @ rows[train].T @ probe.dual).item() for kind in range(3)
        }
        expected.append(auc(labels[test], np.array([value[kind] for kind in which[test]])))
    found = found.set_index(["control", "metric"])["mean"]["none", "auc"]
    assert found == pytest.approx(np.mean(expected), abs=1e-12)


def test_equal_questions_share_a_fold_and_labels_are_balanced(labels):
    questions = [f"question {index % 150}" for index in range(COUNT)]
    folds = assign_folds(labels, questions, folds=5, repeats=2, seed=0)
    assert folds.shape == (2, COUNT)
    for repeat in folds:
        assert (repeat[:150] == repeat[150:]).all()
        rates = [labels[repeat == fold].mean() for fold in range(5)]
        assert max(rates) - min(rates) < 0.1
    assert (folds[0] != folds[1]).any()


def test_too_few_of_a_label_leave_a_cell_empty():
    labels = (np.arange(COUNT) < 19).astype(int)
    folds = np.arange(COUNT)[None] % 5
    scores = cross_validate(noise(0), labels, folds, C=1.0, seed=0)
    assert scores["mean"].isna().all()
    assert (scores["folds"] == 0).all()


def test_the_interval_is_wider_than_that_of_independent_folds():
    values = [0.7, 0.72, 0.74, 0.76, 0.78]
    mean, low, high = interval(values, n_train=80, n_test=20)
    assert mean == pytest.approx(0.74)
    # variance 0.001, times 1/5 + 20/80; t(0.975, 4) = 2.776
    assert (high - low) / 2 == pytest.approx(2.776 * np.sqrt(0.001 * 0.45), rel=1e-3)


@pytest.mark.parametrize("right", [0, 19, 81, 100])
def test_fewer_than_twenty_of_either_label_is_one_clear_line(right):
    correct = np.arange(100) < right
    with pytest.raises(UserError, match=rf"{right} right and {100 - right} wrong .* at least 20"):
        check_labels(correct, ["Paris."])
