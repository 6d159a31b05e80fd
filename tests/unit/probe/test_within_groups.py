"""AUC within groups, beside the count of all pairs."""

import numpy as np
import pandas as pd
import pytest

from llm_figures.probe.best_cell import CHOSEN_LAYER
from llm_figures.probe.within_groups import (
    NO_CELL,
    NO_PAIR,
    TOO_FEW,
    UNTESTED,
    list_without_auc,
    tabulate_within_groups,
)


def make(count=160, seed=0):
    """Answers of four groups and predictions of two cells in five folds, with ties."""
    random = np.random.default_rng(seed)
    group = np.array(["a", "b", "c", "d"])[random.integers(0, 4, count)]
    wrong = random.random(count) < np.where(group == "a", 0.7, 0.3)
    answers = pd.DataFrame(
        {
            "question_id": np.arange(count) * 3,
            "group": group,
            "split_group": np.arange(count),
            "correct": ~wrong,
        }
    )
    parts = [
        pd.DataFrame(
            {
                "question_id": answers["question_id"],
                "score": (random.normal(size=count) + wrong).round(1),
                "layer": layer,
                "token": "-1",
                "repeat": 0,
                "fold": random.integers(0, 5, count),
                "inner_auc": 0.5,
            }
        )
        for layer in range(2)
    ]
    return answers, pd.concat(parts, ignore_index=True)


def count_pairs(predictions, answers, group):
    """(AUC, pairs) of one group by looking at every pair."""
    rows = predictions.merge(answers, on="question_id")
    rows = rows[rows["group"] == group]
    above, pairs = 0.0, 0
    for _, wrong in rows[~rows["correct"]].iterrows():
        for _, right in rows[rows["correct"]].iterrows():
            if wrong["fold"] == right["fold"]:
                pairs += 1
                above += (wrong["score"] > right["score"]) + (wrong["score"] == right["score"]) / 2
    return above / pairs, pairs


def test_all_pairs_of_a_group_in_the_same_fold_count():
    answers, predictions = make()
    first = predictions[predictions["layer"] == 0]
    table = tabulate_within_groups(predictions, first, answers, seed=0)
    for layer in (0, 1):
        own = predictions[predictions["layer"] == layer]
        rows = table[(table["layer"] == layer) & (table["level"] == "group")]
        for row in rows.itertuples():
            auc, pairs = count_pairs(own, answers, row.group)
            assert (row.auc, row.pairs) == (pytest.approx(auc, abs=1e-12), pairs)
            inside = answers["group"] == row.group
            assert row.n == inside.sum()
            assert row.wrong_share == pytest.approx(1 - answers.loc[inside, "correct"].mean())
            assert row.ci_low < row.auc < row.ci_high
        mean = table[(table["layer"] == layer) & (table["level"] == "mean")].iloc[0]
        assert mean["auc"] == pytest.approx(np.average(rows["auc"], weights=rows["pairs"]))
        assert mean["ci_low"] < mean["auc"] < mean["ci_high"]
    nested = table[table["layer"] == CHOSEN_LAYER]
    same = table[table["layer"] == 0]
    assert nested["auc"].tolist() == same["auc"].tolist()
    assert set(nested["token"]) == {"any"}


def test_a_probe_that_knows_the_group_alone_scores_one_half():
    answers, predictions = make()
    names = answers.set_index("question_id")["group"].loc[predictions["question_id"]]
    known = predictions.assign(score=(names == "a").to_numpy() * 5.0)
    table = tabulate_within_groups(known, known[:0], answers, seed=0)
    table = table[table["layer"] != CHOSEN_LAYER]
    assert (table["auc"] == 0.5).all()
    assert (table[["ci_low", "ci_high"]] == 0.5).all(axis=None)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Normal scores, one apart: the AUC of every group is 0.760."""
    inside = []
    for seed in range(25):
        random = np.random.default_rng(seed)
        answers, predictions = make(120, seed)
        wrong = ~answers["correct"].to_numpy()
        own = predictions[predictions["layer"] == 0].assign(
            score=random.normal(size=120) + wrong, fold=0
        )
        table = tabulate_within_groups(own, own, answers, seed=0)
        inside += [row.ci_low <= 0.7602 <= row.ci_high for row in table.itertuples()]
    assert 0.8 < np.mean(inside) <= 1


def test_groups_without_an_auc_say_why():
    answers, predictions = make()
    wrong = ~answers["correct"]
    answers.loc[answers["group"] == "b", "correct"] = True
    # Right answers of c are in fold 0, wrong ones in fold 1.
    of_c = answers.set_index("question_id").loc[predictions["question_id"], "group"] == "c"
    is_wrong = wrong.to_numpy()[predictions["question_id"] // 3]
    predictions.loc[of_c.to_numpy(), "fold"] = is_wrong[of_c.to_numpy()].astype(int)
    one = predictions[predictions["layer"] == 0]
    table = tabulate_within_groups(one, one, answers, seed=0)
    nested = table[table["layer"] == CHOSEN_LAYER].set_index("group")
    assert nested.loc["b", "note"] == TOO_FEW
    assert nested.loc["c", "note"] == NO_PAIR
    assert nested.loc[["b", "c"], "auc"].isna().all()
    assert list_without_auc(table[table["layer"] == CHOSEN_LAYER]) == ["b", "c"]
    kept = nested.loc[["a", "d"]]
    mean = nested[nested["level"] == "mean"].iloc[0]
    assert mean["n"] == kept["n"].sum()
    assert mean["auc"] == pytest.approx(np.average(kept["auc"], weights=kept["pairs"]))


def test_groups_that_are_not_tested_are_listed():
    """As in split: groups, where a group of one label is no test set, and in a hold-out file."""
    answers, predictions = make()
    answers.loc[answers["group"] == "b", "correct"] = True
    names = answers.set_index("question_id").loc[predictions["question_id"], "group"]
    one = predictions[(predictions["layer"] == 0) & ~names.isin(["b", "c"]).to_numpy()]
    table = tabulate_within_groups(one, one, answers, seed=0)
    for layer in (CHOSEN_LAYER, 0):
        rows = table[(table["layer"] == layer) & (table["level"] == "group")].set_index("group")
        assert rows["note"].to_dict() == {"a": "", "b": TOO_FEW, "c": UNTESTED, "d": ""}
        assert rows.loc[["b", "c"], "n"].tolist() == [0, 0]
        mean = table[(table["layer"] == layer) & (table["level"] == "mean")].iloc[0]
        kept = rows.loc[["a", "d"]]
        assert mean["auc"] == pytest.approx(np.average(kept["auc"], weights=kept["pairs"]))
    without = tabulate_within_groups(one, one[:0], answers, seed=0)
    nested = without[without["layer"] == CHOSEN_LAYER]
    assert nested["group"].tolist() == ["a", "b", "c", "d"]
    assert (nested["note"] == NO_CELL).all()


def test_equal_questions_are_resampled_together():
    """Every question twice: the interval is that of half as many answers."""
    answers, predictions = make(200)
    own = predictions[predictions["layer"] == 0].assign(fold=0)
    twice = pd.concat([answers, answers.assign(question_id=answers["question_id"] + 1)])
    scores = pd.concat([own, own.assign(question_id=own["question_id"] + 1)])
    found = {
        name: tabulate_within_groups(scores, scores, rows, seed=0)
        for name, rows in (
            ("together", twice),
            ("apart", twice.assign(split_group=np.arange(len(twice)))),
        )
    }
    width = {name: (table["ci_high"] - table["ci_low"]).mean() for name, table in found.items()}
    assert found["together"]["auc"].tolist() == found["apart"]["auc"].tolist()
    assert width["together"] > 1.2 * width["apart"]
