"""Choices among planted samples, and that nothing is learnt from the questions that are tested."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from llm_figures.claims.claims_file import read_claims
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.core.errors import UserError
from llm_figures.probe.answer_choice import (
    apply_probe,
    choose_answers,
    compare_strategies,
    select_layers,
)
from llm_figures.probe.cells import Cell, Split
from llm_figures.probe.protocol import OF_LOGISTIC, PRESETS
from llm_figures.probe.sample_states import find_sample_states, order_states, select_shard
from llm_figures.questions.error_kinds import assign_kinds
from llm_figures.questions.resampling_options import ErrorTaxonomy
from resampled import plant_choice

PROTOCOL = PRESETS["strict"]
COUNT, FEATURES, SAMPLES = 200, 8, 5


def table(correct, valid=None, cluster=None, logs=None):
    size = len(correct)
    return pd.DataFrame(
        {
            "correct": correct,
            "valid": [True] * size if valid is None else valid,
            "cluster": range(size) if cluster is None else cluster,
            "log_probability": [-1.0] * size if logs is None else logs,
        }
    )


def test_strategies_by_hand():
    samples = table(
        [True, False, False, False], cluster=[0, 1, 1, 2], logs=[-3.0, -1.0, -2.0, -4.0]
    )
    credits = choose_answers(samples, np.array([-1.0, 2.0, 3.0, np.nan]))
    assert credits == {
        "random": 0.25, "majority": 0.0, "most_probable": 0.0, "any_right": 1.0, "probe": 1.0,
    }  # fmt: skip
    # of two equally frequent answers one is right, and of two equal logits one
    samples = table([True, True, False, False], cluster=[0, 0, 1, 1])
    credits = choose_answers(samples, np.array([1.0, 0.0, 0.0, 2.0]))
    assert credits["majority"] == 0.5
    assert credits["probe"] == 0.5
    # what is not valid is never chosen, however likely
    samples = table([False, True], valid=[False, True], cluster=[-1, 0], logs=[0.0, -9.0])
    credits = choose_answers(samples, np.array([-9.0, 9.0]))
    assert set(credits.values()) == {1.0}
    nothing = choose_answers(table([False, False], valid=[False, False]), np.array([0.0, 0.0]))
    assert set(nothing.values()) == {0.0}
    # a sample without the token has no state and is not chosen by the probe
    assert choose_answers(table([True]), np.array([np.nan]))["probe"] == 0.0


@pytest.fixture
def planted():
    """Layer 1 tells wrong answers; the samples have states of the same kind."""
    random = np.random.default_rng(0)
    wrong = (random.random(COUNT) < 0.5).astype(int)
    noise = random.normal(size=(COUNT, FEATURES)).astype(np.float32)
    states = {0: noise, 1: noise.copy(), 2: random.normal(size=noise.shape).astype(np.float32)}
    states[1][:, 0] += 3 * wrong
    folds = np.arange(COUNT) % 5
    cell = Cell(
        token="exact_answer_last",
        questions=np.arange(COUNT),
        labels=wrong,
        groups=np.zeros(COUNT, int),
        split_groups=np.arange(COUNT),
        splits=[Split(0, fold, folds != fold, folds == fold) for fold in range(5)],
    )
    right = random.random((COUNT, SAMPLES)) < 0.3
    sampled = random.normal(size=(COUNT * SAMPLES, FEATURES)).astype(np.float32)
    sampled[:, 0] += 3 * ~right.ravel()
    samples = pd.DataFrame(
        {
            "question_id": np.repeat(np.arange(COUNT), SAMPLES),
            "sample": np.tile(np.arange(SAMPLES), COUNT),
            "answer": [f"answer {number}" for number in range(COUNT * SAMPLES)],
            "valid": True,
            "abstained": False,
            "correct": right.ravel(),
            "cluster": np.where(right, 0, 1 + np.arange(SAMPLES)).ravel(),
            "log_probability": random.normal(size=COUNT * SAMPLES),
        }
    )
    answers = pd.DataFrame(
        {
            "question_id": np.arange(COUNT),
            "correct": wrong == 0,
            "split_group": np.arange(COUNT),
            "answer_log_probability": random.normal(size=COUNT),
        }
    )
    return states, cell, sampled, samples, answers


def layers_of(states):
    return [(layer, lambda own=own: own) for layer, own in states.items()]


def choose(planted, chosen=None):
    states, cell, sampled, samples, answers = planted
    rows = np.arange(COUNT)
    chosen = chosen or select_layers(layers_of(states), rows, cell, PROTOCOL, jobs=1)
    choices = [
        apply_probe(states[layer], sampled, samples["question_id"], cell, split, layer, PROTOCOL)
        for split, layer in enumerate(chosen)
    ]
    kinds = assign_kinds(samples, ErrorTaxonomy())
    scores = compare_strategies(choices, answers, samples, np.arange(len(samples)), kinds, PROTOCOL)
    return chosen, choices, scores


def test_the_layer_is_chosen_on_the_training_questions_alone(planted):
    states, cell, *_ = planted
    rows = np.arange(COUNT)
    assert select_layers(layers_of(states), rows, cell, PROTOCOL, jobs=1) == [1] * 5
    # layer 2 tells all of one fold's test questions and no others: that fold does not see it
    leaking = {layer: own.copy() for layer, own in states.items()}
    test = cell.splits[3].test
    leaking[1] = states[0].copy()
    leaking[2][test, 0] = 50 * cell.labels[test]
    before = {**leaking, 2: states[2]}
    seen = select_layers(layers_of(leaking), rows, cell, PROTOCOL, jobs=1)
    unseen = select_layers(layers_of(before), rows, cell, PROTOCOL, jobs=1)
    assert seen[3] == unseen[3]
    # and the others, which train on them, do
    assert [seen[fold] for fold in (0, 1, 2, 4)].count(2) >= 3


def test_tested_questions_change_nothing_that_is_learnt(planted):
    states, cell, sampled, samples, answers = planted
    _, before, _ = choose(planted, [1] * 5)
    test = cell.splits[0].test
    labels = cell.labels.copy()
    labels[test] = 1 - labels[test]
    flipped = Cell(**{**vars(cell), "labels": labels})
    _, after, _ = choose((states, flipped, sampled, samples, answers), [1] * 5)
    assert (before[0].samples == after[0].samples).all()
    assert (before[0].greedy == after[0].greedy).all()
    assert (before[1].samples != after[1].samples).any()


def test_logits_are_those_of_scikit_learn(planted):
    states, cell, sampled, samples, _ = planted
    _, choices, scores = choose(planted, [1] * 5)
    aucs = []
    for split, choice in zip(cell.splits, choices, strict=True):
        scaler = StandardScaler().fit(states[1][split.train])
        regression = LogisticRegression(C=1 / FEATURES, max_iter=10_000, tol=1e-10)
        regression.fit(scaler.transform(states[1][split.train]), cell.labels[split.train])
        inside = np.isin(samples["question_id"], cell.questions[split.test])
        expected = regression.decision_function(scaler.transform(sampled[inside]))
        np.testing.assert_allclose(choice.samples, expected, atol=1e-3)
        greedy = regression.decision_function(scaler.transform(states[1][split.test]))
        aucs.append(roc_auc_score(cell.labels[split.test], greedy))
    detected = scores[scores["metric"] == "auc"].set_index("strategy")
    assert detected.loc["probe", "mean"] == pytest.approx(np.mean(aucs), abs=1e-6)


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_logits_depend_on_no_number_of_threads(kind):
    protocol = PRESETS["strict"]
    if kind != "logistic":
        protocol = protocol.changed(kind=kind, **dict.fromkeys(OF_LOGISTIC))
    random = np.random.default_rng(0)
    count, ids = 400, np.arange(400)
    labels = (random.random(count) < 0.4).astype(int)
    X = (random.normal(size=(count, 576)) + labels[:, None] * 0.1).astype(np.float32)
    split = Split(0, 0, ids >= 80, ids < 80)
    cell = Cell("-1", ids, labels, np.zeros(count, int), ids, [split])
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(apply_probe(X, X[:50] * 1.1, ids[:50], cell, 0, 3, protocol))
    assert (found[0].greedy == found[1].greedy).all()
    assert (found[0].samples == found[1].samples).all()


def test_the_probe_finds_right_samples_that_the_majority_does_not(planted):
    _, _, scores = choose(planted)
    rows = scores[(scores["metric"] == "accuracy") & (scores["kind"] == "all")]
    rows = rows.set_index("strategy")
    samples, answers = planted[3:]
    assert rows.loc["greedy", "mean"] == pytest.approx(answers["correct"].mean())
    assert rows.loc["random", "mean"] == pytest.approx(samples["correct"].mean())
    any_right = samples.groupby("question_id")["correct"].any().mean()
    assert rows.loc["any_right", "mean"] == pytest.approx(any_right)
    assert rows.loc["random", "mean"] + 0.2 < rows.loc["probe", "mean"] <= any_right
    probe = rows.loc["probe"]
    assert probe["gain"] == pytest.approx(probe["mean"] - rows.loc["greedy", "mean"])
    assert probe["probe_gain"] == probe["probe_gain_low"] == 0
    assert (rows["ci_low"] <= rows["mean"]).all()
    assert (rows["n"] == COUNT).all()
    assert set(rows["layers"]) == {"1"}
    # the kinds divide the questions, so their accuracies average to that of all
    by_kind = scores[(scores["metric"] == "accuracy") & (scores["kind"] != "all")]
    of_probe = by_kind[by_kind["strategy"] == "probe"]
    assert of_probe["n"].sum() == COUNT
    assert (of_probe["mean"] * of_probe["n"]).sum() / COUNT == pytest.approx(probe["mean"])
    entropy = scores[scores["strategy"] == "semantic_entropy"]
    assert entropy["mean"].between(0.35, 0.65).all()  # of planted labels that have none


def test_samples_with_equal_beginnings_share_a_state():
    samples = pd.DataFrame(
        {
            "question_id": [4, 4, 4, 4, 5],
            "sample": [0, 1, 2, 3, 0],
            "valid": [True, True, True, False, True],
            "answer_ids": [*map(np.array, ([1, 2, 3], [1, 2, 9, 9], [1, 7, 3], [1, 2], [1, 2, 3]))],
            "token_starts": [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2], [0, 1], [0, 1, 2]],
            "token_ends": [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3], [1, 2], [1, 2, 3]],
            "span_start": [1, 1, 1, -1, 0],
            "span_end": [2, 2, 2, -1, 3],
        }
    )
    states = find_sample_states(samples, "exact_answer_last")
    assert list(states.row_of_sample) == [0, 0, 1, -1, 2]
    assert states.answers == [[1, 2], [1, 7], [1, 2, 3]]
    assert states.samples == [0, 2, 0]
    assert select_shard(states, (0, 2)) == [0, 1]
    assert select_shard(states, (1, 2)) == [2]
    keys = pd.DataFrame({"question_id": [5, 4, 4], "sample": [0, 2, 0]})
    assert list(order_states(states, keys)) == [2, 1, 0]
    with pytest.raises(UserError, match="sample 0 of question 5"):
        order_states(states, keys[1:])
    # no token after the exact answer: no state
    after = find_sample_states(samples, "exact_answer_after_last")
    assert list(after.row_of_sample) == [0, 1, 2, -1, -1]


def test_no_claim_is_decided_by_construction(root):
    """Where strategies differ as they may, whatever the claims' own kinds."""
    figure, scores, options = plant_choice()
    accuracy = scores["metric"] == "accuracy"
    greedy = scores[accuracy & (scores["strategy"] == "greedy")].set_index("kind")["mean"]
    gain = scores["mean"] - scores["kind"].map(greedy)
    # no strategy is much worse than greedy decoding
    gain = gain.clip(lower=-0.02)
    scores = scores.assign(mean=scores["kind"].map(greedy) + gain, gain=gain).assign(
        mean=lambda table: table["mean"].where(accuracy, scores["mean"])
    )
    probe = scores[accuracy & (scores["strategy"] == "probe")].set_index("kind")["mean"]
    probe_gain = scores["kind"].map(probe) - scores["mean"]
    scores = scores.assign(
        probe_gain=probe_gain, probe_gain_low=probe_gain - 0.05, probe_gain_high=probe_gain + 0.05
    )
    built_in = read_claims(root / "config" / "claims.yaml", [])
    about = [claim for claim in built_in if claim.figure == "answer_choice"]
    rows = check_table_claims("m", about, figure.list_claim_cells(scores, options))
    assert "reproduced" in set(rows["verdict"])
    assert list(rows.loc[rows["decided"].astype(bool), "claim"]) == []


def test_a_strategy_is_better_where_the_interval_says_so(root):
    """A difference of 0.001 within ± 0.03 is none."""
    figure, scores, options = plant_choice()
    built_in = read_claims(root / "config" / "claims.yaml", [])
    about = [claim for claim in built_in if claim.id == "choice-above-greedy"]
    here = (scores["kind"] == "all") & (scores["strategy"] == "greedy")
    for low, verdict in ((-0.029, "not reproduced"), (0.0005, "reproduced")):
        scores.loc[here, ["probe_gain", "probe_gain_low", "probe_gain_high"]] = 0.001, low, 0.03
        (row,) = check_table_claims("m", about, figure.list_claim_cells(scores, options)).to_dict(
            "records"
        )
        assert (row["verdict"], row["value"]) == (verdict, 0.001)
        assert (row["low"], row["high"]) == (pytest.approx(low), 0.03)
        assert pd.isna(row["units"])
