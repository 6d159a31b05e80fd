"""The figure of heads: its map and curve, its caption, and the claims about it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from drawn_figures import PROTOCOL, drawn, head_scores, texts
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.probe import heads_figure
from llm_figures.probe.heads_figure import (
    describe,
    draw,
    list_claim_cells,
    pivot_heads,
    rank_heads,
    state_numbers,
)
from llm_figures.workflow.config import check_claims

ROOT = Path(__file__).resolve().parents[3]
CLAIMS = [
    claim
    for claim in check_claims({"claims": {"files": []}}, ROOT / "config" / "claims.yaml")
    if claim.figure == "probe_heads"
]
LAYERS, HEADS = 32, 8


@pytest.fixture
def options():
    return heads_figure.OPTIONS(token="last_q", **PROTOCOL)


def plant(values):
    """Scores whose AUCs are `values`, [layers, heads], with intervals of ± 0.1."""
    scores = head_scores(*values.shape)
    itself = scores["control"] == "none"
    scores.loc[itself, "mean"] = values.ravel()
    return scores.assign(ci_low=scores["mean"] - 0.1, ci_high=scores["mean"] + 0.1)


def test_the_map_has_layers_down_and_heads_across(options, tmp_path):
    values = np.linspace(0.5, 0.9, 12).reshape(4, 3)
    svg = drawn(draw, plant(values), options, tmp_path)
    found = texts(svg)
    assert {"Layer", "Head", "AUC", "Rank of the head", "heads, ranked", "group alone"} <= {*found}
    assert "labels shuffled" not in found  # every head has its own
    fig = draw(plant(values), options)
    left, right = fig.axes[:2]
    mesh = left.collections[0]
    np.testing.assert_allclose(mesh.get_array().reshape(4, 3), values)
    assert left.yaxis.get_inverted()
    line = right.lines[0]
    assert line.get_xdata().tolist() == list(range(1, 13))
    np.testing.assert_allclose(line.get_ydata(), np.sort(values.ravel())[::-1])
    plt.close(fig)


def test_layers_without_heads_are_grey_and_named(options):
    scores = head_scores(6, 3, without=(1, 2, 4))
    values = pivot_heads(scores, "auc")
    assert values.shape == (6, 3)
    assert values.isna().all(axis=1).tolist() == [False, True, True, False, True, False]
    assert len(rank_heads(scores, "auc")) == 9
    assert "Grey: layers 1–2, 4 have no attention heads." in describe(scores, "m", options)


def test_the_caption_says_that_the_highest_is_a_selection(options):
    values = np.full((4, 3), 0.55)
    values[2, 1], values[0, 0], values[3, 2] = 0.9, 0.7, 0.3
    scores = plant(values)
    numbers = state_numbers(scores, options)
    assert (numbers["highest_layer"].value, numbers["highest_head"].value) == (2, 1)
    assert numbers["heads"].value == 12
    assert numbers["above_chance"].value == 2
    assert numbers["below_chance"].value == 1
    text = describe(scores, "m", options)
    assert (
        "Highest: layer 2, head 1: 0.900 [0.800, 1.000]. It was chosen as the highest of 12 heads "
        "by this very score, which favours it; the interval is that of a single head. The median "
        "head has 0.550."
    ) in text
    assert (
        "Of 12 intervals 2 lie above 0.5 and 1 below it; the others do not exclude 0.5."
    ) in text


def test_of_equal_heads_the_first_is_the_highest(options):
    numbers = state_numbers(plant(np.full((3, 3), 0.6)), options)
    assert (numbers["highest_layer"].value, numbers["highest_head"].value) == (0, 0)


def test_other_metrics_say_nothing_of_chance(options):
    scores = head_scores(3, 3).assign(metric="accuracy")
    text = describe(scores, "m", options.changed(metric="accuracy"))
    assert text.startswith("Accuracy of a linear probe on the output of each attention head of m")
    assert "exclude" not in text


# Claims: one planted map that reproduces all, and one that contradicts each.


def as_described():
    """Most heads at chance, one strong head in each layer of the middle."""
    values = np.full((LAYERS, HEADS), 0.52)
    values[5:15, 3] = 0.8
    values[14, 3] = 0.85
    return values


def check(values, options):
    cells = list_claim_cells(plant(values), options)
    verdicts = check_table_claims("m", CLAIMS, cells)
    return verdicts.set_index("claim")["verdict"].to_dict()


def test_a_figure_as_described_reproduces_all_claims(options):
    assert len(CLAIMS) == 6
    found = check(as_described(), options)
    assert set(found.values()) == {"reproduced"}, found


@pytest.mark.parametrize(
    ("values", "failing"),
    [
        (np.roll(as_described(), 14, axis=0), {"early-to-middle", "peak-early-to-middle"}),
        (np.full((LAYERS, HEADS), 0.8), {"many-at-chance", "few-stand-out", "far-apart",
                                         "early-to-middle"}),
        (np.full((LAYERS, HEADS), 0.5), {"best-strong", "far-apart", "early-to-middle"}),
    ],
    ids=["late", "all strong", "all at chance"],
)  # fmt: skip
def test_a_contrary_figure_fails_what_it_contradicts(values, failing, options):
    found = check(values, options)
    assert {name for name, verdict in found.items() if verdict == "not reproduced"} == {
        f"heads-{name}" for name in failing
    }
