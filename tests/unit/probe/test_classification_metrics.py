import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from llm_figures.probe.classification_metrics import (
    METRICS,
    compute_auc,
    compute_bootstrap_interval,
    compute_fold_interval,
    compute_metrics,
    draw_resamples,
)


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_sklearns(ties):
    random = np.random.default_rng(0)
    labels = (random.random(200) < 0.3).astype(int)
    scores = random.normal(size=200) + labels
    if ties:
        scores = scores.round()
    found = {name: value[0] for name, value in compute_metrics(labels, scores).items()}
    assert found == pytest.approx(
        {
            "auc": roc_auc_score(labels, scores),
            "accuracy": accuracy_score(labels, scores > 0),
            "f1": f1_score(labels, scores > 0),
            "average_precision": average_precision_score(labels, scores),
        },
        abs=1e-12,
    )


def test_weights_count_an_example_as_often_as_they_say():
    random = np.random.default_rng(1)
    labels, scores = np.arange(30) % 2, random.normal(size=30).round(1)
    weights = random.integers(0, 4, size=(5, 30)).astype(float)
    found = compute_metrics(labels, scores, weights)
    for draw, counts in enumerate(weights.astype(int)):
        repeated = compute_metrics(np.repeat(labels, counts), np.repeat(scores, counts))
        for name in METRICS:
            assert found[name][draw] == pytest.approx(repeated[name][0], abs=1e-12)


def test_metrics_by_hand():
    labels = np.array([0, 0, 1, 1])
    assert compute_metrics(labels, np.array([0.1, 0.4, 0.35, 0.8]))["auc"] == 0.75
    assert compute_metrics(labels, np.zeros(4))["auc"] == 0.5
    assert compute_metrics(labels, np.full(4, -1.0))["f1"] == 0
    assert np.isnan(compute_metrics(np.ones(4, int), np.arange(4.0))["auc"]).all()


def test_the_interval_is_wider_than_that_of_independent_folds():
    values = [0.7, 0.72, 0.74, 0.76, 0.78]
    mean, low, high = compute_fold_interval(values, n_train=80, n_test=20)
    assert mean == pytest.approx(0.74)
    # variance 0.001, times 1/5 + 20/80; t(0.975, 4) = 2.776
    assert (high - low) / 2 == pytest.approx(2.776 * np.sqrt(0.001 * 0.45), rel=1e-3)
    assert np.isnan(compute_fold_interval([0.5], 80, 20)).all()


def test_examples_of_one_question_are_drawn_together():
    """Fifty copies of an example say no more than one."""
    labels, scores = np.arange(40) % 2, np.random.default_rng(3).normal(size=40)
    once = compute_metrics(labels, scores, draw_resamples(np.arange(40), 500, 0))["auc"]
    copies = [np.repeat(values, 50) for values in (labels, scores, np.arange(40))]
    many = compute_metrics(*copies[:2], draw_resamples(copies[2], 500, 0))["auc"]
    np.testing.assert_allclose(many, once, atol=1e-12)


def test_the_bootstrap_interval_covers_as_often_as_it_says():
    """Accuracy of 60 answers of which 7 in 10 are called right: known by the binomial."""
    random, inside = np.random.default_rng(2), 0
    for trial in range(200):
        labels = np.arange(60) % 2
        right = random.random(60) < 0.7
        scores = np.where(right == (labels == 1), 1.0, -1.0)
        values = compute_metrics(labels, scores, draw_resamples(np.arange(60), 200, trial))[
            "accuracy"
        ]
        mean, low, high = compute_bootstrap_interval(values)
        assert mean == pytest.approx(right.mean())
        inside += low <= 0.7 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_the_auc_alone_is_that_among_the_metrics():
    random = np.random.default_rng(4)
    labels, scores = np.arange(40) % 2, random.normal(size=40).round(1)
    weights = random.integers(0, 3, size=(20, 40)).astype(float)
    weights[0] = labels  # a draw without one of the classes
    weights[1] = 0
    found = compute_auc(labels, scores, weights)
    np.testing.assert_array_equal(found, compute_metrics(labels, scores, weights)["auc"])
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()
    assert compute_auc(np.ones(3, int), np.arange(3.0), np.ones((1, 3))) == pytest.approx(
        [np.nan], nan_ok=True
    )
    # 3 above 1 and beside 1: one pair won, one tied, the second counted twice
    by_hand = compute_auc(
        np.array([0, 0, 1]), np.array([1.0, 3.0, 3.0]), np.array([[1.0, 2.0, 1.0]])
    )
    assert by_hand == pytest.approx([(1 + 2 / 2) / 3])
