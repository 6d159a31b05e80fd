"""Probes of the kind of error against scikit-learn, with planted kinds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from llm_figures.probe.cells import Cell, Split
from llm_figures.probe.kind_probes import (
    find_probed_kinds,
    probe_groups,
    probe_kinds,
    restrict_cell,
    score_kinds,
)
from llm_figures.probe.protocol import PRESETS

COUNT, FEATURES = 300, 12
PROTOCOL = PRESETS["strict"]
NAMES = ["right_always", "wrong_always", "two_competing", "refuses"]


@pytest.fixture
def planted():
    """States in which the first kind is easy to tell, and questions that are in one fold each."""
    random = np.random.default_rng(0)
    kinds = random.choice(NAMES, COUNT, p=[0.4, 0.35, 0.2, 0.05])
    kinds[kinds == "refuses"] = "two_competing"
    kinds[:10] = "refuses"
    states = random.normal(size=(COUNT, FEATURES)).astype(np.float32)
    states[:, 0] += 3 * (kinds == "right_always")
    folds = random.integers(0, 5, COUNT)
    cell = Cell(
        token="exact_answer_last",
        questions=np.arange(COUNT),
        labels=(kinds != "right_always").astype(int),
        groups=(kinds == "wrong_always").astype(int),
        split_groups=np.arange(COUNT),
        splits=[Split(0, fold, folds != fold, folds == fold) for fold in range(5)],
    )
    return states, cell, kinds


def fit(states, cell, kinds, jobs=1, protocol=PROTOCOL):
    rows = [np.arange(len(cell.questions))]
    kind_of = dict(zip(cell.questions, kinds, strict=True))
    layers = [(0, lambda: np.zeros_like(states)), (1, lambda: states)]
    return [
        fit for layer in probe_kinds(layers, rows, [cell], kind_of, protocol, jobs) for fit in layer
    ]


def test_auc_is_that_of_scikit_learn_on_the_same_folds(planted):
    states, cell, kinds = planted
    fits = fit(states, cell, kinds)
    assert {one.kind for one in fits} == set(NAMES) - {"refuses"}  # too few
    for kind in ("right_always", "wrong_always"):
        labels = (kinds == kind).astype(int)
        for split in cell.splits:
            scaler = StandardScaler().fit(states[split.train])
            regression = LogisticRegression(C=1 / FEATURES, max_iter=10_000, tol=1e-10)
            regression.fit(scaler.transform(states[split.train]), labels[split.train])
            scores = regression.decision_function(scaler.transform(states[split.test]))
            expected = roc_auc_score(labels[split.test], scores)
            places = [
                one for one in fits if (one.layer, one.kind, one.control) == (1, kind, "none")
            ]
            assert len(places) == 5
            assert places[split.fold].values[0] == pytest.approx(expected, abs=1e-6)


def test_a_kind_is_told_where_it_is_planted_and_nowhere_else(planted):
    states, cell, kinds = planted
    table = pd.DataFrame({"kind": kinds, "samples": 10})
    kind_of = dict(zip(cell.questions, kinds, strict=True))
    fits = fit(states, cell, kinds)
    fits += probe_groups([cell], kind_of, [0, 1], PROTOCOL)
    scores = score_kinds(fits, table, cell.split_groups, PROTOCOL)
    auc = scores[scores["metric"] == "auc"].set_index(["kind", "layer", "control"])["mean"]
    assert auc["right_always", 1, "none"] > 0.95
    assert auc["right_always", 0, "none"] == 0.5  # equal inputs score equally
    assert auc["two_competing", 1, "none"] < 0.7
    assert abs(auc["right_always", 1, "shuffled_labels"] - 0.5) < 0.15
    # the group alone tells one kind from all others
    assert auc["wrong_always", 1, "group_only"] == auc["wrong_always", 0, "group_only"] == 1
    shares = scores[scores["metric"] == "share"].set_index("kind")
    assert shares["mean"].sum() == pytest.approx(1)
    assert (shares["ci_low"] <= shares["mean"]).all()
    assert (shares["mean"] <= shares["ci_high"]).all()
    assert shares.loc["refuses", "n"] == 10
    assert shares.loc["many_never_right", "n"] == 0
    assert (scores["total"] == COUNT).all()


def test_the_number_of_processes_changes_nothing(planted):
    one, two = (fit(*planted, jobs=jobs) for jobs in (1, 2))
    assert [fit[:4] for fit in one] == [fit[:4] for fit in two]
    assert all((a.values == b.values).all() for a, b in zip(one, two, strict=True))


def test_a_single_split_is_resampled(planted):
    states, cell, kinds = planted
    single = PROTOCOL.changed(split="single")
    fits = fit(states, restrict_to_first_split(cell), kinds, protocol=single)
    assert all(len(one.values) == 1001 for one in fits)
    table = pd.DataFrame({"kind": kinds, "samples": 10})
    scores = score_kinds(fits, table, cell.split_groups, single)
    row = scores[(scores["metric"] == "auc") & (scores["control"] == "none")].iloc[1]
    assert row["ci_low"] < row["mean"] < row["ci_high"]


def restrict_to_first_split(cell):
    whole = restrict_cell(cell, np.ones(len(cell.questions), bool))
    return Cell(**{**vars(whole), "splits": whole.splits[:1]})


def test_a_kind_needs_enough_questions_and_counterexamples():
    assert find_probed_kinds(["refuses"] * 19 + ["other"] * 50) == []
    assert find_probed_kinds(["refuses"] * 20 + ["other"] * 50) == ["refuses", "other"]
    assert find_probed_kinds(["other"] * 50) == []


def test_a_cell_without_some_examples(planted):
    _, cell, _ = planted
    inner = np.arange(COUNT) // 2 % 5
    cell = replace(cell, splits=[replace(split, inner=inner) for split in cell.splits])
    keep = np.arange(COUNT) % 3 == 0
    inner = np.arange(COUNT) % 4
    cell = replace(cell, splits=[replace(split, inner=inner) for split in cell.splits])
    part = restrict_cell(cell, keep)
    assert (part.questions == cell.questions[keep]).all()
    assert (part.splits[0].inner == inner[keep]).all()
    assert all(
        (getattr(a, mask) == getattr(b, mask)[keep]).all()
        for a, b in zip(part.splits, cell.splits, strict=True)
        for mask in ("train", "test", "inner")
    )
