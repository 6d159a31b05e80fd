"""Nested selection: its criterion beside scikit-learn's, and what it makes of noise and signal."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from llm_figures.probe.best_cell import find_highest_cell, find_nested_cell
from llm_figures.probe.cells import make_cells
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.nested import select_nested, tabulate_nested
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.scores import measure_cells, tabulate_cells
from llm_figures.probe.selection import score_inner_folds
from llm_figures.probe.standardising import find_distinct_rows

STRICT = PRESETS["strict"].changed(controls=())
COUNT, HIDDEN = 240, 30


def answered(labels, group=None):
    return pd.DataFrame(
        {
            "question_id": np.arange(len(labels)),
            "correct": labels == 0,
            "valid": True,
            "hold_out": np.arange(len(labels)) % 4 == 0,
            "split_group": np.arange(len(labels)),
            "group": group,
        }
    )


def make_keys(count, tokens):
    return pd.DataFrame(
        {"question_id": np.tile(np.arange(count), len(tokens)), "token": np.repeat(tokens, count)}
    )


def fitted(layers, answers, protocol, tokens):
    """Predictions of all layers, and the cells; layers: [tokens * questions, hidden] each."""
    cells, rows = make_cells(make_keys(len(answers), tokens), answers, tokens, protocol)
    loaders = [(number, lambda states=states: states) for number, states in enumerate(layers)]
    return pd.concat(list(probe_layers(loaders, rows, cells, protocol, 1))), cells


def scored(layers, answers, protocol, tokens):
    predictions, cells = fitted(layers, answers, protocol, tokens)
    measured = measure_cells(predictions, cells, answers, protocol)
    return pd.concat([tabulate_cells(measured), tabulate_nested(measured)], ignore_index=True)


def noise(seed, rows, hidden=HIDDEN):
    random = np.random.default_rng(seed)
    size, offset = random.lognormal(0, 1, hidden), random.normal(0, 10, hidden)
    return (random.normal(size=(rows, hidden)) * size + offset).astype(np.float32)


def labels_of(seed, count=COUNT):
    return (np.random.default_rng(seed).random(count) < 0.4).astype(int)


def score_by_sklearn(X, labels, split):
    """Mean AUC over inner folds, with a scaler and a ridge regression of each training set."""
    aucs = []
    for inner in np.unique(split.inner[split.train]):
        test = split.train & (split.inner == inner)
        train = split.train & ~test
        if min(len(set(labels[test])), len(set(labels[train]))) < 2:
            continue
        scaler = StandardScaler().fit(X[train])
        ridge = Ridge(alpha=4 * X.shape[1]).fit(scaler.transform(X[train]), labels[train])
        aucs.append(roc_auc_score(labels[test], ridge.predict(scaler.transform(X[test]))))
    return np.mean(aucs)


@pytest.mark.parametrize("split", ["folds", "group_folds", "groups", "single", "hold_out", "two"])
@pytest.mark.parametrize("hidden", [20, 400])
def test_the_criterion_is_the_ridge_regression_of_the_inner_folds(split, hidden):
    labels = labels_of(3)
    X = noise(4, COUNT, hidden) + labels[:, None] * 0.5
    answers = answered(labels, group=(np.arange(COUNT) % 8).astype(str))
    protocol = STRICT.changed(folds=2) if split == "two" else STRICT.changed(split=split, folds=4)
    (cell,), _ = make_cells(make_keys(COUNT, ["-1"]), answers, ["-1"], protocol)
    # Four more digits change no AUC by more than a few pairs that are nearly equal.
    values = score_inner_folds(X.copy(), find_distinct_rows(X), labels, cell.splits)
    expected = [score_by_sklearn(X.astype(float), labels, split) for split in cell.splits]
    assert values == pytest.approx(expected, abs=2e-3)
    for split in cell.splits:  # inner folds do not reach into the test set
        assert not split.test[split.train].any()


def test_the_test_set_has_no_part_in_the_criterion():
    labels, X = labels_of(5), noise(6, COUNT)
    (cell,), _ = make_cells(make_keys(COUNT, ["-1"]), answered(labels), ["-1"], STRICT)
    distinct = find_distinct_rows(X)
    before = score_inner_folds(X.copy(), distinct, labels, cell.splits)
    for number, split in enumerate(cell.splits):
        other, flipped = X.copy(), labels.copy()
        other[split.test] = noise(7, split.test.sum())
        flipped[split.test] = 1 - flipped[split.test]
        after = score_inner_folds(other, find_distinct_rows(other), flipped, cell.splits)
        assert after[number] == pytest.approx(before[number], abs=1e-3)
        assert np.abs(np.delete(after - before, number)).min() > 1e-3


def test_equal_states_score_exactly_one_half():
    labels = labels_of(8)
    X = np.tile(noise(9, 1), (COUNT, 1))
    (cell,), _ = make_cells(make_keys(COUNT, ["-1"]), answered(labels), ["-1"], STRICT)
    values = score_inner_folds(X.copy(), find_distinct_rows(X), labels, cell.splits)
    assert (values == 0.5).all()


def test_groups_that_only_some_folds_have_are_no_signal():
    """A feature that is constant in a training set must not be blown up."""
    labels = labels_of(10)
    X = noise(11, COUNT)
    X[:, 0] = np.arange(COUNT) // 30 == 0
    group = (np.arange(COUNT) // 30).astype(str)
    protocol = STRICT.changed(split="groups")
    (cell,), _ = make_cells(make_keys(COUNT, ["-1"]), answered(labels, group), ["-1"], protocol)
    values = score_inner_folds(X.copy(), find_distinct_rows(X), labels, cell.splits)
    expected = [score_by_sklearn(X.astype(float), labels, split) for split in cell.splits]
    assert values == pytest.approx(expected, abs=5e-3)


def test_the_choice_and_its_score_follow_from_the_predictions():
    """The slow way: loops over splits and cells, and scikit-learn's AUC."""
    labels = labels_of(12)
    tokens, answers = ["last_q", "-1"], answered(labels)
    layers = [noise(20 + n, 2 * COUNT) + np.tile(labels, 2)[:, None] * 0.1 for n in range(5)]
    predictions, cells = fitted(layers, answers, STRICT, tokens)
    measured = measure_cells(predictions, cells, answers, STRICT)
    nested = find_nested_cell(tabulate_nested(measured), "auc")
    values, chosen = [], []
    for split in cells[0].splits:
        inner = {
            (layer, token): score_by_sklearn(
                layers[layer][number * COUNT : (number + 1) * COUNT].astype(float), labels, split
            )
            for layer in range(5)
            for number, token in enumerate(tokens)
        }
        best = max(inner, key=inner.get)
        fold = predictions[
            (predictions["layer"] == best[0])
            & (predictions["token"] == best[1])
            & (predictions["fold"] == split.fold)
        ]
        values.append(roc_auc_score(labels[fold["question_id"]], fold["score"]))
        chosen.append(best)
    assert nested.probe["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    counted = {(row.layer, row.token): row.folds for row in nested.chosen.itertuples()}
    assert counted == {cell: chosen.count(cell) for cell in chosen}
    picked = select_nested(predictions, tokens)
    by_fold = picked.drop_duplicates("fold").set_index("fold")
    assert [(by_fold.loc[n, "layer"], by_fold.loc[n, "token"]) for n in range(5)] == chosen
    assert len(picked) == COUNT


def test_of_noise_the_highest_cell_looks_good_and_the_chosen_one_does_not():
    highest, nested = [], []
    for seed in range(6):
        labels = labels_of(100 + seed)
        layers = [noise(1000 * seed + number, 4 * COUNT, 8) for number in range(12)]
        tokens = ["last_q", "first_answer", "second_answer", "-1"]
        scores = scored(layers, answered(labels), STRICT, tokens)
        highest.append(find_highest_cell(scores, "auc").probe["mean"])
        nested.append(find_nested_cell(scores, "auc").probe["mean"])
    assert min(highest) > 0.55
    assert np.mean(nested) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("split", ["folds", "group_folds", "groups", "single", "hold_out"])
def test_a_planted_cell_is_chosen_in_every_split(split):
    labels = labels_of(13)
    tokens, answers = ["last_q", "-1"], answered(labels, (np.arange(COUNT) % 6).astype(str))
    layers = [noise(40 + number, 2 * COUNT) for number in range(3)]
    layers[2][COUNT:] += 0.6 * labels[:, None]
    protocol = STRICT.changed(split=split)
    scores = scored(layers, answers, protocol, tokens)
    nested, highest = find_nested_cell(scores, "auc"), find_highest_cell(scores, "auc")
    assert nested.chosen[["layer", "token"]].to_numpy().tolist() == [[2, "-1"]]
    assert nested.probe[["mean", "ci_low", "ci_high", "n_test", "folds"]].tolist() == (
        pytest.approx(highest.probe[["mean", "ci_low", "ci_high", "n_test", "folds"]].tolist())
    )
    folds = {"folds": 5, "group_folds": 5, "groups": 6, "single": 1, "hold_out": 1}[split]
    assert nested.probe["folds"] == folds
    # Among the layers of a token that has none, something else is chosen.
    other = find_nested_cell(scores, "auc", "last_q")
    assert set(other.chosen["token"]) == {"last_q"}
    assert other.probe["mean"] < nested.probe["mean"]
    controls = {"none", "embeddings", "group_only"}
    assert set(nested.beside.index) == controls
    gain = nested.beside.loc["embeddings", "gain"]
    assert gain == pytest.approx(highest.beside.loc["embeddings", "gain"])


def test_a_group_of_one_label_is_not_tested_and_the_others_are():
    labels = labels_of(14)
    group = np.arange(COUNT) % 6
    labels[group == 2] = 1
    answers = answered(labels, group.astype(str))
    layers = [noise(50 + n, COUNT) + labels[:, None] * 0.5 for n in range(2)]
    scores = scored(layers, answers, STRICT.changed(split="groups"), ["-1"])
    rows = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    assert (rows["folds"] == 5).all()
    nested = find_nested_cell(scores, "auc")
    assert (nested.probe["folds"], nested.probe["n"]) == (5, COUNT * 5 // 6)
    assert nested.probe["mean"] > 0.6


def test_without_inner_folds_there_is_no_choice():
    """Two groups: a training set of one."""
    labels = labels_of(15)
    answers = answered(labels, (np.arange(COUNT) % 2).astype(str))
    layers = [noise(60, COUNT)]
    scores = scored(layers, answers, STRICT.changed(split="groups"), ["-1"])
    assert find_nested_cell(scores, "auc") is None
    assert find_highest_cell(scores, "auc") is not None


def test_a_token_that_few_answers_have_is_not_named_best():
    """A winner of a third of the answers, where others have all of them."""
    labels = labels_of(16)
    answers = answered(labels)
    keys = make_keys(COUNT, ["last_q", "-8"])
    states = noise(70, 2 * COUNT)
    states[COUNT:] += 2 * labels[:, None]
    few = keys["token"].eq("last_q") | (keys["question_id"] % 3 == 0)
    keys, states = keys[few].reset_index(drop=True), states[few.to_numpy()]
    cells, rows = make_cells(keys, answers, ["last_q", "-8"], STRICT)
    predictions = pd.concat(list(probe_layers([(0, lambda: states)], rows, cells, STRICT, 1)))
    measured = measure_cells(predictions, cells, answers, STRICT)
    scores = pd.concat([tabulate_cells(measured), tabulate_nested(measured)], ignore_index=True)
    assert find_highest_cell(scores, "auc").probe["token"] == "last_q"
    assert find_highest_cell(scores, "auc").scored == 1
    assert find_highest_cell(scores, "auc", ["-8"]).probe["mean"] > 0.9
    assert find_nested_cell(scores, "auc").chosen["token"].tolist() == ["last_q"]
