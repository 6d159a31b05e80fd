"""Calibration beside scikit-learn and SciPy, and pairs of the same group."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from llm_figures.probe.best_cell import (
    ANY_TOKEN,
    BRIER,
    CALIBRATION_ERROR,
    CHOSEN_LAYER,
    OFF_OPTION,
    OTHER_WRONG,
    SLOPE,
    WITHIN_GROUP,
)
from llm_figures.probe.nested_details import measure_calibration, tabulate_nested_details
from llm_figures.probe.protocol import PRESETS

COUNT = 400


def draw(slope, seed=0):
    """Labels, and logits that are too close to zero by a factor of `slope`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.3, 1, COUNT)
    return (random.random(COUNT) < expit(slope * logits)).astype(float), logits


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_calibration_is_that_of_scikit_learn(slope):
    labels, logits = draw(slope)
    found = dict(measure_calibration(labels, logits))
    regression = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], labels)
    assert found[SLOPE] == pytest.approx(regression.coef_[0, 0], rel=1e-5)
    assert abs(found[SLOPE] - slope) < 0.35
    assert found[BRIER] == pytest.approx(brier_score_loss(labels, expit(logits)))
    shares, means = calibration_curve(labels, expit(logits), n_bins=10)
    sizes = np.histogram(expit(logits), bins=10, range=(0, 1))[0]
    error = np.average(abs(shares - means), weights=sizes[sizes > 0])
    assert found[CALIBRATION_ERROR] == pytest.approx(error)


@pytest.mark.parametrize("logits", [np.zeros(COUNT), np.linspace(-1, 1, COUNT)])
def test_no_slope_of_a_constant_or_of_separated_labels(logits):
    labels = (np.arange(COUNT) >= COUNT / 2).astype(float)
    assert np.isnan(dict(measure_calibration(labels, logits))[SLOPE])


def make(protocol=PRESETS["strict"], groups=("a", "b"), off_option=None):
    labels, logits = draw(1.0)
    group = np.array(groups)[np.arange(COUNT) % len(groups)]
    answers = pd.DataFrame(
        {
            "question_id": np.arange(COUNT),
            "group": group,
            "split_group": np.arange(COUNT),
            "correct": labels == 0,
        }
    )
    if off_option is not None:
        answers["off_option"] = off_option
    # The group alone says much, which pairs of one group do not see.
    score = (logits + 5 * (group == "a")).astype(np.float32)
    predictions = pd.DataFrame(
        {"question_id": np.arange(COUNT), "score": score, "layer": 3, "token": "-1"}
    ).assign(repeat=0, fold=np.arange(COUNT) % 5, control="none", inner_auc=0.7)
    table = pd.DataFrame({"layer": [CHOSEN_LAYER] * 2, "token": [ANY_TOKEN, "-1"]})
    table = table.assign(n_train=320, n_test=80, folds=5, unconverged=0, groups=len(groups))
    rows = tabulate_nested_details(predictions, table, answers, ["-1"], ["-1"], protocol)
    # Captions print whole numbers of the table that these rows are added to.
    assert (rows.dtypes[["n", "folds", "n_train", "groups"]] == np.int64).all()
    return rows.set_index(["token", "metric"])["mean"], labels, logits


def test_pairs_of_a_group_are_those_of_its_own_answers():
    rows, labels, logits = make()
    pairs = above = 0
    for group in range(2):
        for fold in range(5):
            inside = (np.arange(COUNT) % 2 == group) & (np.arange(COUNT) % 5 == fold)
            wrong, right = logits[inside & (labels == 1)], logits[inside & (labels == 0)]
            pairs += len(wrong) * len(right)
            above += (wrong[:, None] > right).sum()
    assert rows[ANY_TOKEN, WITHIN_GROUP] == pytest.approx(above / pairs, abs=1e-6)
    assert rows["-1", WITHIN_GROUP] == rows[ANY_TOKEN, WITHIN_GROUP]


def test_only_logits_without_class_weights_are_probabilities():
    assert SLOPE in make()[0][ANY_TOKEN].index
    for changes in ({"class_weight": "balanced"}, {"kind": "lda"}):
        assert make(PRESETS["strict"].changed(**changes))[0][ANY_TOKEN].index.tolist() == [
            WITHIN_GROUP
        ]
    assert WITHIN_GROUP not in make(groups=("a",))[0][ANY_TOKEN].index


def test_wrong_answers_that_name_no_option_are_a_class_of_their_own():
    off = np.arange(COUNT) % 3 == 0
    rows, labels, logits = make(groups=("a",), off_option=off)
    score = (logits + 5).astype(np.float32)
    for metric, wrong in ((OFF_OPTION, off & (labels == 1)), (OTHER_WRONG, ~off & (labels == 1))):
        pairs = above = 0
        for fold in range(5):
            inside = np.arange(COUNT) % 5 == fold
            first, second = score[inside & wrong], score[inside & (labels == 0)]
            pairs += len(first) * len(second)
            above += (first[:, None] > second).sum()
        assert rows[ANY_TOKEN, metric] == pytest.approx(above / pairs, abs=1e-6)
    # where wrong answers are all of one class, there is nothing to divide
    for same in (np.zeros(COUNT, bool), np.ones(COUNT, bool)):
        assert OFF_OPTION not in make(groups=("a",), off_option=same)[0][ANY_TOKEN].index


def test_a_class_that_is_not_tested_has_no_score():
    off = np.arange(COUNT) == int(np.flatnonzero(draw(1.0)[0])[0])  # a single wrong answer
    rows = make(groups=("a",), off_option=off)[0]
    assert np.isnan(rows[ANY_TOKEN, OFF_OPTION])
    assert np.isfinite(rows[ANY_TOKEN, OTHER_WRONG])
