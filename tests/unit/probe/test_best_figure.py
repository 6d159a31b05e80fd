"""The table and the figure of `probe_best`."""

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import planted_best
from drawn_figures import drawn, texts
from llm_figures.claims.definitions import NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.core.errors import UserError
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.layout import draw_to_fit, find_problem
from llm_figures.plotting.style import Style
from llm_figures.probe import best_figure
from llm_figures.probe.best_table import PermutedCells, tabulate_best
from llm_figures.probe.options import ProbeBest
from llm_figures.probe.within_groups import tabulate_within_groups
from llm_figures.workflow.config import check_claims

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = ProbeBest()
# Without draws of folds, as of a single split.
REPEATED = pd.DataFrame({"metric": []})


def scores_of(means, token="-1"):
    """Tidy AUCs of the cells of three layers at one token, without a choice."""
    return pd.DataFrame(
        {
            "layer": range(len(means)), "token": token, "metric": "auc", "mean": means,
            "ci_low": 0.5, "ci_high": 0.9, "control": "none", "n": 8, "folds": 2,
        }
    )  # fmt: skip


def test_the_maximum_over_cells_is_taken_for_every_permutation():
    aucs = np.array(
        [
            [[0.6, 0.5, 0.4, 0.7], [0.7, 0.4, 0.6, np.nan]],
            [[np.nan] * 4, [0.65, 0.8, 0.5, 0.3]],
        ]
    )
    permuted = PermutedCells([0, 5], ["-2", "-1"], aucs, "overall", 1.0)
    answers = pd.DataFrame({"question_id": range(8), "correct": [True, False] * 4})
    predictions = pd.DataFrame(
        {
            "question_id": range(8), "repeat": 0, "fold": [0] * 4 + [1] * 4, "layer": 1,
            "token": "-1", "score": [0, 1, 0, 1, 0, 1, 1, 0], "inner_auc": 0.6,
        }
    )  # fmt: skip
    groups = pd.DataFrame(
        {"layer": [-1], "level": ["mean"], "auc": [0.7], "group": None, "n": 8, "wrong_share": 0.5,
         "ci_low": 0.6, "ci_high": 0.8, "note": ""}
    )  # fmt: skip
    table = tabulate_best(
        permuted,
        pd.concat([scores_of([0.5, 0.8, 0.7]), scores_of([0.4], token="-2")]),
        predictions,
        predictions,
        groups,
        REPEATED,
        answers,
    )
    rows = table[table["kind"] == "permuted"]
    assert rows["value"].tolist() == [0.8, 0.6, 0.7]
    observed = table[table["kind"] == "observed"].iloc[0]
    assert (observed["layer"], observed["token"], observed["value"]) == (0, "-1", 0.7)
    assert observed["n"] == 3
    highest = table[table["kind"] == "highest"].iloc[0]
    assert (highest["layer"], highest["value"]) == (1, 0.8)
    folds = table[table["kind"] == "fold"]
    assert folds["value"].tolist() == [1.0, 0.5]
    assert folds["highest"].tolist() == [1.0, 0.5]
    assert not (table["kind"] == "nested").any()
    with pytest.raises(UserError, match="no cell with a score"):
        tabulate_best(
            permuted, scores_of([np.nan] * 3), predictions, predictions, groups, REPEATED, answers
        )


def test_permutations_that_nothing_can_be_scored_with_do_not_count():
    """Without both labels in any test set, as in a small hold-out file of few wrong answers."""
    aucs = np.full((2, 1, 31), 0.6)
    aucs[..., [3, 7]] = np.nan
    answers = pd.DataFrame({"question_id": range(8), "correct": [True, False] * 4})
    predictions = pd.DataFrame(
        {
            "question_id": range(8), "repeat": 0, "fold": 0, "layer": 1, "token": "-1",
            "score": 0.5, "inner_auc": 0.6,
        }
    )  # fmt: skip
    groups = tabulate_within_groups(
        predictions,
        predictions[:0],
        answers.assign(group=list("abababab"), split_group=range(8)),
        0,
    )
    scores = scores_of([0.5, 0.8])

    def tabulate(aucs):
        permuted = PermutedCells([0, 1], ["-1"], aucs, "overall", 1.0)
        return tabulate_best(
            permuted, scores, predictions, predictions[:0], groups, REPEATED, answers
        )

    table = tabulate(aucs)
    assert table.loc[table["kind"] == "permuted", "value"].isna().sum() == 2
    assert table.loc[table["kind"] == "observed", "n"].item() == 28
    text = best_figure.describe(table, "m", OPTIONS)
    assert "28 times" in text
    assert "0.600 on average" in text
    assert "p = 1." in text
    assert "Left out: 2 permutations without both labels in any test set." in text
    assert "Right: empty, for AUCs within groups are of chosen cells." in text
    assert "have no groups" not in text
    with drawing_style(Style()):
        plt.close(best_figure.draw(table, OPTIONS))
    aucs[..., 1:] = np.nan
    with pytest.raises(UserError, match="no permutation of the labels leaves both"):
        tabulate(aucs)


def test_the_caption_says_which_probe_it_is():
    table = planted_best.make_table()
    assert best_figure.describe(table, "m", OPTIONS).startswith(
        "The best cell of a linear probe on"
    )
    table.attrs = {"protocol": {"kind": "mlp"}}
    text = best_figure.describe(table, "m", OPTIONS)
    assert text.startswith(
        "The best cell of a probe with a hidden layer (multilayer perceptron) on"
    )
    assert "converged" not in text
    once = table[(table["kind"] != "fold") | (table["fold"] == 0)]
    assert "where the cell is chosen on the training" in best_figure.describe(once, "m", OPTIONS)


def test_p_counts_permutations_that_reach_the_observed_maximum():
    table = planted_best.make_table()
    numbers = best_figure.state_numbers(table, OPTIONS)
    assert numbers["p"].value == 1 / 41
    table.loc[table["kind"] == "observed", "value"] = 0.6 + 0.001 * 30
    maxima = table.loc[table["kind"] == "permuted", "value"]
    reached = (maxima >= 0.6 + 0.001 * 30).sum()
    assert best_figure.state_numbers(table, OPTIONS)["p"].value == (1 + reached) / 41
    assert 10 <= reached <= 11


def test_the_caption_says_what_was_chosen_and_which_groups_have_no_score():
    table = planted_best.make_table()
    text = best_figure.describe(table, "m", OPTIONS)
    assert "permuted among questions of the same group, 40 times" in text
    assert "it is 0.870, at layer 3, -1: p = 0.0244." in text
    assert "0.850 [0.750, 0.950] where each of 5 test sets" in text
    assert "(layer 3, -1 (4); layer 2, -1 (1)), and 0.880 in the highest cell, 0.030 more" in text
    assert (
        "from 0.600 (group 1) to 0.900 (group 0), above AUC 0.5 with its interval in 2 of 3" in text
    )
    assert "Without an AUC: group 2 (fewer than 4 right or wrong answers)." in text
    assert "over the pairs of all of them, 0.750 [0.700, 0.800]" in text
    assert "Labels can change in 95% of the questions" in text
    alone = best_figure.describe(planted_best.make_table(groups=()), "m", OPTIONS)
    assert "no groups (dataset.group)" in alone
    without = best_figure.describe(planted_best.make_table(chosen=False), "m", OPTIONS)
    assert "no cell could be chosen on the training answers alone" in without
    small = best_figure.describe(planted_best.make_table(groups=(None, None)), "m", OPTIONS)
    assert "no group has enough right and wrong answers" in small


def test_groups_stand_in_order_of_their_score_and_lines_at_their_values(tmp_path):
    svg = drawn(best_figure.draw, planted_best.make_table(), OPTIONS, tmp_path)
    shown = [text for text in texts(svg) if text.startswith("group ")]
    assert set(shown) == {"group 0", "group 1", "group 3"}
    ids = {element.get("id") for element in svg.iter()}
    assert {"observed", "nested", "highest"} <= ids
    with drawing_style(Style()):
        fig = best_figure.draw(planted_best.make_table(), OPTIONS)
    left, right = fig.axes
    at = {line.get_gid(): line.get_xdata()[0] for line in left.lines}
    assert at == {"observed": 0.87, "nested": 0.85, "highest": 0.88}
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names == ["all questions", "pairs in groups", "group 1", "group 3", "group 0"]
    plt.close(fig)


@pytest.mark.parametrize("size", [15, 24])
def test_it_grows_with_a_large_font(size):
    with drawing_style(Style(font_size=size)):
        fig = draw_to_fit(
            "probe_best", lambda: best_figure.draw(planted_best.make_table(), OPTIONS)
        )
        assert find_problem(fig, on_page=False) == ""


@pytest.mark.parametrize("groups", [planted_best.GROUPS, (), tuple(np.linspace(0.4, 0.9, 60))])
@pytest.mark.parametrize("venue", ["icml", "neurips"])
def test_it_fits_a_page(venue, groups, tmp_path):
    with drawing_style(Style(venue=venue)):
        table = planted_best.make_table(groups=groups)
        fig = draw_to_fit("probe_best", lambda: best_figure.draw(table, OPTIONS))
        assert fig.get_figwidth() == pytest.approx(Style(venue=venue).inches)


@pytest.mark.parametrize("venue", ["default", "icml"])
def test_long_names_of_groups_fit_and_are_no_formulas(venue):
    table = planted_best.make_table(groups=(0.9, 0.8, 0.7, 0.6))
    names = ["US$ to A$ \\x^", "a_very_long_name_of_a_group_" * 3, "", "in two lines_of text"]
    table.loc[table["kind"] == "group", "group"] = names
    with drawing_style(Style(venue=venue)):
        fig = draw_to_fit("probe_best", lambda: best_figure.draw(table, OPTIONS))
        fig.canvas.draw()
        right = fig.axes[1].get_yticklabels()
        boxes = [label.get_window_extent() for label in right]
        assert all(one.y1 <= other.y0 for one, other in pairwise(boxes))
        shown = [label.get_text() for label in right]
        assert shown[2].replace("\n", "") == names[3]
        assert shown[3] == "no group"
        assert shown[4].count("\n") == 1
        assert shown[4].endswith("…")
        assert right[5].get_text() == names[0]
        assert not any(label.get_parse_math() for label in right)
    plt.close(fig)


AS_PUBLISHED = planted_best.make_table(groups=(0.9, 0.7, 0.6))
CONTRARY = planted_best.make_table(groups=(0.9, 0.4), nested=0.6, baseline=0.7, permuted=0.86)


@pytest.mark.parametrize(
    ("table", "verdict"), [(AS_PUBLISHED, REPRODUCED), (CONTRARY, NOT_REPRODUCED)]
)
def test_every_claim_can_hold_and_fail(table, verdict):
    claims = [
        claim
        for claim in check_claims({"claims": {"files": []}}, ROOT / "config/claims.yaml")
        if claim.figure == "probe_best"
    ]
    rows = check_table_claims("m", claims, best_figure.list_claim_cells(table, OPTIONS))
    assert len(rows) == 4
    assert rows["verdict"].tolist() == [verdict] * 4


def test_the_caption_states_repeated_choices_with_their_controls():
    text = best_figure.describe(planted_best.make_table(), "tiny", OPTIONS)
    assert "Of 44 cells 30 are above 95% of these maxima." in text
    assert (
        "Over 10 draws of folds, with a cell chosen in each fold, it has 0.850 [0.810, 0.890]; "
        "labels shuffled within group 0.610 ± 0.013 (standard deviation over 20 permutations)."
    ) in text
    assert (
        "the strongest baseline without hidden states, all confidence scores of the output and the "
        "group (0.750): 0.100 [0.080, 0.120]."
    ) in text
    assert "Over pairs of the same group it has 0.760 [0.700, 0.800]." in text
    assert "calibration slope 1.400" in text
    assert "draws of folds" not in best_figure.describe(
        planted_best.make_table(chosen=False), "tiny", OPTIONS
    )
