"""The judges on 1,260 answers that were labelled by hand: see tests/judged_answers.py."""

import pandas as pd
import pytest

from judged_answers import KINDS, judge_all, measure, read_judged_answers

ROWS = read_judged_answers()


@pytest.fixture(scope="module")
def said():
    return pd.Series(judge_all(ROWS, "contains"))


def test_there_are_enough_answers_of_every_kind_and_verdict():
    counts = ROWS.groupby(["kind", "verdict"]).size().unstack()
    assert set(counts.index) == set(KINDS)
    assert len(ROWS) >= 300
    assert counts.loc[:, ["right", "wrong"]].min(axis=None) >= 80
    assert counts["abstained"].min() >= 15


def test_the_default_judge_is_right_about_answers(said):
    quality = measure(ROWS["verdict"], said)
    assert quality.precision >= 0.98
    assert quality.recall >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_right_about_answers_of_every_kind(said, kind):
    of_kind = ROWS["kind"] == kind
    quality = measure(ROWS.loc[of_kind, "verdict"], said[of_kind])
    assert quality.precision >= 0.98
    assert quality.recall >= 0.95


def test_abstentions_are_found_and_nothing_else(said):
    abstained = ROWS["verdict"] == "abstained"
    assert (said[abstained] == "abstained").mean() >= 0.95
    assert (said[~abstained] == "abstained").mean() <= 0.005


def test_correctness_does_not_depend_on_which_letter_is_right(said):
    """Of the answers to multiple choice, as many are judged as a person would for every letter."""
    choice = ROWS[ROWS["kind"] == "choice"]
    agrees = (said[choice.index] == choice["verdict"]).groupby(choice["gold"].str[0]).mean()
    assert set(agrees.index) == set("ABCDE")
    assert agrees.min() >= 0.95
