from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from llm_figures.core.errors import UserError
from llm_figures.probe.cells import assign_folds, make_cells, split_questions
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.fitting import probe_layers, standardise
from llm_figures.probe.newton import Dual, NewtonSolver, Primal
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.scores import compute_probe_scores

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
def test_the_fit_is_sklearns_converged_one(labels, penalty, balanced, kind):
    states = noise(0)
    states[:, 0] += 2 * labels * states[:, 0].std()
    train = np.arange(COUNT) < 200
    rows = standardised(states, train)
    weights = (200 / (2 * np.bincount(labels[train])))[labels[train]] if balanced else None
    solver = kind(rows[train], penalty)
    solver.fit(labels[train][::-1])  # other labels before must not matter
    fit = solver.fit(labels[train], weights)
    assert fit.converged
    found = rows[~train] @ fit.weights + fit.intercept
    reference = LogisticRegression(
        C=penalty, tol=1e-10, max_iter=10_000, class_weight="balanced" if balanced else None
    )
    reference.fit(rows[train].astype(float), labels[train])
    np.testing.assert_allclose(found, reference.decision_function(rows[~train]), atol=1e-3)


@pytest.mark.parametrize("kind", [Primal, Dual])
def test_separable_labels_converge_too(labels, kind):
    rows = standardised(noise(0), np.ones(COUNT, bool))
    rows[:, 0] = 10 * (2 * labels - 1)
    assert kind(rows, 1.0).fit(labels).converged


def test_more_features_than_examples_and_the_other_way_round_take_the_cheaper_system():
    assert isinstance(NewtonSolver.of(np.zeros((10, 20), np.float32), 1.0), Dual)
    assert isinstance(NewtonSolver.of(np.zeros((20, 10), np.float32), 1.0), Primal)


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


@pytest.mark.parametrize("size", [1, 2, 300])
def test_small_groups_are_shuffled_together(labels, size):
    """A group of one would keep its label: the control would be the probe itself."""
    group = (np.arange(COUNT) // size).astype(str)
    scores = scored(planted(labels), answered(labels, group=group))
    gain = means(scores, value="gain_low")
    control = means(scores)["shuffled_within_group", 2, "exact_answer_last"]
    assert 0.2 < control < 0.8
    assert gain["shuffled_within_group", 2, "exact_answer_last"] > 0


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
    auc = means(scored([noise(0, 3 * COUNT), noise(1, 3 * COUNT)], answers))
    best = compute_metrics(labels, -confidence)["auc"][0]
    for layer in (0, 1):
        for token in TOKENS:
            assert auc["answer_log_probability", layer, token] == pytest.approx(best, abs=0.02)
            assert abs(auc["p_true", layer, token] - 0.5) < 0.15
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
        fit = NewtonSolver.of(rows[train], 1.0).fit(labels[train])
        value = [(rows[which == kind][0] @ fit.weights).item() for kind in range(3)]
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
