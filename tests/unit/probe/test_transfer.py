"""Transfer of probes with planted directions."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest

from llm_figures.core.errors import UserError
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.transfer import (
    BASELINE,
    Candidates,
    choose,
    compare_transfer,
    join_predictions,
    transfer,
)
from llm_figures.probe.transfer_sets import (
    choose_sets,
    list_training_sets,
    nest_cells,
    nested_protocol,
    read_sets,
)

TOKENS = ("last_q", "exact_answer_last")
WIDTH = 6
STRICT = PRESETS["strict"]


def make_answers(labels, names, log_probability, start=0):
    """Valid answers; labels: 1 for a wrong one. names: the group of each."""
    count = len(labels)
    return pd.DataFrame(
        {
            "question_id": np.arange(count),
            "question": [f"What is number {start + n}?" for n in range(count)],
            "correct": np.asarray(labels) == 0,
            "valid": True,
            "group": names,
            "split_group": np.arange(count),
            "hold_out": False,
            "answer_log_probability": log_probability,
            "exact_answer_log_probability": log_probability,
        }
    )


def make_states(random, labels, informative):
    """[layers, answers, tokens, WIDTH]: noise, with the label in places.

    informative: {(layer, token): the feature that holds the label}.
    """
    states = random.normal(size=(3, len(labels), len(TOKENS), WIDTH))
    for (layer, token), feature in informative.items():
        states[layer, :, TOKENS.index(token), feature] += 3 * (2 * np.asarray(labels) - 1)
    return states.astype(np.float32)


class Planted:
    """Two groups and one further set, each with its own direction and place of the truth."""

    def __init__(self, seed=0, size=90, shared=0):
        random = np.random.default_rng(seed)
        places = {
            # the same direction in the same place as in "river"
            "lake": {(1, "exact_answer_last"): 0},
            "river": {(1, "exact_answer_last"): 0},
            # elsewhere, and in another direction
            "sums": {(2, "last_q"): 3},
        }
        self.labels = {name: random.permutation(np.arange(size) % 2) for name in places}
        self.states = {
            name: make_states(random, self.labels[name], places[name]) for name in places
        }
        # the output is surer of right answers in "sums", and less sure in the others
        signs = {"lake": 1, "river": 1, "sums": -1}
        confidence = {
            name: signs[name] * self.labels[name] + random.normal(size=size, scale=0.8)
            for name in places
        }
        both = ["lake"] * size + ["river"] * size
        own = make_answers(
            np.concatenate([self.labels["lake"], self.labels["river"]]),
            both,
            np.concatenate([confidence["lake"], confidence["river"]]),
        )
        start = 2 * size - shared
        sums = make_answers(self.labels["sums"], [None] * size, confidence["sums"], start)
        self.answers = {"": own, "sums": sums}
        self.table = {
            "": np.concatenate([self.states["lake"], self.states["river"]], axis=1),
            "sums": self.states["sums"],
        }
        self.keys = {
            name: pd.DataFrame(
                [
                    {"question_id": question, "token": token}
                    for question in range(len(answers))
                    for token in TOKENS
                ]
            )
            for name, answers in self.answers.items()
        }

    def load(self, layer):
        every = [states[layer].reshape(-1, WIDTH) for states in self.table.values()]
        return np.concatenate(every)

    def sets(self, **options):
        return read_sets(self.answers, self.keys, **options)

    def score(self, protocol=STRICT, sets=None, layers=range(3)):
        protocol = nested_protocol(protocol)
        sets = self.sets() if sets is None else sets
        training, start, nested = list_training_sets(sets), 0, []
        for one in training:
            nested.append(nest_cells(one, TOKENS, protocol, start))
            start += len(one.answers)
        frames = probe_layers(
            [(layer, partial(self.load, layer)) for layer in layers],
            [rows for of_set in nested for rows in of_set.rows],
            [cell for of_set in nested for cell in of_set.cells],
            protocol,
            jobs=1,
        )
        predictions = pd.concat(frames, ignore_index=True)
        trained = [
            transfer(
                one,
                of_set,
                predictions,
                [test for test in sets if one.excluded in (None, test.name)],
                self.load,
                TOKENS,
                protocol,
            )
            for one, of_set in zip(training, nested, strict=True)
        ]
        folds = {
            one.name: of_set.folds
            for one, of_set in zip(training, nested, strict=True)
            if one.excluded is None
        }
        return compare_transfer(sets, trained, folds, {}, 0)


def cell(table, train, test, control="none"):
    rows = table[
        (table["train"] == train) & (table["test"] == test) & (table["control"] == control)
    ]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope="module")
def table():
    return Planted().score()


def test_probes_transfer_where_the_direction_is_the_same_and_nowhere_else(table):
    assert cell(table, "lake", "river")["auc"] > 0.97
    assert cell(table, "river", "lake")["auc"] > 0.97
    assert abs(cell(table, "lake", "river")["difference"]) < 0.03
    for train, test in (("lake", "sums"), ("sums", "river")):
        row = cell(table, train, test)
        assert 0.3 < row["auc"] < 0.7
        assert row["difference_high"] < 0
        assert row["ci_low"] < row["auc"] < row["ci_high"]


def test_layer_and_token_are_those_of_the_training_set(table):
    for train, place in (("lake", (1, "exact_answer_last")), ("sums", (2, "last_q"))):
        rows = table[(table["train"] == train) & (table["control"] == "none")]
        assert set(zip(rows["layer"], rows["token"], strict=True)) == {place}


def test_the_direction_of_the_baseline_is_that_of_the_training_set(table):
    assert cell(table, "lake", "river", BASELINE)["auc"] > 0.7
    assert cell(table, "lake", "sums", BASELINE)["auc"] < 0.3
    assert cell(table, "lake", "lake", BASELINE)["score"] == "exact_answer_log_probability"
    assert cell(table, "sums", "sums", BASELINE)["score"] == "-exact_answer_log_probability"
    assert cell(table, "lake", "river", BASELINE)["gain_low"] > 0


def test_differences_are_of_the_scores_of_the_table(table):
    row, own = cell(table, "lake", "river"), cell(table, "river", "river")
    assert row["difference"] == pytest.approx(row["auc"] - own["auc"], abs=1e-12)
    beside = cell(table, "lake", "river", BASELINE)
    assert beside["gain"] == pytest.approx(row["auc"] - beside["auc"], abs=1e-12)


def test_what_the_tested_set_holds_changes_no_choice_and_no_probe():
    planted = Planted()
    before = planted.score()
    random = np.random.default_rng(9)
    planted.table["sums"] = random.normal(size=planted.table["sums"].shape).astype(np.float32)
    planted.answers["sums"]["correct"] = random.permutation(planted.answers["sums"]["correct"])
    after = planted.score()
    kept = ["lake", "river"]
    before, after = (
        table[table["train"].isin(kept) & table["test"].isin(kept)] for table in (before, after)
    )
    pd.testing.assert_frame_equal(before, after)


def test_the_diagonal_does_not_choose_by_the_fold_that_it_tests():
    """Of candidates that are noise, the best has a high AUC; the nested score has none."""
    random = np.random.default_rng(3)
    labels = np.arange(200) % 2
    folds = np.arange(200) // 2 % 5
    scores = random.normal(size=(300, 200))
    candidates = Candidates([(n,) for n in range(300)], scores, np.repeat(scores[..., None], 5, 2))
    from sklearn.metrics import roc_auc_score

    chosen = choose(candidates, labels, folds)
    best = np.mean(
        [roc_auc_score(labels[folds == k], scores[chosen.best[0]][folds == k]) for k in range(5)]
    )
    nested = np.mean(
        [roc_auc_score(labels[folds == k], chosen.scores[folds == k]) for k in range(5)]
    )
    assert best > 0.6
    assert nested < 0.58


def test_equal_candidates_are_taken_in_their_order():
    labels, folds = np.arange(40) % 2, np.arange(40) // 8
    scores = np.tile(labels + 0.0, (3, 1))
    candidates = Candidates([("a",), ("b",), ("c",)], scores, np.repeat(scores[..., None], 5, 2))
    assert choose(candidates, labels, folds).best == ("a",)


def test_shared_questions_are_never_trained_on_for_the_set_that_asks_them():
    planted = Planted(shared=30)  # of "river"
    sets = planted.sets()
    assert [(one.name, one.excluded) for one in list_training_sets(sets)[3:]] == [
        ("river", "sums"),
        ("sums", "river"),
    ]
    table = planted.score(sets=sets)
    for train, test in (("river", "sums"), ("sums", "river")):
        assert cell(table, train, test)["n_train"] == 60
        assert cell(table, train, test)["shared"] == 30
    assert cell(table, "river", "lake")["n_train"] == 90
    assert cell(table, "lake", "sums")["shared"] == 0


def test_a_set_of_too_few_answers_to_train_on_has_no_score():
    planted = Planted(shared=80)
    sets = planted.sets()
    short = list_training_sets(sets)[3]
    assert (
        short.problem == f"{(short.labels == 0).sum()} right and {short.labels.sum()} wrong answers"
    )


def test_a_set_that_asks_the_same_again_and_again_is_none():
    planted = Planted()
    planted.answers["sums"]["split_group"] = np.arange(90) % 19
    assert planted.sets()[2].problem == "19 distinct questions"


def test_groups_are_sets_and_the_whole_is_one_without_groups():
    planted = Planted()
    assert [one.name for one in planted.sets()] == ["lake", "river", "sums"]
    planted.answers[""]["group"] = None
    assert [one.name for one in planted.sets()] == ["dataset", "sums"]
    planted.answers[""]["group"] = ["sums"] * 100 + [None] * 80
    assert [one.name for one in planted.sets()] == ["sums (dataset)", "without a group", "sums"]


def test_groups_may_be_one_set():
    planted = Planted()
    whole, sums = planted.sets(by_group=False)
    assert (whole.name, sums.name) == ("dataset", "sums")
    assert len(whole.answers) == 180
    assert len(whole.keys) == 180 * len(TOKENS)
    table = planted.score(sets=[whole, sums])
    assert cell(table, "dataset", "dataset")["n_train"] == 180
    assert (cell(table, "dataset", "sums")["layer"], cell(table, "sums", "dataset")["layer"]) == (
        1,
        2,
    )


def test_a_fixed_layer_is_that_of_every_probe():
    """Each is what a plain probe of that layer gives, better where its set's direction is."""
    planted = Planted()
    chosen, fixed = planted.score(), planted.score(layers=[2])
    probes = fixed[fixed["control"] == "none"]
    assert set(probes["layer"]) == {2}
    assert len(probes) == 9
    # It is the layer that "sums" chooses.
    same = ["auc", "ci_low", "ci_high", "layer", "token"]
    for test in ("lake", "river", "sums"):
        pd.testing.assert_series_equal(
            cell(fixed, "sums", test)[same], cell(chosen, "sums", test)[same]
        )
    assert cell(fixed, "lake", "river")["auc"] < 0.7 < cell(chosen, "lake", "river")["auc"]
    baselines = fixed["control"] == BASELINE
    pd.testing.assert_series_equal(fixed.loc[baselines, "auc"], chosen.loc[baselines, "auc"])


def test_sets_are_chosen_by_name():
    sets = Planted().sets()
    assert [one.name for one in choose_sets(sets, ("sums", "lake"))] == ["sums", "lake"]
    with pytest.raises(UserError, match=r"probe_transfer.sets: no set 'pond'; there is lake"):
        choose_sets(sets, ("pond", "lake"))


def test_answers_without_a_token_are_left_out_of_it_alone():
    planted = Planted()
    keys = planted.keys["sums"]
    gone = (keys["token"] == "exact_answer_last") & (keys["question_id"] < 5)
    rows = np.flatnonzero(~gone)
    planted.keys["sums"] = keys[~gone].reset_index(drop=True)
    states = planted.table["sums"].reshape(3, -1, WIDTH)[:, rows]
    planted.table["sums"] = states[:, :, None]
    table = planted.score()
    assert cell(table, "lake", "sums")["auc"] > 0
    assert cell(table, "sums", "sums")["auc"] > 0.97


def remove_token(planted, name, gone):
    """Remove rows of a set's states. gone: function of its keys."""
    keys = planted.keys[name]
    kept = ~gone(keys)
    planted.keys[name] = keys[kept].reset_index(drop=True)
    states = planted.table[name].reshape(3, -1, WIDTH)[:, np.flatnonzero(kept)]
    planted.table[name] = states[:, :, None]


def test_differences_are_of_the_answers_that_have_the_tokens_of_both():
    """Where an answer lacks the probe's token, the baseline that it is compared with lacks it."""
    from sklearn.metrics import roc_auc_score

    planted = Planted()
    unsure = (planted.answers["sums"]["exact_answer_log_probability"] + 0.5).abs() < 0.5
    without = planted.answers["sums"].loc[unsure, "question_id"]
    remove_token(
        planted,
        "sums",
        lambda keys: (keys["token"] == "exact_answer_last") & keys["question_id"].isin(without),
    )
    table = planted.score()
    sums = next(one for one in planted.sets() if one.name == "sums")
    folds = nest_cells(sums, TOKENS, nested_protocol(STRICT), 0).folds
    confidence = -sums.answers["exact_answer_log_probability"].to_numpy()

    def measure(inside):
        return np.mean(
            [
                roc_auc_score(sums.labels[at], sums_of_lake[at])
                for k in range(5)
                for at in [inside & (folds == k)]
            ]
        )

    score = cell(table, "lake", "sums", BASELINE)["score"]
    sums_of_lake = confidence if score.startswith("-") else -confidence
    everyone, known = np.ones(len(unsure), bool), ~unsure.to_numpy()
    assert abs(measure(everyone) - measure(known)) > 0.03
    row, probe = cell(table, "lake", "sums", BASELINE), cell(table, "lake", "sums")
    assert row["auc"] == pytest.approx(measure(everyone), abs=1e-9)
    assert row["gain"] == pytest.approx(probe["auc"] - measure(known), abs=1e-9)


def test_a_set_without_a_token_that_is_probed_has_a_reason_and_no_score():
    planted = Planted()
    remove_token(planted, "sums", lambda keys: keys["question_id"] < 60)
    table = planted.score()
    for train in ("lake", "river"):
        row = cell(table, train, "sums")
        assert re.fullmatch(
            r"test: \d+ right and \d+ wrong answers with exact_answer_last", row["problem"]
        )
        assert pd.isna(row["auc"])
        assert cell(table, train, "sums", BASELINE)["auc"] > 0
        assert pd.isna(cell(table, train, "sums", BASELINE)["gain"])
    for test in ("lake", "sums"):
        row = cell(table, "sums", test)
        assert row["problem"] == "no token has enough answers of either label"


def test_pairs_of_folds_are_numbered_alike_where_a_fold_is_empty():
    sums = Planted(size=60).sets()[2]
    random = np.random.default_rng(3)
    # of 20 questions that are asked three times, in 20 folds, one fold has none
    sums.answers["split_group"] = np.concatenate([np.arange(20), random.integers(0, 20, 40)])
    sums.answers["correct"] = random.permutation(np.arange(60) % 2) == 0
    protocol = nested_protocol(STRICT.changed(folds=20))
    nested = nest_cells(sums, TOKENS, protocol, 0)
    count = int(nested.folds.max()) + 1
    assert list(np.unique(nested.folds)) == list(range(19))
    for split in nested.cells[0].splits:
        if split.repeat == 1:
            pair = {split.fold // count, split.fold % count}
            assert {*nested.folds[split.test]} == pair
            assert not pair & {*nested.folds[split.train]}


def test_tokens_that_no_answer_has_are_named():
    with pytest.raises(UserError, match=r"probe_transfer.tokens: -8: in no set do 20 right and 20"):
        join_predictions([pd.DataFrame()], ["-8"])


def test_states_of_other_answers_are_refused():
    planted = Planted()
    planted.answers["sums"].loc[3, "valid"] = False
    with pytest.raises(UserError, match="the hidden states of sums hold question 3"):
        planted.sets()


@pytest.mark.slow
def test_it_is_scikit_learn_fitted_to_one_set_and_scored_on_the_other():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    planted = Planted(seed=5)
    table = planted.score()

    def probe():
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=1 / WIDTH, solver="newton-cholesky", tol=1e-9)
        )

    def split(labels):
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        return [test for _, test in splitter.split(labels, labels, np.arange(len(labels)))]

    def fold_auc(fit, X, labels, folds):
        return np.mean([roc_auc_score(labels[f], fit.decision_function(X[f])) for f in folds])

    places = [(layer, token) for layer in range(3) for token in range(2)]
    for train in planted.labels:
        y, folds = planted.labels[train], split(planted.labels[train])
        everything = np.arange(len(y))

        def score_without(left_out, tested, place, train=train, y=y, everything=everything):
            X = planted.states[train][place[0], :, place[1]]
            inside = np.setdiff1d(everything, np.concatenate(left_out))
            fit = probe().fit(X[inside], y[inside])
            return roc_auc_score(y[tested], fit.decision_function(X[tested]))

        best = max(places, key=lambda p: np.mean([score_without([f], f, p) for f in folds]))
        own = []
        for fold in folds:
            others = [f for f in folds if f is not fold]
            chosen = max(
                places, key=lambda p: np.mean([score_without([f, fold], f, p) for f in others])
            )
            own.append(score_without([fold], fold, chosen))
        assert cell(table, train, train)["auc"] == pytest.approx(np.mean(own), abs=1e-9)
        fit = probe().fit(planted.states[train][best[0], :, best[1]], y)
        for test in planted.labels:
            if test != train:
                X, labels = planted.states[test][best[0], :, best[1]], planted.labels[test]
                expected = fold_auc(fit, X, labels, split(labels))
                assert cell(table, train, test)["auc"] == pytest.approx(expected, abs=1e-9)
