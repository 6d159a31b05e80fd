"""Claims evaluated on figures made by hand: verdict, reason, spread, page and guard."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import planted
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import compute_cells
from llm_figures.claims.attention_claims import check_attention_claims
from llm_figures.claims.claim import FigureClaim, PublishedFigure, Region
from llm_figures.claims.definitions import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.evaluation import COLUMNS, Spread, assess, attempt, build_claims_table
from llm_figures.claims.figures import ATTENTION_FIGURES, TABLE_FIGURES
from llm_figures.claims.module_claims import check_module_claims
from llm_figures.claims.page import guard, render_claims_page
from llm_figures.claims.panels import Panel, measure_maps, read_maps
from llm_figures.claims.probe_claims import (
    bootstrap_tables,
    build_score_tables,
    check_probe_claims,
)
from llm_figures.claims.references import count_verdicts
from llm_figures.claims.regions import Table, build_table, measure_table, place_on_colours
from llm_figures.claims.statistics import NotApplicableError
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.probe.classification_metrics import compute_auc
from llm_figures.workflow.config import check_claims

ROOT = Path(__file__).resolve().parents[3]
# Claims about other tables are held against planted ones beside the figures' own tests.
CLAIMS = [
    claim
    for claim in check_claims({"claims": {"files": []}}, ROOT / "config" / "claims.yaml")
    if claim.figure not in TABLE_FIGURES
]
BY_NAME = {claim.name: claim for claim in CLAIMS}
AS_DESCRIBED = {
    "mean_qkv": planted.MEAN_AS_DESCRIBED,
    "mean_qkv_tokens": planted.MEAN_AS_DESCRIBED,
    "scale_qkv": planted.SCALE_AS_DESCRIBED,
    "probe_auc": planted.PROBE_AS_DESCRIBED,
    "module_map": planted.MODULE_AS_DESCRIBED,
}
CONTRARY = {
    "mean_qkv": planted.MEAN_CONTRARY,
    "mean_qkv_tokens": planted.MEAN_CONTRARY,
    "scale_qkv": planted.SCALE_CONTRARY,
    "probe_auc": planted.PROBE_CONTRARY,
    "module_map": planted.MODULE_CONTRARY,
}


def claim(statistic, comparison=">=", threshold=0.5, figure="mean_qkv", **keys):
    """A claim as `check_claims` returns it."""
    values = {"id": "planted", "figures": [figure], "statement": "It is so.", "source": "here",
              "statistic": statistic, "comparison": comparison, "threshold": threshold,
              **keys}  # fmt: skip
    return read_options(FigureClaim, values, "claim")


def jittered(tables, draws=20, size=0.002):
    """Tables a little off, as a bootstrap would give them."""
    for draw in range(1, draws + 1):
        yield {
            name: replace(
                table,
                values=table.values
                + size * np.sin(draw * np.arange(table.values.size)).reshape(table.values.shape),
            )
            for name, table in tables.items()
        }


def assessed(about, data):
    """The row of one claim on a figure's cells or scores."""
    if about.figure in ATTENTION_FIGURES:
        return assess("m", about, lambda: measure_maps(about, read_maps(data)))
    if about.figure == "module_map":
        table = build_table(data, "projection", "value")
        tables = {"none": replace(table, values=place_on_colours(table.values))}
    else:
        tables = build_score_tables(data)

    def spread():
        values = [attempt(about, measure_table, drawn) for drawn in jittered(tables)]
        return Spread(values, "20 jitters", percentiles=True)

    return assess("m", about, lambda: measure_table(about, tables), spread)


# Every claim can hold, and can fail.


@pytest.mark.parametrize("name", BY_NAME)
def test_a_figure_as_described_reproduces_the_claim(name):
    """No statement contradicts another: one figure per description makes all of them true."""
    row = assessed(BY_NAME[name], AS_DESCRIBED[BY_NAME[name].figure])
    assert row["verdict"] == REPRODUCED, row
    assert np.isfinite(row["value"])


@pytest.mark.parametrize("name", BY_NAME)
def test_a_contrary_figure_does_not_reproduce_the_claim(name):
    about = BY_NAME[name]
    found = {
        figure: assessed(about, data)["verdict"]
        for figure, data in CONTRARY[about.figure].items()
        # a map that is no square is not a map to the other statistics
        if (figure == "wide") <= (about.statistic == "squareness")
    }
    assert NOT_REPRODUCED in found.values(), "no figure of tests/planted.py contradicts it"


@pytest.mark.parametrize("shape", [planted.RISE, planted.RISE[::-1]], ids=["rising", "falling"])
def test_higher_in_the_middle_is_higher_than_on_both_sides(shape):
    """A curve that rises throughout has a middle above its lower layers alone."""
    scores = planted.probe_figure(dict.fromkeys(planted.TOKENS, shape))
    row = assessed(BY_NAME["probe_auc/probe-end-middle"], scores)
    assert row["verdict"] == NOT_REPRODUCED
    assert row["value"] < -0.1


def test_layer_30_is_at_0_6_to_0_7_and_no_lower():
    for value, verdict in ((0.5, NOT_REPRODUCED), (0.65, REPRODUCED), (0.8, NOT_REPRODUCED)):
        scores = planted.probe_figure(dict.fromkeys(planted.TOKENS, value))
        assert assessed(BY_NAME["probe_auc/probe-layer-30"], scores)["verdict"] == verdict
    half = dict(zip(planted.TOKENS, [0.65] * 7 + [0.8] * 7, strict=True))
    row = assessed(BY_NAME["probe_auc/probe-layer-30"], planted.probe_figure(half))
    assert (row["value"], row["verdict"]) == (0.5, NOT_REPRODUCED)


def test_slightly_weaker_is_weaker_by_a_hundredth():
    for name, others in (("mean-input-2-weaker", (15, 14)), ("mean-input-3-weaker", (16, 15))):
        about = BY_NAME[f"mean_qkv/{name}"]
        for tokens, verdict in (((13, 15, 17), REPRODUCED), ((14, *others), NOT_REPRODUCED)):
            data = planted.mean_figure(planted.sink, tokens=tokens)
            assert assessed(about, data)["verdict"] == verdict, (name, tokens)


def test_rows_that_sum_to_one_have_no_overall_weight_to_compare():
    """Why three claims about overall weights can only follow the length of the text."""
    for name in ("mean-input-2-weaker", "mean-input-3-weaker", "mean-inputs-fall"):
        about = BY_NAME[f"mean_qkv/{name}"]
        for shape in (planted.sink, planted.fading, planted.strips):
            row = assessed(about, planted.mean_figure([shape, planted.itself, planted.blurred]))
            assert (row["value"], row["verdict"]) == (0, NOT_REPRODUCED)


def test_further_values_of_epsilon_change_no_verdict():
    """Ties among them, or steps the published figure had not, are no matter of its statements."""
    shapes = [planted.strips, planted.nearly_uniform, planted.uniform_causal]
    further = dict.fromkeys([0.9, 0.7, 1e-6, 1e-8], planted.uniform_causal)
    more = planted.cells(
        {
            (1, component, "scale", epsilon): shape(15)
            for component in planted.COMPONENTS
            for epsilon, shape in {**dict(zip(planted.EPSILONS, shapes, strict=True)),
                                   **further}.items()
        }
    )  # fmt: skip
    for name in ("scale-concentrates", "scale-towards-uniform"):
        about = BY_NAME[f"scale_qkv/{name}"]
        assert assessed(about, more)["verdict"] == REPRODUCED
        turned = more.assign(epsilon=more["epsilon"].replace({0.5: 1e-10, 1e-10: 0.5}))
        assert assessed(about, turned)["verdict"] == NOT_REPRODUCED


def test_a_trend_needs_three_values():
    about = claim("mean", "<=", -0.9, along="input")
    row = assessed(about, ONE_INPUT)
    assert row["verdict"] == NOT_APPLICABLE
    assert row["reason"] == "a trend needs three values of input; the figure has 1"


# What a claim says of several parts.


def test_the_worst_panel_speaks_for_all():
    data = planted.mean_figure([planted.sink, planted.sink, planted.warm_everywhere])
    value = planted.warm_everywhere(15)[1:, 0].mean()
    at_least = assessed(claim("sink_strength", ">=", 0.9), data)
    assert at_least["value"] == pytest.approx(value)
    assert at_least["verdict"] == NOT_REPRODUCED
    at_most = assessed(claim("sink_strength", "<=", 0.95), data)
    assert at_most["value"] == pytest.approx(0.95)
    assert at_most["verdict"] == REPRODUCED
    # 0.95 is 0.35 off the middle of 0.4 and 0.8, the other less
    within = assessed(claim("sink_strength", "within", [0.4, 0.8]), data)
    assert within["value"] == pytest.approx(0.95)
    assert (within["threshold"], within["threshold_high"]) == (0.4, 0.8)
    assert within["verdict"] == NOT_REPRODUCED
    assert assessed(claim("sink_strength", "within", [0.3, 0.95]), data)["verdict"] == REPRODUCED


@pytest.mark.parametrize(
    ("comparison", "holds"), [(">=", True), ("<=", True), (">", False), ("<", False)]
)
def test_an_end_belongs_to_some_comparisons(comparison, holds):
    row = assessed(claim("first_cell", comparison, 1), planted.mean_figure(planted.sink))
    assert row["verdict"] == (REPRODUCED if holds else NOT_REPRODUCED)


def test_panels_are_chosen_and_compared_by_their_fields():
    maps = read_maps(planted.SCALE_AS_DESCRIBED)
    assert len(maps) == 9
    key = measure_maps(
        claim("sink_strength", panels={"component": "key", "epsilon": [0.5, 1e-10]}), maps
    )
    uniform = planted.uniform_causal(15)[1:, 0].mean()
    strong = planted.strips(15, 0.55)[1:, 0].mean()
    assert sorted(value for _, value in key) == pytest.approx([uniform, strong])
    ((_, value),) = measure_maps(
        claim(
            "sink_strength",
            panels={"component": "key", "epsilon": 0.5},
            minus={"component": "query", "epsilon": 1e-10},
        ),
        maps,
    )
    assert value == pytest.approx(strong - uniform)
    ((_, trend),) = measure_maps(
        claim("sink_strength", along="epsilon", panels={"component": "query"}), maps
    )
    assert trend == 1


def test_across_takes_every_pair_that_differs_in_that_alone():
    maps = read_maps(planted.mean_figure([planted.sink, planted.sink, planted.itself]))
    pairs = measure_maps(claim("largest_difference", across="input"), maps)
    assert len(pairs) == 9
    found = {}
    for unit, value in pairs:
        found.setdefault(unit, set()).add(round(value, 9))
    assert found == {(1, 2): {0}, (1, 3): {1}, (2, 3): {1}}
    by_component = measure_maps(claim("largest_difference", across="component"), maps)
    assert [unit for unit, _ in by_component] == [1] * 3 + [2] * 3 + [3] * 3


def test_maps_come_back_from_tidy_cells():
    maps = read_maps(planted.MEAN_AS_DESCRIBED)
    np.testing.assert_array_equal(maps[Panel(1, "key", "mean")], planted.blurred(15))
    np.testing.assert_array_equal(maps[Panel(3, "value", "mean")], planted.sink(17))
    assert read_maps(planted.MEAN_CONTRARY["wide"])[Panel(1, "key", "mean")].shape == (15, 30)


def test_a_region_is_found_by_relative_depth():
    """Layers of the published figure; a layer of ours stands for that of the same depth."""
    table = Table(["a", "b"], range(4), np.arange(8.0).reshape(4, 2))
    # 4 layers stand for layers 0, 10.33, 20.67 and 31 of 32
    part = table.select(Region(columns="b", layers=(10, 21)), PublishedFigure(layers=32))
    assert part.values.tolist() == [[3], [5]]
    assert part.rows.tolist() == pytest.approx([31 / 3, 62 / 3])
    assert part.depth.tolist() == pytest.approx([1 / 3, 2 / 3])
    own = table.select(Region(columns=("b", "a"), layers=(2, 3)), PublishedFigure())
    assert own.values.tolist() == [[5, 4], [7, 6]]
    assert own.rows.tolist() == [2, 3]


def test_every_layer_belongs_to_one_part_of_a_split_of_the_depth():
    for layers in (2, 3, 16, 28, 30, 31, 32, 80):  # of 3, the middle one lies between 15 and 16
        table = Table(["a"], range(layers), np.zeros((layers, 1)))
        for parts in [(0, 10), (11, 31)], [(0, 15), (16, 31)]:
            published = PublishedFigure(layers=32)
            rows = [table.select(Region(layers=part), published).rows for part in parts]
            assert sum(map(len, rows)) == layers


def test_each_column_by_itself_or_all_together():
    tables = {"none": Table(["-2", "-1", "x"], range(2), np.array([[0.2, 0.8, 0], [0.4, 0.6, 0]]))}
    together = claim("average", figure="probe_auc", cells={"columns": "-?"})
    assert measure_table(together, tables) == [(None, pytest.approx(0.5))]
    each = [value for _, value in measure_table(together.changed(each="column"), tables)]
    assert each == pytest.approx([0.3, 0.7])
    several = claim("average", figure="probe_auc", cells=[{"columns": "-2"}, {"layers": [1, 1]}])
    assert [value for _, value in measure_table(several, tables)] == pytest.approx([0.3, 1 / 3])


def test_a_partner_has_what_it_does_not_name_from_the_region():
    values = np.array([[0.5, 0.6], [0.9, 0.7]])
    tables = {
        "none": Table(["a", "b"], range(2), values),
        "shuffled_labels": Table(["a", "b"], range(2), values / 10),
    }

    def value(cells, **partner):
        about = claim("average", figure="probe_auc", cells=cells, **partner)
        ((_, found),) = measure_table(about, tables)
        return found

    assert value({"columns": "a"}, minus={"layers": [0, 0]}) == pytest.approx(0.7 - 0.5)
    assert value({"columns": "a"}, minus={"columns": "b"}) == pytest.approx(0.7 - 0.65)
    assert value({"columns": "a"}, minus={"control": "shuffled_labels"}) == pytest.approx(0.63)
    shuffled = {"columns": "a", "control": "shuffled_labels"}
    assert value(shuffled, minus={"layers": [0, 0]}) == pytest.approx(0.07 - 0.05)
    assert value(shuffled, minus={"control": "none"}) == pytest.approx(-0.63)


def test_of_several_partners_the_worst_counts():
    tables = {"none": Table(["a"], range(3), np.array([[0.2], [0.6], [0.5]]))}
    about = claim("average", figure="probe_auc", cells={"layers": [1, 1]},
                  minus=[{"layers": [0, 0]}, {"layers": [2, 2]}])  # fmt: skip
    values = [value for _, value in measure_table(about, tables)]
    assert values == pytest.approx([0.4, 0.1])
    assert attempt(about, measure_table, tables) == pytest.approx(0.1)
    shapes = (planted.sink, planted.itself, planted.uniform_causal)
    maps = read_maps(planted.mean_figure(*shapes))
    other = claim("sink_strength", panels={"component": "query", "input": 1},
                  minus=[{"component": "key"}, {"component": "value"}])  # fmt: skip
    uniform = planted.uniform_causal(15)[1:, 0].mean()
    values = [value for _, value in measure_maps(other, maps)]
    assert values == pytest.approx([0.95, 0.95 - uniform])


def test_places_on_the_colour_scale():
    values = np.arange(101.0).reshape(101, 1)
    places = place_on_colours(values)
    assert places[:3, 0].tolist() == [0, 0, 0]
    assert places[98:, 0].tolist() == [1, 1, 1]
    assert places[50, 0] == 0.5
    assert place_on_colours(np.full((3, 2), 7.0)).tolist() == [[0, 0]] * 3
    scaled = place_on_colours(0.075 + values / 1e4)
    np.testing.assert_allclose(scaled, places, atol=1e-9)


# What is not applicable, and why.

WITHOUT_VALUE = planted.MEAN_AS_DESCRIBED.query("component != 'value'")
ONE_INPUT = planted.MEAN_AS_DESCRIBED.query("input == 1")
TWO_EPSILONS = planted.SCALE_AS_DESCRIBED.query("epsilon > 1e-5")
TWO_LAYERS = planted.probe_figure(dict.fromkeys(planted.TOKENS, 0.7), layers=2)


def without(figure, column, *names):
    return figure[~figure[column].isin(names)]


def unscored(figure, *tokens):
    values = ["mean", "ci_low", "ci_high"]
    return figure.assign(
        **{name: figure[name].where(~figure["token"].isin(tokens)) for name in values}
    )


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("mean_qkv/mean-value-column", WITHOUT_VALUE, "the figure has no panel of component value"),
        ("mean_qkv/mean-value-apart", WITHOUT_VALUE, "the figure has no panel of component value"),
        ("mean_qkv/mean-query-like-key", planted.MEAN_AS_DESCRIBED.query("component != 'key'"),
         "the figure has no panel of component key to compare with"),
        ("mean_qkv/mean-causal", planted.SCALE_AS_DESCRIBED,
         "the figure has no panel of operation mean"),
        ("scale_qkv/scale-square", planted.MEAN_AS_DESCRIBED,
         "the figure has no panel of operation scale"),
        ("scale_qkv/scale-small-uniform", TWO_EPSILONS, "the figure has no panel of epsilon 1e-10"),
        ("scale_qkv/scale-tiny-sharper", planted.SCALE_AS_DESCRIBED.query("epsilon < 1e-5"),
         "the figure has no panel of epsilon 0.001 to compare with"),
        ("scale_qkv/scale-concentrates", TWO_EPSILONS,
         "the figure has no panel of epsilon 1e-10"),
        ("scale_qkv/scale-value-constant", planted.SCALE_AS_DESCRIBED.query("epsilon == 0.5"),
         "the figure has one epsilon; the claim compares several"),
        ("mean_qkv/mean-inputs-alike", ONE_INPUT,
         "the figure has one input; the claim compares several"),
        ("mean_qkv/mean-input-2-weaker", ONE_INPUT, "the figure has no panel of input 2"),
        ("mean_qkv/mean-inputs-fall", ONE_INPUT, "the figure has no panel of input 2"),
        ("mean_qkv/mean-inputs-alike", planted.mean_figure(planted.looks_ahead),
         "one of two maps to be correlated is constant"),
        ("module_map/module-gate-blue",
         without(planted.MODULE_AS_DESCRIBED, "projection", "mlp. gate"),
         "the figure has no column mlp. gate"),
        ("probe_auc/probe-end-level",
         without(planted.PROBE_AS_DESCRIBED, "token", *planted.TOKENS[6:]),
         "the figure has no column -8"),
        ("probe_auc/probe-first-answer-late",
         without(planted.PROBE_AS_DESCRIBED, "token", "second_answer"),
         "the figure has no column second_answer"),
        ("probe_auc/probe-second-like-first",
         without(planted.PROBE_AS_DESCRIBED, "token", "second_answer"),
         "the figure has no column second_answer"),
        ("probe_auc/probe-end-peak", TWO_LAYERS,
         "none of the figure's 2 layers lies in 10 to 20 of 32"),
        ("probe_auc/probe-layer-30", TWO_LAYERS,
         "none of the figure's 2 layers lies in 30 to 30 of 32"),
        ("probe_auc/probe-shuffled",
         without(planted.PROBE_AS_DESCRIBED, "control", "shuffled_labels"),
         "the scores have no control shuffled_labels: it is fitted where probe.controls names it"),
        ("probe_auc/probe-last-q-late", unscored(planted.PROBE_AS_DESCRIBED, "last_q"),
         "no cell of the region has a score"),
        ("probe_auc/probe-intervals-apart", unscored(planted.PROBE_AS_DESCRIBED, "last_q"),
         "no cell of the region has a score"),
        ("probe_auc/probe-intervals-apart",
         planted.PROBE_AS_DESCRIBED.assign(ci_low=np.nan, ci_high=np.nan),
         "the statistic is not a number here"),
    ],
)  # fmt: skip
def test_what_the_figure_does_not_show_is_not_applicable(name, data, reason):
    row = build_claims_table([assessed(BY_NAME[name], data)]).iloc[0]
    assert (row["verdict"], row["reason"]) == (NOT_APPLICABLE, reason)
    for column in ("value", "low", "high", "spread", "units", "held", "heads", "held_heads"):
        assert pd.isna(row[column])


def test_a_column_without_some_of_its_scores_is_judged_by_the_rest():
    scores = planted.PROBE_AS_DESCRIBED.copy()
    scores.loc[scores["layer"].isin([6, 7]), "mean"] = np.nan
    assert assessed(BY_NAME["probe_auc/probe-last-q-late"], scores)["verdict"] == REPRODUCED


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("probe_auc/")])
def test_the_tokens_that_a_run_has_change_no_verdict(name):
    """A missing one leaves a claim as it is or not applicable; a further one leaves it."""
    rng = np.random.default_rng(0)
    scores = planted.probe_figure(
        {token: values + rng.normal(0, 0.01, 32) for token, values in planted.PROBE_COLUMNS.items()}
    )
    whole = assessed(BY_NAME[name], scores)
    for token in planted.TOKENS:
        row = assessed(BY_NAME[name], without(scores, "token", token))
        if row["verdict"] == NOT_APPLICABLE:
            assert row["reason"] == f"the figure has no column {token}"
        else:
            assert row["value"] == whole["value"]
    further = scores.query("token == '-1' and control == 'none'").assign(mean=0.02)
    further = further.assign(token="exact_answer_after_last")
    row = assessed(BY_NAME[name], pd.concat([scores, further]))
    assert (row["verdict"], row["value"]) == (whole["verdict"], whole["value"])


def test_patterns_stand_for_published_columns_and_else_for_the_figures_own():
    table = Table(["-1", "-2", "x"], range(2), np.zeros((2, 3)))

    def select(named, published):
        return table.select_columns(Region(columns=named), PublishedFigure(columns=published))

    own = PublishedFigure()
    assert table.select_columns(Region(), PublishedFigure(columns=["-1"])) == ["-1", "-2", "x"]
    assert table.select_columns(Region(columns="-?"), own) == ["-1", "-2"]
    assert select(["*", "-2"], ["x", "-2"]) == ["x", "-2"]
    assert select("-1", ["x", "-2"]) == ["-1"]
    with pytest.raises(NotApplicableError, match="no column -3$"):
        select("-?", ["-1", "-3"])
    with pytest.raises(NotApplicableError, match=r"no column y\*$"):
        table.select_columns(Region(columns="y*"), own)


def test_one_panel_that_is_no_number_is_not_passed_over():
    measured = [(1, 0.9), (2, np.nan), (3, 0.8)]
    row = assess("m", claim("mean"), lambda: measured)
    assert (row["verdict"], row["reason"]) == (NOT_APPLICABLE, "the statistic is not a number here")


# The spread.

MEAN = AttentionScoring(layer=0)
SCALE = AttentionScoring(operation="scale", epsilon=(0.5, 1e-3), layer=0)


def attention(about, options, states):
    cells = compute_cells("mean_qkv", options, states)
    return check_attention_claims("m", [about], cells, options, states).iloc[0]


VALUE = claim("sink_strength", ">=", 0.5, panels={"component": "value"})
TWO_OF_THREE = [planted.sink(9), planted.sink(9), planted.itself(9)]
ALL_SINKS = [planted.sink(9)] * 3


def test_inputs_and_heads_that_hold_are_counted():
    one_lost = [planted.sink(9), planted.itself(9), planted.itself(9)]
    states = [planted.states(n, maps) for n, maps in enumerate([ALL_SINKS, ALL_SINKS, one_lost], 1)]
    row = attention(VALUE, MEAN, states)
    assert row["value"] == pytest.approx(0.95 / 3)
    assert row["verdict"] == NOT_REPRODUCED
    assert (row["units"], row["held"]) == (3, 2)
    assert row["spread"] == "range over 3 inputs"
    assert (row["low"], row["high"]) == pytest.approx((0.95 / 3, 0.95))
    # a head holds where it does in every input
    assert (row["heads"], row["held_heads"]) == (3, 1)


def test_one_head_that_violates_need_not_be_seen_in_the_mean():
    row = attention(VALUE, MEAN, [planted.states(n, TWO_OF_THREE) for n in (1, 2)])
    assert row["value"] == pytest.approx(0.95 * 2 / 3)
    assert row["verdict"] == REPRODUCED
    assert (row["units"], row["held"]) == (2, 2)
    assert (row["heads"], row["held_heads"]) == (3, 2)


def test_a_shown_head_is_spread_over_inputs_by_itself():
    states = [planted.states(1, TWO_OF_THREE), planted.states(2, ALL_SINKS)]
    row = attention(VALUE, MEAN.changed(head=2), states)
    assert (row["low"], row["high"]) == pytest.approx((0, 0.95))
    assert (row["held"], row["held_heads"]) == (1, 2)


def test_a_scale_figure_shows_one_input_and_is_spread_over_all():
    lost = [planted.itself(9)] * 3
    states = [planted.states(n, maps) for n, maps in enumerate([ALL_SINKS, lost, TWO_OF_THREE], 1)]
    about = claim(
        "sink_strength", figure="scale_qkv", panels={"component": "value", "epsilon": 0.5}
    )
    row = attention(about, SCALE, states)
    assert row["value"] == pytest.approx(0.95)
    assert row["verdict"] == REPRODUCED
    assert (row["units"], row["held"], row["spread"]) == (3, 2, "range over 3 inputs")
    assert (row["low"], row["high"]) == pytest.approx((0, 0.95))
    # heads are those of the shown input
    assert (row["heads"], row["held_heads"]) == (3, 3)
    other = attention(about, SCALE.changed(input=2), states)
    assert other["value"] == pytest.approx(0)
    assert (other["verdict"], other["held"]) == (NOT_REPRODUCED, 2)


def test_a_comparison_is_counted_by_what_it_compares():
    states = [planted.states(n, ALL_SINKS) for n in (1, 2)] + [
        planted.states(3, [planted.itself(9)] * 3)
    ]
    alike = claim("correlation", ">=", 0.9, panels={"component": "value"}, across="input")
    row = attention(alike, MEAN, states)
    assert (row["units"], row["held"]) == (3, 1)
    assert row["spread"] == "range over 3 pairs of inputs"
    # across epsilons every input is a unit, not a pair of them
    constant = claim("correlation", ">=", 0.9, panels={"component": "value"}, across="epsilon")
    row = attention(constant, SCALE, states)
    assert (row["units"], row["held"], row["spread"]) == (3, 3, "range over 3 inputs")


def test_a_claim_on_all_inputs_at_once_has_no_spread_over_them():
    states = [planted.states(n, [planted.sink(8 + n)] * 3) for n in (1, 2, 3)]
    row = attention(
        claim("mean", "<=", -0.9, panels={"component": "value"}, along="input"), MEAN, states
    )
    assert (row["value"], row["verdict"]) == (-1, REPRODUCED)
    for column in ("low", "high", "spread", "units", "held"):
        assert pd.isna(row[column])
    assert (row["heads"], row["held_heads"]) == (3, 3)


def test_one_unit_has_no_range():
    row = attention(VALUE, MEAN, [planted.states(1, ALL_SINKS)])
    assert (row["units"], row["held"]) == (1, 1)
    assert row[["low", "high", "spread"]].isna().all()


def activity(scale):
    """Activity of two texts, two layers and two modules; strengths `scale` [texts, 2, 2]."""
    rows = [
        {"text": text, "layer": layer, "projection": module, "input_norm": 2.0, "weight_norm": 5.0,
         "d_in": 4, "output_norm": 10.0 * scale[text][layer][column]}
        for text in range(len(scale))
        for layer in range(2)
        for column, module in enumerate(["attn. q", "attn. k"])
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_module_map_is_spread_over_texts():
    texts = [[[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.2], [0.3, 0.4]], [[0.4, 0.3], [0.2, 0.1]]]
    measured = activity(texts)
    means = np.mean(texts, axis=0).ravel()
    scores = pd.DataFrame(
        {"layer": [0, 0, 1, 1], "projection": ["attn. q", "attn. k"] * 2,
         "metric": "operation_strength", "value": means}
    )  # fmt: skip
    about = claim("peak_layer", ">=", 1, figure="module_map", cells={"columns": "attn. k"})
    row = check_module_claims("m", [about], scores, measured, "operation_strength").iloc[0]
    assert (row["value"], row["verdict"]) == (1, REPRODUCED)
    assert (row["units"], row["held"], row["spread"]) == (3, 2, "range over 3 texts")
    assert (row["low"], row["high"]) == (0, 1)
    assert row[["heads", "held_heads"]].isna().all()


# The bootstrap of the probe.

QUESTIONS = 400


def probed(columns, folds=2, split_groups=None):
    """Scores, predictions and answers of probes: {token: scores [layers, questions]}."""
    answers = pd.DataFrame({"question_id": np.arange(QUESTIONS)})
    answers["split_group"] = np.arange(QUESTIONS) if split_groups is None else split_groups
    answers["correct"] = np.arange(QUESTIONS) % 2 == 0
    predictions, scores = [], []
    wrong = (~answers["correct"]).to_numpy().astype(int)
    for token, layers in columns.items():
        for layer, values in enumerate(layers):
            fold = np.arange(QUESTIONS) // 2 % folds
            predictions.append(
                pd.DataFrame(
                    {"question_id": np.arange(QUESTIONS), "score": values, "fold": fold}
                ).assign(control="none", layer=layer, token=token, repeat=0)
            )
            mean = np.mean([
                compute_auc(wrong[fold == n], values[fold == n], np.ones((1, (fold == n).sum())))
                for n in range(folds)
            ])  # fmt: skip
            scores.append({"layer": layer, "token": token, "metric": "auc", "control": "none",
                           "mean": mean, "ci_low": mean, "ci_high": mean})  # fmt: skip
    predictions = pd.concat(predictions).sample(frac=1, random_state=0)
    return pd.DataFrame(scores), predictions, answers.sample(frac=1, random_state=1)


def separated(distance, seed):
    """Scores of which a wrong answer's is higher by `distance` standard deviations."""
    noise = np.random.default_rng(seed).normal(size=QUESTIONS)
    return noise + distance * (np.arange(QUESTIONS) % 2)


def test_resampling_each_question_once_gives_the_scores_back(monkeypatch):
    scores, predictions, answers = probed({"a": [separated(1, 0), separated(2, 1)]}, folds=5)
    monkeypatch.setattr(
        "llm_figures.claims.probe_claims.draw_resamples",
        lambda split_groups, draws, seed: np.ones((2, len(split_groups))),
    )
    table = build_score_tables(scores)["none"]
    (drawn,) = bootstrap_tables(predictions, answers, table, seed=0, draws=1)
    np.testing.assert_allclose(drawn["none"].values, table.values, atol=1e-12)


def test_the_interval_is_as_wide_as_the_auc_is_uncertain():
    """Hanley & McNeil 1982: the standard error of an AUC from the two classes' sizes."""
    data = probed({"a": [separated(1, seed=5)] * 2}, folds=1)
    about = claim("largest", ">=", 0.6, figure="probe_auc", cells={"columns": "a"})
    row = check_probe_claims("m", [about], *data, seed=0).iloc[0]
    area, count = row["value"], QUESTIONS / 2
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (count - 1) * (q1 + q2 - 2 * area**2)) / count**2)
    assert area == pytest.approx(0.76, abs=0.04)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert row["low"] < area < row["high"]
    assert (row["units"], row["held"], row["verdict"]) == (500, 500, REPRODUCED)
    assert row["spread"] == "95% of 500 bootstrap resamples of the questions"


def test_two_cells_are_compared_on_the_same_resamples():
    """Probes that err on the same questions differ surely, however uncertain each of them is."""
    first = separated(0.8, seed=1)
    better = first + 0.15 * (np.arange(QUESTIONS) % 2)
    other = separated(0.95, seed=2)

    def compared(rival):
        about = claim("largest", ">", 0, figure="probe_auc", certain=True,
                      cells={"columns": "b"}, minus={"columns": "a"})  # fmt: skip
        alone = claim("largest", ">", 0, figure="probe_auc", cells={"columns": "b"})
        data = probed({"a": [first] * 2, "b": [rival] * 2}, folds=1)
        return [row for _, row in check_probe_claims("m", [about, alone], *data, seed=0).iterrows()]

    paired, alone = compared(better)
    width = paired["high"] - paired["low"]
    assert width < (alone["high"] - alone["low"]) / 3
    assert (paired["held"], paired["verdict"]) == (500, REPRODUCED)
    unpaired, _ = compared(other)
    assert unpaired["high"] - unpaired["low"] > 3 * width
    same, _ = compared(first)
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    assert same["verdict"] == NOT_REPRODUCED


def test_questions_asked_twice_are_drawn_together():
    values = np.repeat(separated(1, seed=3)[: QUESTIONS // 4 * 2], 2)
    pairs = np.arange(QUESTIONS).reshape(-1, 4)[:, [0, 2, 1, 3]]  # equal label, equal score
    spread_out = np.empty(QUESTIONS)
    spread_out[pairs.ravel()] = values
    split_groups = np.empty(QUESTIONS, dtype=int)
    split_groups[pairs.ravel()] = np.repeat(np.arange(QUESTIONS // 2), 2)
    about = claim("largest", figure="probe_auc", cells={"columns": "a"})

    def width(split_groups):
        data = probed({"a": [spread_out] * 2}, folds=1, split_groups=split_groups)
        row = check_probe_claims("m", [about], *data, seed=0).iloc[0]
        return row["high"] - row["low"]

    assert width(split_groups) / width(None) == pytest.approx(np.sqrt(2), rel=0.15)


def test_a_control_without_predictions_has_a_value_and_no_spread():
    scores, predictions, answers = probed({"a": [separated(1, 0)] * 2})
    both = pd.concat([scores, scores.assign(control="embeddings", mean=0.6)])
    about = claim("average", figure="probe_auc", cells={"control": "embeddings"})
    sure = about.changed(certain=True)
    plain, certain = (
        row
        for _, row in check_probe_claims(
            "m", [about, sure], both, predictions, answers, 0
        ).iterrows()
    )
    assert (plain["value"], plain["verdict"]) == (pytest.approx(0.6), REPRODUCED)
    assert plain[["low", "high", "units"]].isna().all()
    assert certain["verdict"] == NOT_APPLICABLE
    assert "about an interval" in certain["reason"]
    assert pd.isna(certain["value"])


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.55, 0.6, 0.7], REPRODUCED),
        ([0.45, 0.6, 0.7], NOT_REPRODUCED),
        ([0.6], NOT_APPLICABLE),
        ([], NOT_APPLICABLE),
        ([np.nan, np.nan], NOT_APPLICABLE),
    ],
)
def test_a_certain_claim_needs_both_ends(values, verdict):
    about = claim("mean", ">=", 0.5)
    measured = [(None, 0.6)]
    row = assess("m", about.changed(certain=True), lambda: measured, lambda: Spread(values, "x"))
    assert row["verdict"] == verdict
    uncertain = assess("m", about, lambda: measured, lambda: Spread(values, "x"))
    assert uncertain["verdict"] == REPRODUCED


def test_both_ends_must_lie_within():
    about = claim("mean", "within", [0.5, 0.7], certain=True)
    for values, verdict in (([0.5, 0.7], REPRODUCED), ([0.55, 0.75], NOT_REPRODUCED)):
        row = assess("m", about, lambda: [(None, 0.6)], lambda v=values: Spread(v, "x"))
        assert row["verdict"] == verdict


def test_percentiles_leave_the_outermost_draws_out():
    values = np.linspace(0, 1, 201)
    row = assess("m", claim("mean", ">=", 0.9), lambda: [(None, 0.5)],
                 lambda: Spread([*values, np.nan], "x", percentiles=True))  # fmt: skip
    assert (row["low"], row["high"]) == pytest.approx((0.025, 0.975))
    assert (row["units"], row["held"]) == (201, 21)


# The table, the page and the guard.


def claim_row(**changes):
    row = {"model": "m", "figure": "mean_qkv", "claim": "one", "statement": "It is so.",
           "source": "a, line 1", "statistic": "mean", "comparison": ">=", "threshold": 0.5,
           "value": 0.75, "verdict": REPRODUCED}  # fmt: skip
    return row | changes


ROWS = build_claims_table(
    [
        claim_row(low=0.6, high=0.8, units=3, held=2, heads=9, held_heads=5, note="It must be."),
        claim_row(claim="two", statement="a | b", value=-0.0002, verdict=NOT_REPRODUCED,
             units=1, held=0),
        claim_row(figure="module_map", claim="three", value=None, verdict=NOT_APPLICABLE,
             reason="the figure has no column x"),
        claim_row(figure="module_map", claim="four", comparison="within", threshold=13.0,
             threshold_high=17.0, value=14.0),
    ]
)  # fmt: skip


def test_the_table_has_the_columns_that_others_rely_on():
    assert list(ROWS.columns) == list(COLUMNS)
    assert {"model", "figure", "claim", "statement", "source", "statistic", "comparison",
            "threshold", "threshold_high", "value", "low", "high", "spread", "units", "held",
            "heads", "held_heads", "verdict", "reason"} <= set(COLUMNS)  # fmt: skip
    assert ROWS["value"].dtype == "float64"
    assert ROWS["held"].dtype == "Int64"
    # a figure without any of it has the same types, so that files can be joined
    assert build_claims_table([]).dtypes.equals(ROWS.dtypes)


def test_a_row_holds_its_test_but_not_its_words():
    def test(**changes):
        about = claim("average", figure="probe_auc", **{"cells": {"columns": "a"}, **changes})
        return assess("m", about, lambda: [(None, 0.6)])["test"]

    first = test()
    assert test(statement="Otherwise.", source="there", note="So.", id="other") == first
    assert test(options={}, cells={"columns": "a"}) == first
    different = [test(cells={"columns": "b"}), test(threshold=0.6), test(certain=True),
                 test(published={"layers": 32}), test(each="column")]  # fmt: skip
    assert len({first, *different}) == 6


def test_the_page_counts_and_spells_every_verdict():
    page = render_claims_page(ROWS, "m").splitlines()
    assert page[0] == "# Claims: m"
    assert "| mean_qkv | 1 | 1 | 0 | 0 | – | – |" in page
    assert "| module_map | 1 | 0 | 1 | 0 | – | – |" in page
    assert count_verdicts(ROWS) == {REPRODUCED: 2, NOT_REPRODUCED: 1, NOT_APPLICABLE: 1}
    assert (
        "| ✓ reproduced | one | It is so. | 0.75 [0.6, 0.8], 2/3, heads 5/9 | ≥ 0.5 | – | mean "
        "| a, line 1 |"
    ) in page
    assert ("| ✗ not reproduced | two | a \\| b | −2e−4 | ≥ 0.5 | – | mean | a, line 1 |") in page
    assert (
        "| – not applicable | three | It is so. | the figure has no column x | ≥ 0.5 | – | mean "
        "| a, line 1 |"
    ) in page
    assert "| ✓ reproduced | four | It is so. | 14 | 13 to 17 | – | mean | a, line 1 |" in page
    assert (
        page.index("## mean_qkv") < page.index("- one: It must be.") < page.index("## module_map")
    )
    assert page.count("Notes:") == 1


def test_a_baseline_stands_beside_every_count_of_the_page():
    kinds = {"random_rows": {"held": 30, "of": 100}, "random_weights": {"held": 5, "of": 25}}
    held = {"references": 125, "held_references": 35, "references_by_kind": json.dumps(kinds)}
    rows = [claim_row(**held, claim=f"c{n}", decided=False) for n in range(10)]
    held = {"references": 100, "held_references": 50}
    held["references_by_kind"] = '{"noise": {"held": 50, "of": 100}}'
    rows.append(claim_row(figure="module_map", **held, decided=False))
    page = render_claims_page(build_claims_table(rows), "m")
    assert "; random or permuted data satisfy 3.3 of the 11 on average." in page
    assert "| mean_qkv | 10 | 0 | 0 | 0 | 2.8 of 10 | 2.0 of 10 |" in page
    assert "| module_map | 1 | 0 | 0 | 0 | 0.5 of 1 | – |" in page


def test_a_claim_about_its_whole_interval_says_so_wherever_its_threshold_stands():
    about = claim("mean", "<", 0, certain=True)
    row = assess("m", about, lambda: [(None, -2e-5)], lambda: Spread([-0.1, 0.1], "x"))
    rows = build_claims_table([row])
    assert rows["verdict"].tolist() == [NOT_REPRODUCED]
    assert "| −2e−5 [−0.1, 0.1], 1/2 | < 0, the whole interval |" in render_claims_page(rows, "m")
    with pytest.raises(UserError, match=r"\(−2e−5 .*, < 0, the whole interval\)"):
        guard(rows, ["mean_qkv/planted"], "here")
    without = build_claims_table([assess("m", about.changed(certain=False), lambda: [(None, 1)])])
    assert "whole interval |" not in render_claims_page(without, "m")


def test_the_page_says_what_a_line_of_a_description_is_where_it_cites_one():
    def page(source):
        return render_claims_page(build_claims_table([claim_row(source=source)]), "m")

    for source in ("mean_qkv a, line 22", "mean_qkv b, lines 18 and 22", "probe_auc, line 10"):
        assert "docs/descriptions.md" in page(source)
    for source in ("Orgad et al. 2025, arXiv 2410.02707", "control of this project", None):
        assert "docs/descriptions.md" not in page(source)


def test_a_page_without_claims_says_why():
    page = render_claims_page(build_claims_table([]), "m")
    assert "\n\nNo claim is checked: `claims.built_in` leaves out " in page
    assert "|" not in page


def test_the_guard_names_each_claim_that_fails():
    assert guard(ROWS, ["mean_qkv/one", "module_map/four"], "here") == (
        "mean_qkv/one: reproduced\nmodule_map/four: reproduced\n"
    )
    assert guard(ROWS, [], "here") == ""
    with pytest.raises(UserError) as failed:
        guard(ROWS, ["mean_qkv/one", "mean_qkv/two", "module_map/three"], "here/claims.parquet")
    assert str(failed.value).splitlines() == [
        "claims.fail_on: mean_qkv/two: not reproduced (−2e−4, ≥ 0.5); see here/claims.parquet",
        "claims.fail_on: module_map/three: not applicable (the figure has no column x); see "
        "here/claims.parquet",
    ]


def test_a_threshold_is_shown_as_the_claim_says_it():
    rows = build_claims_table(
        [
            claim_row(threshold=0.9999, value=0.99985, verdict=NOT_REPRODUCED),
            claim_row(comparison="within", threshold=-1.00004, threshold_high=1e-10, value=0.0),
        ]
    )
    page = render_claims_page(rows, "m")
    assert "| 0.99985 | ≥ 0.9999 | – | mean |" in page
    assert "| 0 | −1.00004 to 1e−10 | – | mean |" in page
    with pytest.raises(UserError, match=r"not reproduced \(0\.99985, ≥ 0\.9999\)"):
        guard(rows.head(1), ["mean_qkv/one"], "here")


def test_line_breaks_do_not_split_a_row():
    page = render_claims_page(
        build_claims_table([claim_row(statement="It is\nso.\n", note="Why:\n\nso.")]), "m"
    )
    assert "| one | It is so. | 0.75 |" in page
    assert "- one: Why: so." in page


def test_best_layers_are_those_chosen_on_training_answers():
    """The layer with the higher score is not the one that the training answers speak for."""
    values = {"a": [separated(2, 0), separated(1, 1)], "b": [separated(1, 2)] * 2}
    scores, predictions, answers = probed(values, folds=5)
    by_layer = predictions["layer"].map({0: 0.6, 1: 0.7})
    predictions = predictions.assign(inner_auc=by_layer)
    chosen = scores[scores["layer"] == 1].assign(metric="nested_auc", layer=-1, folds=5)
    scores = pd.concat([scores, chosen], ignore_index=True)
    about = claim(
        "largest", ">", 0, figure="probe_auc", cells={"columns": "a", "control": "nested"},
        minus={"columns": "b"},
    )  # fmt: skip
    highest = about.changed(cells=about.cells.changed(control="none"))
    nested, naive = (
        row
        for _, row in check_probe_claims(
            "m", [about, highest.changed(id="naive")], scores, predictions, answers, seed=0
        ).iterrows()
    )
    of = scores.set_index(["metric", "token", "layer"])["mean"]
    expected = of["nested_auc", "a", -1] - of["nested_auc", "b", -1]
    assert nested["value"] == pytest.approx(expected)
    assert nested["low"] < nested["value"] < nested["high"]
    assert naive["value"] > nested["value"] + 0.05
    without = check_probe_claims(
        "m", [about], scores[scores["layer"] >= 0], predictions, answers, 0
    )
    assert without["verdict"].tolist() == [NOT_APPLICABLE]
