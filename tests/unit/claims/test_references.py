"""Which claims could have failed: references, their shares, and the rule that decides."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import planted
from llm_figures.attention.maps import uniform_causal
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import compute_cells
from llm_figures.claims.attention_claims import check_attention_claims
from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.definitions import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.evaluation import attempt, build_claims_table
from llm_figures.claims.panels import Panel, measure_maps
from llm_figures.claims.reference_maps import DRAWS, SPREADS, draw_reference_maps, draw_states
from llm_figures.claims.reference_tables import draw_reference_tables
from llm_figures.claims.references import (
    NOISE,
    PERMUTED,
    RANDOM,
    RANDOM_WEIGHTS,
    SMOOTH,
    UNIFORM,
    compute_baseline,
    count_decided,
    count_open,
    count_verdicts,
    describe_baseline,
    find_decided,
    judge_references,
    show_share,
    summarize,
)
from llm_figures.claims.regions import Table
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.core.options_reader import read_options

TOKENS, HEADS = 9, 3


def claim(statistic, comparison=">=", threshold=0.5, figure="mean_qkv", **keys):
    values = {"id": "planted", "figures": [figure], "statement": "It is so.", "source": "here",
              "statistic": statistic, "comparison": comparison, "threshold": threshold,
              **keys}  # fmt: skip
    return read_options(FigureClaim, values, "claim")


def states(shape=planted.sink, tokens=(TOKENS,) * 3):
    return [
        planted.states(index, [shape(length)] * HEADS) for index, length in enumerate(tokens, 1)
    ]


def checked(*claims, options=None, clean=None, **keys):
    options, clean = options or AttentionScoring(layer=0), clean or states()
    cells = compute_cells("mean_qkv", options, clean)
    rows = check_attention_claims("m", claims, cells, options, clean, **keys)
    return rows if len(rows) > 1 else rows.iloc[0]


def judged(about, value, values, **keys):
    verdict = REPRODUCED if about.holds(value) else NOT_REPRODUCED
    return judge_references(about, value, verdict, values, **keys)


# The rule.


@pytest.mark.parametrize(
    ("value", "values", "decided"),
    [
        (0.7, [0.6] * 95 + [0.4] * 5, True),  # nearly all
        (0.7, [0.6] * 94 + [0.4] * 6, False),
        (0.3, [0.6] * 100, False),  # the run itself shows that it can fail
        (0.7, [0.4] * 100, False),  # true of the run alone: the most informative kind
        (0.4, list(np.linspace(0, 0.4, 100)), False),  # it could have held: the value varies
        (0.4, [0.4] * 100, True),  # the value follows from the shape of the data
        (0.4, [0.4 + 1e-9 * n for n in range(100)], True),  # up to rounding
        (0.4, [0.3] * 100, False),
        (0.7, [0.6] * 19, False),  # too few
        (0.4, [0.4] * 19, False),
        (0.7, [0.6] * 20 + [np.nan] * 5, True),
    ],
)
def test_a_claim_is_decided_by_nearly_all_or_where_it_cannot_hold(value, values, decided):
    row = judged(claim("mean"), value, {RANDOM: values})
    assert row["decided"] is decided
    assert row["references"] == np.isfinite(values).sum()
    assert row["held_references"] == sum(one >= 0.5 for one in values)


def test_every_large_kind_must_satisfy_it():
    large = {RANDOM: [0.6] * 400, RANDOM_WEIGHTS: [0.4] * 20}
    assert not judged(claim("mean"), 0.7, large)["decided"]
    # one map is no share
    small = {RANDOM: [0.6] * 400, UNIFORM: [0.4]}
    row = judged(claim("mean"), 0.7, small)
    assert row["decided"]
    assert json.loads(row["references_by_kind"]) == {
        RANDOM: {"held": 400, "of": 400},
        UNIFORM: {"held": 0, "of": 1},
    }


def test_permuted_cells_with_the_runs_own_value_are_left_out():
    """The highest of all cells is so in any order: these are the run's data, no reference."""
    row = judged(claim("mean"), 0.7, {PERMUTED: [0.7] * 100, NOISE: [0.6] * 50 + [0.4] * 50})
    assert (row["references"], row["held_references"], row["decided"]) == (100, 50, False)
    other = judged(claim("mean"), 0.7, {PERMUTED: [0.7] * 99 + [0.4], NOISE: [0.6] * 100})
    assert (other["references"], other["decided"]) == (200, True)
    assert not judged(claim("mean"), 0.7, {PERMUTED: [0.7] * 100})["decided"]


def test_a_reference_is_as_uncertain_as_the_run():
    sure = claim("mean", ">", 0, certain=True)
    values = {NOISE: [0.05, 0.15, 0.25, -0.05]}
    row = judge_references(sure, 0.3, REPRODUCED, values, margins=(-0.1, 0.2))
    assert (row["references"], row["held_references"]) == (4, 2)
    plain = judge_references(sure.changed(certain=False), 0.3, REPRODUCED, values, (-0.1, 0.2))
    assert plain["held_references"] == 3


def test_what_is_not_applicable_is_not_decided():
    row = checked(claim("sink_strength", panels={"epsilon": 0.1}))
    assert row["verdict"] == NOT_APPLICABLE
    assert not row["decided"]
    assert pd.isna(row["references"])


# Attention figures.

ALWAYS = [
    claim("first_cell", ">=", 0.9),
    claim("squareness", "within", [1, 1]),
    claim("above_diagonal", "<=", 0),
    # the mean over features of either leaves the same map
    claim("correlation", ">=", 0.95, panels={"component": "query"}, versus={"component": "key"}),
]
NEVER = [
    claim("visible_mean", "<=", -0.01, panels={"input": 2}, minus={"input": 1}),
    claim("visible_mean", "<=", -0.9, along="input", panels={"input": [1, 2, 3]}),
    claim("entropy", ">=", 0.01, panels={"component": "key"}, minus={"component": "query"}),
]
OPEN = [
    claim("sink_strength", ">=", 0.5, panels={"component": "value"}),
    claim("first_column_trend", "<=", -0.9, panels={"component": ["query", "key"]}),
    claim("diagonal_contrast", "<=", 0.1, panels={"component": "value"}),
]


def test_true_or_impossible_by_construction_is_told_from_what_could_have_failed():
    rows = checked(*(about.changed(id=f"c{n}") for n, about in enumerate(ALWAYS + NEVER + OPEN)))
    decided = rows["decided"].tolist()
    assert decided == [True] * 4 + [True] * 3 + [False] * 3
    assert rows["verdict"].tolist()[:7] == [REPRODUCED] * 4 + [NOT_REPRODUCED] * 3
    assert set(rows["references"]) == {DRAWS + 1}
    # no random map has a sink: of all, this is the most telling
    assert (rows["held_references"].iloc[7], rows["verdict"].iloc[7]) == (0, REPRODUCED)


def test_texts_of_other_lengths_decide_the_overall_weight_as_well():
    about = claim("visible_mean", "<=", -0.01, panels={"input": 2}, minus={"input": 1})
    row = checked(about, clean=states(tokens=(6, 10, 10)))
    assert (row["verdict"], row["decided"]) == (REPRODUCED, True)


def test_the_axis_of_the_mean_matters_to_what_is_decided():
    same = ALWAYS[-1]
    assert checked(same)["decided"]
    tokens = AttentionScoring(layer=0, over="tokens")
    row = checked(same, options=tokens)
    assert not row["decided"]
    assert 0 < row["held_references"] < row["references"]


def test_shares_are_those_of_a_plain_loop():
    """Every map drawn once more and its statistic computed by hand."""
    clean = states()
    options = AttentionScoring(layer=0)
    falls = OPEN[1]
    row = checked(falls, options=options, clean=clean)
    held = 0
    for _, maps in draw_reference_maps(options, clean):
        trends = []
        for panel, weights in maps.items():
            if panel.component == "value":
                continue
            np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
            ranks = weights[:, 0].argsort().argsort()
            trends.append(np.corrcoef(ranks, np.arange(TOKENS))[0, 1])
        held += max(trends) <= -0.9
    assert row["held_references"] == held
    assert 10 < held < DRAWS


def test_the_uniform_map_comes_first_and_the_draws_repeat():
    options = AttentionScoring(layer=0)
    first, second = (list(draw_reference_maps(options, states())) for _ in range(2))
    assert [kind for kind, _ in first] == [UNIFORM] + [RANDOM] * DRAWS
    for weights in first[0][1].values():
        np.testing.assert_allclose(weights, uniform_causal(TOKENS), atol=1e-7)
    for (_, one), (_, other) in zip(first, second, strict=True):
        for panel, weights in one.items():
            np.testing.assert_array_equal(weights, other[panel])
    value = Panel(1, "value", "mean", None)
    assert not np.array_equal(first[1][1][value], first[2][1][value])


@pytest.mark.parametrize("spread", SPREADS)
def test_random_scores_have_the_spread_they_are_drawn_with(spread):
    tokens, features = 40, 16
    like = replace(
        states()[0],
        query=np.zeros((8, tokens, features), np.float32),
        key=np.zeros((8, tokens, features), np.float32),
        scaling=0.37,
    )
    drawn = draw_states(like, 8, spread, np.random.default_rng(0))
    scores = drawn.query @ drawn.key.transpose(0, 2, 1) * 0.37
    assert scores.std(axis=-1).mean() == pytest.approx(spread, rel=0.15)


def test_longer_texts_have_fewer_draws_and_heads():
    long = states(planted.uniform_causal, tokens=(700,))
    kinds = [kind for kind, _ in draw_reference_maps(AttentionScoring(layer=0), long)]
    assert kinds == [UNIFORM] + [RANDOM] * 20


def test_layers_of_random_weights_go_through_the_intervention():
    clean = states()
    layers = [[replace(one, layer=5) for one in states(planted.itself)] for _ in range(30)]
    about = claim("diagonal", ">=", 0.5, panels={"component": "value"})
    row = checked(about, clean=clean, random_weights=layers)
    assert json.loads(row["references_by_kind"])[RANDOM_WEIGHTS] == {"held": 30, "of": 30}
    other = checked(about.changed(panels=about.panels.changed(component="query")), clean=clean,
                    random_weights=layers)  # fmt: skip
    assert json.loads(other["references_by_kind"])[RANDOM_WEIGHTS]["held"] == 0


def test_an_intervention_in_every_layer_has_panels_of_their_own():
    """Value's maps may then differ from the clean ones, and need not be equal for all ε."""
    about = claim("correlation", ">=", 0.95, across="epsilon", panels={"component": "value"})
    options = AttentionScoring(layer=0, operation="scale", epsilon=(0.5, 1e-3))
    constant, every = (
        [attempt(about, measure_maps, maps) for _, maps in draw_reference_maps(shown, states())]
        for shown in (options, options.changed(scope="model"))
    )
    assert min(constant) == pytest.approx(1)
    assert sum(value >= 0.95 for value in every) < DRAWS / 4


# Tables.


def table(rows=12, columns=5, seed=0):
    values = np.random.default_rng(seed).uniform(0.5, 0.9, (rows, columns))
    return Table([f"c{n}" for n in range(columns)], range(rows), values, values - 0.1, values + 0.2)


def test_permuted_columns_keep_their_cells():
    def columns(values):
        return sorted(map(tuple, np.sort(np.nan_to_num(values), axis=0).T.round(9)))

    whole = table()
    whole.values[3, 2] = np.nan
    seen = set()
    for kind, drawn in draw_reference_tables({"none": whole}, draws=5):
        one = drawn["none"]
        gaps = np.isnan(one.values)
        if kind == PERMUTED:
            assert columns(one.values) == columns(whole.values)
            seen.add(tuple(np.argwhere(gaps)[0]))
        else:
            assert gaps.tolist() == np.isnan(whole.values).tolist()
        np.testing.assert_allclose((one.values - one.low)[~gaps], 0.1)
        np.testing.assert_allclose((one.high - one.values)[~gaps], 0.2)
    assert len(seen) > 2


def test_noise_is_about_chance_and_waves_are_smooth():
    drawn = list(draw_reference_tables({"none": table(30, 14)}, chance=0.5))
    means = {
        kind: [one["none"].values.mean() for of, one in drawn if of == kind]
        for kind in (NOISE, SMOOTH)
    }
    assert np.abs(np.array(means[NOISE]) - 0.5).max() < 0.03
    assert min(means[SMOOTH]) < 0.6 < 0.8 < max(means[SMOOTH])
    for kind, one in drawn:
        values = one["none"].values
        assert 0 <= values.min() <= values.max() <= 1
        steps = np.abs(np.diff(values, axis=0)).mean() / values.std(axis=0).mean()
        assert (steps < 0.7) == (kind == SMOOTH), (kind, steps)


def test_a_control_may_trade_columns_with_the_probe():
    high, low = table(seed=1), table(seed=2)
    tables = {"none": replace(high, values=high.values + 10), "other": low}
    mixed = [
        (one["none"].values > 5).any() and (one["none"].values < 5).any()
        for kind, one in draw_reference_tables(tables, draws=20)
        if kind == PERMUTED
    ]
    assert any(mixed)


def test_columns_that_a_control_lacks_are_not_permuted():
    """As of even attention in sink_map: its table has one of the figure's columns."""
    values = np.random.default_rng(0).uniform(size=(4, 3))
    lacking = np.where(np.arange(3) == 1, values + 1, np.nan)
    columns = ["a", "b", "c"]
    tables = {
        "none": Table(columns, range(4), values),
        "even": Table(columns, range(4), lacking),
    }
    drawn = [made for kind, made in draw_reference_tables(tables, draws=20) if kind == PERMUTED]
    for made in drawn:
        assert np.isfinite(made["none"].values).all()
        assert np.isfinite(made["even"].values).all(axis=0).tolist() == [False, True, False]
        every = np.concatenate([made["none"].values.ravel(), made["even"].values[:, 1]])
        expected = np.concatenate([values.ravel(), lacking[:, 1]])
        np.testing.assert_array_equal(np.sort(every), np.sort(expected))
    assert any((made["even"].values[:, 1] < 1).any() for made in drawn)


def test_cells_that_are_all_equal_have_no_references():
    flat = replace(table(), values=np.full((12, 5), 0.7))
    assert list(draw_reference_tables({"none": flat})) == []
    assert list(draw_reference_tables({})) == []


def cells(values):
    return pd.DataFrame(
        [
            {"row": row, "column": f"c{column}", "control": "none", "value": value}
            for (row, column), value in np.ndenumerate(values)
        ]
    )


def test_a_claim_about_any_table_is_held_against_references():
    values = np.random.default_rng(0).uniform(0.2, 0.8, (20, 4))
    values[:, 1] = np.linspace(0.3, 0.9, 20)
    figure = {"figure": "module_map"}
    rows = check_table_claims(
        "m",
        [
            claim("share_at_most", ">=", 0.9, options={"level": 1e6}, **figure).changed(id="all"),
            claim("peak_layer", ">=", 25, **figure).changed(id="none"),
            claim("slope", ">", 0.3, cells={"columns": "c1"}, **figure).changed(id="rise"),
            claim("largest", ">=", 0.85, **figure).changed(id="highest"),
        ],
        cells(values),
    ).set_index("claim")
    assert rows["decided"].tolist() == [True, False, False, False]
    assert rows.loc["rise", "verdict"] == REPRODUCED
    assert rows.loc["rise", "held_references"] < 40
    # the highest cell does not depend on the order, so permuted ones tell nothing
    assert set(json.loads(rows.loc["highest", "references_by_kind"])) == {NOISE, SMOOTH}


def test_a_table_of_one_cell_decides_nothing():
    row = check_table_claims(
        "m", [claim("average", figure="module_map")], cells(np.array([[0.3]]))
    ).iloc[0]
    assert (row["verdict"], row["references"], row["decided"]) == (NOT_REPRODUCED, 0, False)


# Counting.


def test_what_is_decided_is_counted_apart():
    verdicts = [REPRODUCED] * 4 + [NOT_REPRODUCED] * 3 + [NOT_APPLICABLE]
    decided = [True, True, False, False, True, False, False, False]
    frame = build_claims_table(
        [
            {"figure": "mean_qkv", "claim": f"c{n}", "verdict": verdict, "decided": apart,
             "references": 100, "held_references": 31}
            for n, (verdict, apart) in enumerate(zip(verdicts, decided, strict=True))
        ]
    )  # fmt: skip
    assert count_verdicts(frame) == {REPRODUCED: 2, NOT_REPRODUCED: 2, NOT_APPLICABLE: 1}
    assert (count_open(frame), count_decided(frame)) == (4, 3)
    assert summarize(frame) == (
        "2 of 4 claims that could have failed are reproduced; random or permuted data satisfy 1.2 "
        "of the 4 on average; 1 is not applicable; 3 are decided by construction"
    )
    assert show_share(frame.iloc[0]) == "31% of 100, decided"
    assert show_share(frame.iloc[2]) == "31% of 100"
    earlier = frame.drop(columns=["decided", "references"])
    assert not find_decided(earlier).any()
    assert count_open(earlier) == 7
    expected = "4 of 7 claims, not held against references, are reproduced; 1 is not applicable"
    assert summarize(earlier) == summarize(earlier.assign(references=pd.NA)) == expected
    assert show_share(earlier.iloc[0]) == "–"
    assert summarize(frame.head(0)) == "no claim is checked"


def baseline_rows(*rows):
    """(verdict, decided, held of 100 random rows, held of 25 random weights) as a table."""
    kinds = [
        {RANDOM: {"held": rows, "of": 100}, RANDOM_WEIGHTS: {"held": weights, "of": 25}}
        for *_, rows, weights in rows
    ]
    return build_claims_table(
        [
            {"figure": "mean_qkv", "claim": f"c{n}", "verdict": verdict, "decided": decided,
             "references": 125, "held_references": rows + weights,
             "references_by_kind": json.dumps(by_kind)}
            for n, ((verdict, decided, rows, weights), by_kind) in enumerate(
                zip(rows, kinds, strict=True)
            )
        ]
    )  # fmt: skip


def test_a_baseline_is_what_references_would_be_counted_with():
    """The mean, over all references, of the number of claims that one of them satisfies."""
    random = np.random.default_rng(0)
    held = random.random((3, 125)) < [[0.2], [0.5], [0.9]]
    counts = held.sum(axis=0)  # of each reference
    frame = baseline_rows(
        *((REPRODUCED, False, int(row[:100].sum()), int(row[100:].sum())) for row in held),
        (REPRODUCED, True, 100, 25),
        (NOT_APPLICABLE, False, 0, 0),
    )
    assert compute_baseline(frame) == (pytest.approx(counts.mean()), 3)
    assert compute_baseline(frame, RANDOM_WEIGHTS) == (pytest.approx(counts[100:].mean()), 3)
    assert compute_baseline(frame, NOISE) is None
    # verdicts of the run do not move it
    other = frame.assign(verdict=frame["verdict"].replace(REPRODUCED, NOT_REPRODUCED))
    assert compute_baseline(other) == compute_baseline(frame)


def test_a_baseline_says_of_how_many_claims_it_is():
    frame = baseline_rows((REPRODUCED, False, 100, 0), (NOT_REPRODUCED, False, 0, 25))
    assert describe_baseline(frame) == "random or permuted data satisfy 1.0 of the 2 on average"
    frame.loc[1, ["references", "held_references"]] = 0  # too few cells to draw others
    assert describe_baseline(frame) == (
        "random or permuted data satisfy 0.8 of 1 that have references on average"
    )
    assert describe_baseline(frame.drop(columns="references")) == ""
    assert describe_baseline(frame.assign(decided=True)) == ""
