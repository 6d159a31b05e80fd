from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import assign_folds, make_cells, split_questions
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.fitting import (
    _shuffle_within_groups,
    list_tasks,
    probe_cell,
    probe_layers,
)
from llm_figures.probe.newton import Dual, Primal, make_solver
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.scores import compute_probe_scores
from llm_figures.probe.split_fitter import ProbeFitter
from llm_figures.probe.standardising import find_distinct_rows, standardise

COUNT, HIDDEN = 300, 24
STRICT = PRESETS["strict"]
TOKENS = ["last_q", "exact_answer_last", "-1"]


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random(COUNT) < 0.4).astype(int)


def noise(seed, count=COUNT, hidden=HIDDEN):
    """States as models have them: features of very different size and offset."""
    random = np.random.default_rng(seed)
    size, offset = random.lognormal(0, 2, hidden), random.normal(0, 30, hidden)
    return (random.normal(size=(count, hidden)) * size + offset).astype(np.float32)


def answered(labels, group=None, **columns):
    """Answers as judged, wrong where the label is 1."""
    count = len(labels)
    return pd.DataFrame(
        {
            "question_id": np.arange(count),
            "correct": labels == 0,
            "valid": True,
            "hold_out": False,
            "split_group": np.arange(count),
            "group": group if group is not None else None,
            "answer": "x",
            **columns,
        }
    )


def scored(layers, answers, chosen=STRICT, tokens=TOKENS, keys=None, jobs=1):
    """Tidy scores of states [len(tokens) * questions, hidden] per layer, token by token."""
    if keys is None:
        ids = answers["question_id"]
        keys = pd.DataFrame(
            {"question_id": np.tile(ids, len(tokens)), "token": np.repeat(tokens, len(ids))}
        )
    cells, rows = make_cells(keys, answers, tokens, chosen)
    return compute_probe_scores(
        pd.concat(fitted(layers, rows, cells, chosen, jobs)), cells, answers, chosen
    )


def fitted(layers, rows, cells, chosen, jobs=1):
    """A frame of predictions of every layer."""
    states = [(layer, partial(np.asarray, values)) for layer, values in enumerate(layers)]
    return list(probe_layers(states, rows, cells, chosen, jobs))


def standardised(states, train):
    """All rows as the training ones say."""
    rows = states.copy()
    standardise(states[train], rows)
    return rows


def means(scores, metric="auc", value="mean"):
    return scores[scores["metric"] == metric].set_index(["control", "layer", "token"])[value]


@pytest.mark.parametrize("kind", [Primal, Dual])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("penalty", [1.0, 0.01, 1 / HIDDEN])
def test_the_fits_are_sklearns_converged_ones(labels, penalty, balanced, kind):
    """Of several training sets and labels at once, each with its own scales and offsets."""
    states = noise(0)
    states[:, 0] += 2 * labels * states[:, 0].std()
    random = np.random.default_rng(1)
    rows = standardised(states, np.ones(COUNT, bool))
    trains = np.array([random.random(COUNT) < 0.7 for _ in range(5)])
    fitted = np.array([labels, labels, random.permutation(labels), 1 - labels, labels])
    scales, offsets = random.uniform(0.5, 2, (5, HIDDEN)), random.normal(size=(5, HIDDEN))
    scales[1, 3] = offsets[1, 3] = 0
    weights = trains.astype(float)
    if balanced:
        for own, train, used in zip(weights, trains, fitted, strict=True):
            own[train] = (train.sum() / (2 * np.bincount(used[train])))[used[train]]
    fits = kind(rows).fit(fitted, weights, penalty, scales, offsets)
    assert fits.converged.all()
    for number, train in enumerate(trains):
        features = rows.astype(float) * scales[number] + offsets[number]
        reference = LogisticRegression(
            C=penalty, tol=1e-10, max_iter=10_000, class_weight="balanced" if balanced else None
        )
        reference.fit(features[train], fitted[number, train])
        expected = reference.decision_function(features)
        np.testing.assert_allclose(fits.logits[number], expected, atol=1e-3)
        found = features @ fits.weights[number] + fits.intercepts[number]
        np.testing.assert_allclose(found, fits.logits[number], atol=1e-9)
    assert fits.weights[1, 3] == 0


@pytest.mark.parametrize("kind", [Primal, Dual])
def test_what_is_not_trained_on_has_no_part_in_a_fit(labels, kind):
    rows = standardised(noise(0), np.ones(COUNT, bool))
    train = np.arange(COUNT) < 200
    fit = kind(rows).fit(labels[None], train[None], 1.0)
    other = rows.copy()
    other[~train] = 3
    after = kind(other).fit(np.where(train, labels, 1 - labels)[None], train[None], 1.0)
    np.testing.assert_allclose(fit.weights, after.weights, atol=1e-5)
    np.testing.assert_allclose(fit.logits[:, train], after.logits[:, train], atol=1e-4)


@pytest.mark.parametrize("kind", [Primal, Dual])
def test_separable_labels_converge_too(labels, kind):
    rows = standardised(noise(0), np.ones(COUNT, bool))
    rows[:, 0] = 10 * (2 * labels - 1)
    assert kind(rows).fit(labels[None], np.ones((1, COUNT)), 1.0).converged.all()


def test_more_features_than_examples_and_the_other_way_round_take_the_cheaper_system():
    assert isinstance(make_solver(np.zeros((10, 20), np.float32)), Dual)
    assert isinstance(make_solver(np.zeros((20, 10), np.float32)), Primal)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("C", [1.0, "auto"])
def test_fits_made_together_are_those_of_each_split_by_itself(labels, C, standardise):
    """Also where a feature varies in the test set alone."""
    states = noise(0)
    states[:, 0] += 2 * labels * states[:, 0].std()
    chosen = STRICT.changed(C=C, standardise=standardise)
    keys = pd.DataFrame({"question_id": np.arange(COUNT), "token": "-1"})
    (cell,), _ = make_cells(keys, answered(labels), ["-1"], chosen)
    states[:, 7] = 4.2
    states[cell.splits[2].test, 7] = np.arange(cell.splits[2].test.sum())
    frame = probe_cell(states, cell, 0, chosen)
    assert frame["converged"].all()
    for task in list_tasks(cell, 0, chosen):
        split = task.split
        groups = cell.split_groups[split.train]
        fitter = ProbeFitter(states[split.train], states[split.test], chosen, groups)
        fit = fitter.fit(task.labels)
        found = frame[(frame["fold"] == split.fold) & (frame["control"] == task.control)]
        np.testing.assert_allclose(found["score"], fit.scores, atol=2e-3)


def few_distinct(states):
    return states[np.random.default_rng(5).integers(0, 3, len(states))]


def outlier_row(states):
    states[11] *= 1e4
    return states


def outlier_value(states):
    states[11, 3] += 1e5 * states[:, 3].std()
    return states


@pytest.mark.parametrize("spoil", [few_distinct, outlier_row, outlier_value])
@pytest.mark.parametrize("hidden", [HIDDEN, 2 * COUNT])
def test_odd_states_are_fitted_to_convergence(labels, spoil, hidden):
    """Also where the one training set without an outlier is unlike all others."""
    states = spoil(noise(0, hidden=hidden))
    keys = pd.DataFrame({"question_id": np.arange(COUNT), "token": "-1"})
    (cell,), _ = make_cells(keys, answered(labels), ["-1"], STRICT)
    frame = probe_cell(states, cell, 0, STRICT)
    assert frame["converged"].all()
    for split in cell.splits:
        rows = standardised(states, split.train).astype(float)
        reference = LogisticRegression(C=1 / hidden, tol=1e-10, max_iter=10_000)
        reference.fit(rows[split.train], labels[split.train])
        own = frame[(frame["fold"] == split.fold) & (frame["control"] == "none")]
        expected = reference.decision_function(rows[split.test])
        np.testing.assert_allclose(own["score"], expected, rtol=1e-3, atol=1e-3)


def test_a_feature_that_does_not_vary_breaks_no_tie():
    """Its sign may be that of zero."""
    X = np.tile(np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32), (2, 1))
    X[:, 2] = np.repeat(np.array([0.0, -0.0], np.float32), 10)
    first, of_row = find_distinct_rows(X)
    assert len(first) == 10
    np.testing.assert_array_equal(of_row[:10], of_row[10:])


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


def planted(labels, strength=0.6):
    """Four layers of noise with a direction inserted at layer 2, exact_answer_last."""
    layers = [noise(layer, len(TOKENS) * COUNT) for layer in range(4)]
    at = np.repeat(TOKENS, COUNT) == "exact_answer_last"
    direction = np.random.default_rng(9).normal(size=HIDDEN) * layers[2].std(axis=0)
    layers[2][at] += (strength * labels[:, None] * direction).astype(np.float32)
    return layers


def test_a_planted_direction_is_found_at_its_layer_and_token_and_nowhere_else(labels):
    scores = scored(planted(labels), answered(labels))
    auc = means(scores)
    assert auc["none", 2, "exact_answer_last"] > 0.9
    others = auc["none"].drop((2, "exact_answer_last"))
    assert others.between(0.38, 0.62).all(), others
    assert auc["shuffled_labels"].between(0.35, 0.65).all()
    above = means(scores, value="gain_low")
    assert above["shuffled_labels", 2, "exact_answer_last"] > 0
    assert above["embeddings", 2, "exact_answer_last"] > 0.2
    assert (scores["unconverged"] == 0).all()


def test_label_noise_costs_what_it_must(labels):
    """With a share q of the labels flipped the best AUC there is falls towards one half."""
    found = []
    for flipped in (0.0, 0.15, 0.3):
        flip = np.random.default_rng(5).random(COUNT) < flipped
        noisy = np.where(flip, 1 - labels, labels)
        auc = means(scored(planted(labels, strength=1.5), answered(noisy)))
        found.append(auc["none", 2, "exact_answer_last"])
    assert found[0] > 0.97
    assert found[0] - 0.05 > found[1] > found[2] + 0.05
    assert 0.55 < found[2] < 0.8  # 0.7 of the labels are true: 0.7 AUC for a perfect probe


def test_a_group_confound_is_exposed_by_the_controls():
    """The group is in the states and decides how often answers are wrong; nothing else is there."""
    random = np.random.default_rng(3)
    group = random.integers(0, 3, COUNT)
    labels = (random.random(COUNT) < np.array([0.1, 0.5, 0.9])[group]).astype(int)
    layers = [noise(layer, len(TOKENS) * COUNT) for layer in range(2)]
    directions = random.normal(size=(3, HIDDEN)) * layers[1].std(axis=0)
    layers[1] += np.tile(directions[group], (len(TOKENS), 1)).astype(np.float32)
    scores = scored(layers, answered(labels, group=group.astype(str)))
    auc, gain = means(scores), means(scores, value="gain_low")
    for token in TOKENS:
        assert auc["none", 1, token] > 0.75  # looks like a finding …
        assert auc["shuffled_within_group", 1, token] > 0.72
        assert auc["group_only", 1, token] > 0.75
        assert not gain["shuffled_within_group", 1, token] > 0  # … and is not one
        assert not gain["group_only", 1, token] > 0
        assert gain["shuffled_labels", 1, token] > 0


@pytest.mark.parametrize(("size", "groups"), [(1, 300), (7, 43), (24, 13), (300, 1)])
def test_labels_are_not_shuffled_within_groups_too_small_for_it(labels, size, groups):
    """A group of one would keep its label; shuffled together they are no groups."""
    group = (np.arange(COUNT) // size).astype(str)
    scores = scored(planted(labels), answered(labels, group=group))
    assert "shuffled_within_group" not in set(scores["control"])
    assert ("group_only" in set(scores["control"])) == (groups > 1)
    assert (scores["groups"] == groups).all()
    assert scores["within_group"].isna().all()


def test_small_groups_are_shuffled_together_and_their_share_is_in_the_scores():
    """Two groups of 100 that decide the label, and 100 small ones that decide it, too."""
    random = np.random.default_rng(3)
    group = np.repeat([0, 1, *range(2, 102)], [100, 100, *[1] * 100])
    labels = np.where(group < 2, group, random.integers(0, 2, len(group)))
    scores = scored([noise(layer, len(TOKENS) * COUNT) for layer in range(2)],
                    answered(labels, group=group.astype(str)))  # fmt: skip
    rows = scores[scores["control"] == "shuffled_within_group"]
    assert rows["within_group"].to_numpy() == pytest.approx(2 / 3, abs=0.01)
    assert scores.loc[scores["control"] != "shuffled_within_group", "within_group"].isna().all()
    assert (scores["groups"] == 102).all()
    cells, _ = make_cells(
        pd.DataFrame({"question_id": np.arange(COUNT), "token": "-1"}),
        answered(labels, group=group.astype(str)), ["-1"], STRICT,
    )  # fmt: skip
    (cell,) = cells
    assert cell.large_groups.tolist() == [0, 1]
    train = cell.splits[0].train
    shuffled = _shuffle_within_groups(
        labels[train], cell.groups[train], cell.large_groups, np.random.default_rng(0)
    )
    large = group[train] < 2
    assert (shuffled[large] == group[train][large]).all()
    assert (shuffled[~large] != labels[train][~large]).any()
    assert shuffled[~large].sum() == labels[train][~large].sum()


def test_all_labels_are_shuffled_within_group_where_all_groups_are_large(labels):
    group = (np.arange(COUNT) // 43).astype(str)
    scores = scored([noise(0, 3 * COUNT)], answered(labels, group=group))
    rows = scores[scores["control"] == "shuffled_within_group"]
    assert (rows["within_group"] == 1).all()
    assert len(rows) == len(TOKENS) * 4


@pytest.fixture
def one_label_per_group():
    """Answers in 24 groups of 7, one random label per group, and states that hold the group."""
    random = np.random.default_rng(2)
    group = np.repeat(np.arange(24), 7)
    labels = random.permutation(np.arange(24) % 2)[group]
    vectors = random.normal(size=(24, HIDDEN))
    layers = [
        (vectors[group] + random.normal(scale=0.3, size=(len(group), HIDDEN))).astype(np.float32)
        for _ in range(2)
    ]
    return answered(labels, group=np.char.add("topic ", group.astype(str))), layers


def test_a_label_per_group_is_known_by_group_and_to_no_other(one_label_per_group):
    answers, layers = one_label_per_group
    folds = scored(layers, answers, tokens=["-1"])
    auc, gain = means(folds), means(folds, value="gain_low")
    for layer in (0, 1):
        assert auc["none", layer, "-1"] > 0.95
        assert auc["group_only", layer, "-1"] > 0.95
        assert not gain["group_only", layer, "-1"] > 0
    by_group = scored(layers, answers, STRICT.changed(split="group_folds"), tokens=["-1"])
    low, high = means(by_group, value="ci_low"), means(by_group, value="ci_high")
    for layer in (0, 1):
        assert low["none", layer, "-1"] < 0.5 < high["none", layer, "-1"]
    assert (by_group.loc[by_group["control"] == "none", "folds"] == 5).all()
    assert set(by_group["control"]) == {"none", "shuffled_labels", "embeddings", "group_only"}


@pytest.mark.parametrize("layers", [2])
def test_a_group_that_was_not_trained_on_gives_nothing_away(one_label_per_group, layers):
    """Exactly one half in every fold: all tested answers have the same score."""
    answers, states = one_label_per_group
    scores = scored(states, answers, STRICT.changed(split="group_folds", repeats=3), ["-1"])
    rows = scores[(scores["control"] == "group_only") & (scores["metric"] == "auc")]
    assert len(rows) == layers
    assert (rows[["mean", "ci_low", "ci_high"]] == 0.5).all(axis=None)


def test_a_signal_that_groups_share_is_found_in_other_groups(labels):
    group = (np.arange(COUNT) // 50).astype(str)
    chosen = STRICT.changed(split="group_folds")
    scores = scored(planted(labels, strength=1.5), answered(labels, group=group), chosen)
    gain = means(scores, value="gain_low")
    for control in ("shuffled_within_group", "group_only", "embeddings"):
        assert gain[control, 2, "exact_answer_last"] > 0
    assert means(scores, value="within_group").dropna().eq(1).all()


def test_inner_folds_of_c_keep_groups_together(one_label_per_group):
    """Inside the training set, too, a group would give its label away and want a weak penalty."""
    answers, layers = one_label_per_group
    chosen = STRICT.changed(split="group_folds", C="cv", controls=())
    keys = pd.DataFrame({"question_id": answers["question_id"], "token": "-1"})
    (cell,), rows = make_cells(keys, answers, ["-1"], chosen)
    whole = pd.Series(cell.split_groups).groupby(cell.groups).nunique()
    assert (whole == 1).all()
    (found,) = fitted(layers[:1], rows, [cell], chosen)
    # Of other groups nothing is to be known: by question the weakest penalty would win.
    by_question = chosen.changed(split="folds")
    (cell,), rows = make_cells(keys, answers, ["-1"], by_question)
    (other,) = fitted(layers[:1], rows, [cell], by_question)
    assert found["C"].mean() < other["C"].mean()


def test_a_training_set_of_one_group_takes_the_usual_c():
    """Two folds of two groups: there is nothing to choose C by."""
    group = np.arange(200) // 100
    answers = answered(np.arange(200) % 2, group=group.astype(str))
    chosen = STRICT.changed(split="group_folds", folds=2, C="cv", controls=())
    keys = pd.DataFrame({"question_id": answers["question_id"], "token": "-1"})
    cells, rows = make_cells(keys, answers, ["-1"], chosen)
    (found,) = fitted([noise(0, 200)], rows, cells, chosen)
    assert found["C"].to_numpy() == pytest.approx(1 / HIDDEN)


def test_no_group_is_a_group_of_its_own(labels):
    """Right answers without a group, wrong ones with: the group alone says everything."""
    group = np.where(labels == 1, "a", None)
    auc = means(scored([noise(0, 3 * COUNT)], answered(labels, group=group)))
    assert (auc["group_only"] == 1).all()


def test_a_signal_within_groups_survives_the_group_controls(labels):
    group = np.where(np.arange(COUNT) % 2, "a", "b")
    scores = scored(planted(labels, strength=1.5), answered(labels, group=group))
    gain = means(scores, value="gain_low")
    for control in ("shuffled_within_group", "group_only", "embeddings"):
        assert gain[control, 2, "exact_answer_last"] > 0


def test_output_baselines_stand_beside_every_cell(labels):
    random = np.random.default_rng(4)
    confidence = random.normal(size=COUNT) - 2 * labels
    answers = answered(labels, answer_log_probability=confidence, p_true=random.random(COUNT))
    answers["p_true_short"] = answers["answer_log_probability"].where(answers.index != 3)
    auc = means(scored([noise(0, 3 * COUNT), noise(1, 3 * COUNT)], answers))
    best = compute_metrics(labels, -confidence)["auc"][0]
    for layer in (0, 1):
        for token in TOKENS:
            assert auc["answer_log_probability", layer, token] == pytest.approx(best, abs=0.02)
            assert abs(auc["p_true", layer, token] - 0.5) < 0.15
            assert auc["p_true_short", layer, token] == pytest.approx(best, abs=0.02)
    assert "exact_answer_log_probability" not in auc.index
    assert "group_only" not in auc.index


def test_identical_inputs_score_exactly_one_half(labels):
    states = np.repeat(noise(0)[:1], 3 * COUNT, axis=0)
    for solver in ("newton", "lbfgs"):
        auc = means(scored([states], answered(labels), STRICT.changed(solver=solver)))
        assert (auc["none"] == 0.5).all()


def test_copies_of_an_input_tie_exactly(labels):
    """A few distinct inputs, as tokens in the embeddings: order within the copies is no signal."""
    which = np.arange(COUNT) % 3
    chosen = STRICT.changed(C=1.0)
    auc = means(scored([noise(0)[which]], answered(labels), chosen, tokens=["-1"]))
    folds = assign_folds(labels, np.arange(COUNT), folds=5, seed=0)
    expected = []
    for fold in range(5):
        train, test = folds != fold, folds == fold
        rows = standardised(noise(0)[which], train)
        fits = make_solver(rows).fit(labels[None], train[None], 1.0)
        value = [fits.logits[0, which == kind][0] for kind in range(3)]
        expected.append(compute_metrics(labels[test], np.array(value)[which[test]])["auc"][0])
    assert auc["none", 0, "-1"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_held_out_questions_are_scored_and_never_trained_on(labels):
    held = np.arange(COUNT) >= 200
    chosen = STRICT.changed(split="hold_out")
    scores = scored(planted(labels), answered(labels).assign(hold_out=held), chosen)
    probe = scores[(scores["control"] == "none") & (scores["metric"] == "auc")]
    assert (probe["n_train"] == 200).all()
    assert (probe["n_test"] == 100).all()
    best = probe.loc[probe["mean"].idxmax()]
    assert (best["layer"], best["token"]) == (2, "exact_answer_last")
    assert best["ci_low"] < best["mean"] < best["ci_high"] <= 1


def test_a_test_set_with_hardly_a_wrong_answer_gives_no_score(labels):
    labels[200:] = 0
    labels[200:203] = 1
    held = np.arange(COUNT) >= 200
    chosen = STRICT.changed(split="hold_out")
    answers = answered(labels).assign(hold_out=held)
    with pytest.raises(UserError, match=r"no token has enough .* last_q 300, .* choose other"):
        scored([noise(0, 3 * COUNT)], answers, chosen)
    labels[203] = 1
    auc = means(scored([noise(0, 3 * COUNT)], answered(labels).assign(hold_out=held), chosen))
    assert auc.notna().all()


def test_the_published_preset_is_sklearns_default_regression_on_raw_features(labels):
    chosen = PRESETS["published"]
    states = planted(labels)
    scores = scored(states, answered(labels), chosen)
    (split,) = split_questions(labels, np.arange(COUNT), np.zeros(COUNT, bool), chosen)
    reference = LogisticRegression(random_state=0)
    cell = states[2][np.repeat(TOKENS, COUNT) == "exact_answer_last"]
    with pytest.warns(UserWarning, match="converge"):
        reference.fit(cell[split.train], labels[split.train])
    expected = compute_metrics(labels[split.test], reference.decision_function(cell[split.test]))
    auc = means(scores)
    assert auc["none", 2, "exact_answer_last"] == pytest.approx(expected["auc"][0], abs=1e-9)
    assert means(scores, value="unconverged")["none", 2, "exact_answer_last"] == 1
    assert "shuffled_labels" not in auc.index


def test_c_is_chosen_inside_the_training_examples(labels):
    """Weak and spread evidence wants a strong penalty; what is tested has no say in it."""
    states = noise(0, hidden=200)
    states += (0.1 * labels[:, None] * states.std(axis=0)).astype(np.float32)
    ids = {"tokens": ["-1"], "answers": answered(labels)}
    cells, rows = make_cells(
        pd.DataFrame({"question_id": np.arange(COUNT), "token": "-1"}),
        ids["answers"],
        ids["tokens"],
        STRICT,
    )
    chosen = STRICT.changed(C="cv", controls=())
    (found,) = fitted([states], rows, cells, chosen)
    picked = found.groupby("fold")["C"].first()
    assert len(picked) == 5
    assert max(picked) <= 1.001 / 200  # of 0.01 to 100 times that
    # Other labels for the tested fold leave its choice and its scores as they are.
    tested = cells[0].splits[0].test
    flipped = cells[0].labels.copy()
    flipped[tested] = 1 - flipped[tested]
    object.__setattr__(cells[0], "labels", flipped)
    (again,) = fitted([states], rows, cells, chosen)
    first = found["fold"] == 0
    pd.testing.assert_frame_equal(again[again["fold"] == 0], found[first])


def test_a_cell_says_how_many_answers_it_rests_on(labels):
    ids = np.arange(COUNT)
    keys = pd.concat(
        [
            pd.DataFrame({"question_id": ids, "token": "-1"}),
            pd.DataFrame({"question_id": ids[:200], "token": "last_q"}),
            pd.DataFrame({"question_id": ids[:25], "token": "exact_answer_last"}),
        ],
        ignore_index=True,
    )
    states = [noise(0, len(keys))]
    scores = scored(states, answered(labels), keys=keys)
    counts = scores[scores["control"] == "none"].groupby("token")["n"].first()
    assert counts.to_dict() == {"-1": 300, "last_q": 200, "exact_answer_last": 25}
    auc = means(scores)
    assert np.isnan(auc["none", 0, "exact_answer_last"])  # fewer than 20 wrong answers
    assert auc["none"].drop((0, "exact_answer_last")).notna().all()
    complete = scored(
        states, answered(labels), STRICT.changed(short_answers="complete"), ["-1", "last_q"], keys
    )
    assert (complete["n"] == 200).all()


def test_scores_do_not_depend_on_the_order_of_rows_or_on_jobs(labels):
    ids = np.arange(COUNT)
    keys = pd.DataFrame({"question_id": np.tile(ids, 3), "token": np.repeat(TOKENS, COUNT)})
    states = noise(0, len(keys))
    order = np.random.default_rng(0).permutation(len(keys))
    first = scored([states], answered(labels), keys=keys)
    second = scored([states[order]], answered(labels), keys=keys.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(first, second)


def test_states_that_are_not_finite_are_named(labels):
    states = noise(0, 3 * COUNT)
    states[7, 2] = np.nan
    with pytest.raises(UserError, match=r"layer 0 hold .* not finite, the first in row 8"):
        scored([states], answered(labels))


def test_confidence_is_scored_as_it_is_and_fitted(labels):
    """A confidence that is higher for wrong answers detects them only once it is fitted."""
    random = np.random.default_rng(5)
    overconfident = random.normal(size=COUNT) + 1.5 * labels
    answers = answered(labels, p_true=overconfident)
    scores = scored([noise(0, 3 * COUNT)], answers)
    fitted = scores[(scores["control"] == "p_true") & (scores["metric"] == "auc")]["mean"]
    raw = scores[(scores["control"] == "p_true") & (scores["metric"] == "raw_auc")]["mean"]
    expected = compute_metrics(labels, overconfident)["auc"][0]
    assert fitted.to_numpy() == pytest.approx(expected, abs=0.03)
    assert raw.to_numpy() == pytest.approx(1 - expected, abs=0.03)
    assert set(scores.loc[scores["metric"] == "raw_auc", "control"]) == {"p_true"}


def test_all_confidence_scores_together_are_a_baseline(labels):
    """Two scores that each say half of it, and a group that says the rest."""
    random = np.random.default_rng(6)
    halves = [random.normal(size=COUNT) - labels for _ in range(2)]
    answers = answered(
        labels,
        group=np.where(random.random(COUNT) < 0.3 + 0.4 * labels, "a", "b"),
        answer_log_probability=halves[0],
        exact_answer_log_probability_min=halves[1],
    )
    auc = means(scored([noise(0, 3 * COUNT)], answers)).groupby(level=0).mean()
    singles = ["answer_log_probability", "exact_answer_log_probability_min"]
    assert auc["output_combined"] > max(auc[name] for name in singles) + 0.02
    assert auc["output_and_group"] > max(auc["output_combined"], auc["group_only"]) + 0.02
