"""The statistics of claims on maps and tables small enough to be worked out on paper."""

import inspect
from math import log, nan, sqrt

import numpy as np
import pytest

from llm_figures.attention.maps import uniform_causal
from llm_figures.claims import statistics as claim_statistics
from llm_figures.claims.definitions import STATISTICS
from llm_figures.claims.statistics import Cells, NotApplicableError

# Attention maps of four tokens.
MIXED = np.array([[1, 0, 0, 0], [0.8, 0.2, 0, 0], [0.5, 0.3, 0.2, 0], [0.4, 0.1, 0.2, 0.3]])
UNIFORM = uniform_causal(4)  # rows 1; 1/2 twice; 1/3 three times; 1/4 four times
SINK = np.array([[1.0, 0, 0, 0]] * 4)
SELF = np.eye(4)  # every token looks at itself
FULL = np.full((4, 4), 0.25)  # not causal
RISING = np.array([[0.1, 0.9, 0, 0], [0.2, 0.8, 0, 0], [0.4, 0.6, 0, 0], [0.6, 0.4, 0, 0]])
FALLING_TWO, RISING_TWO = np.array([[1, 0], [0.8, 0.2]]), np.array([[1, 0], [0.2, 0.8]])


def region(values, low=None, high=None):
    values = np.array(values, dtype=float)
    depth = np.linspace(0, 1, len(values)) if len(values) > 1 else np.zeros(1)
    ends = [None if end is None else np.array(end, dtype=float) for end in (low, high)]
    return Cells(values, 10.0 * np.arange(len(values)), depth, *ends)


TABLE = region([[0.5, 0.7], [0.6, nan], [0.9, 0.8]])  # means of layers 0.6, 0.6, 0.85
FLAT = region([[0.5, 0.5]] * 4)
WAVE = region([[0.8], [0.2], [0.6], [0.1]])
SURE = region([[0.6, 0.9]], low=[[0.5, 0.8]], high=[[0.7, 1.0]])
WIDE = region([[0.7, 0.6]], low=[[0.5, 0.5]], high=[[0.85, 0.7]])

# (statistic, what it is of, its options, value)
CASES = [
    ("first_cell", [MIXED], {}, 1),
    ("first_cell", [FULL], {}, 0.25),
    ("sink_strength", [MIXED], {}, (0.8 + 0.5 + 0.4) / 3),
    ("sink_strength", [UNIFORM], {}, 13 / 36),
    ("sink_strength", [SELF], {}, 0),
    # later columns, over the later rows that see them: 0.6 / 3, 0.4 / 2, 0.3
    ("sink_lead", [MIXED], {}, 1.7 / 3 - 0.3),
    ("sink_lead", [SINK], {}, 1),
    ("sink_lead", [SELF], {}, -1),
    ("first_column_trend", [MIXED], {}, -1),
    ("first_column_trend", [RISING], {}, 1),
    ("first_column_trend", [SINK], {}, 0),
    # 0.8, 0.5, 0.4 lie 7/30, −2/30, −5/30 from their mean
    ("first_column_spread", [MIXED], {}, sqrt((49 + 4 + 25) / 900 / 3)),
    ("first_column_spread", [SINK], {}, 0),
    ("first_column_excess", [MIXED], {}, 1.7 / 3 - 13 / 36),
    ("first_column_excess", [UNIFORM], {}, 0),
    # columns' means 17/30, 0.2, 0.2, 0.3 have ranks 4, 1.5, 1.5, 3
    ("column_trend", [MIXED], {}, -1.5 / sqrt(4.5 * 5)),
    ("column_trend", [SINK], {}, -3 / sqrt(3 * 5)),
    ("column_trend", [SELF], {}, 1),
    # 0.3, 0.45, 0.5: the first row's weight, 1 by causality, does not count
    ("column_trend", [np.array([[1, 0, 0], [0.3, 0.7, 0], [0.3, 0.2, 0.5]])], {}, 1),
    ("diagonal", [MIXED], {}, 0.7 / 3),
    ("diagonal", [SELF], {}, 1),
    ("diagonal_trend", [MIXED], {}, -1.5 / sqrt(4.5 * 5)),
    ("diagonal_trend", [UNIFORM], {}, -1),
    ("diagonal_trend", [SELF], {}, 0),
    ("diagonal_excess", [MIXED], {}, 0.7 / 3 - 13 / 36),
    ("diagonal_excess", [UNIFORM], {}, 0),
    ("diagonal_excess", [SELF], {}, 1 - 13 / 36),
    # below the diagonal, right of the first column: 0.3, 0.1, 0.2
    ("diagonal_contrast", [MIXED], {}, 0.7 / 3 - 0.2),
    ("diagonal_contrast", [SELF], {}, 1),
    ("diagonal_contrast", [RISING_TWO], {}, 0),
    # by rows 0; 0.6; 1/3; 0.4, over ten cells
    ("distance_to_uniform", [MIXED], {}, (0.6 + 1 / 3 + 0.4) / 10),
    ("distance_to_uniform", [UNIFORM], {}, 0),
    ("median", [MIXED], {}, 0.2),
    ("median", [SELF], {}, 0),
    ("mean", [MIXED], {}, 1 / 4),
    ("mean", [RISING_TWO], {}, 1 / 2),
    ("visible_mean", [MIXED], {}, 4 / 10),
    ("visible_mean", [RISING_TWO], {}, 2 / 3),
    ("entropy", [UNIFORM], {}, log(24) / 4),
    ("entropy", [SELF], {}, 0),
    ("lower_right", [MIXED], {}, 0.7 / 4),
    ("lower_right", [SINK], {}, 0),
    ("above_diagonal", [MIXED], {}, 0),
    ("above_diagonal", [RISING], {}, 0.9),
    ("median_elsewhere", [MIXED], {}, 0.2),
    ("median_elsewhere", [SINK], {}, 0),
    ("largest_elsewhere", [MIXED], {}, 0.3),
    ("largest_elsewhere", [SINK], {}, 0),
    ("share_elsewhere", [MIXED], {"above": 0.25}, 2 / 6),
    ("share_elsewhere", [MIXED], {"above": 0.15}, 5 / 6),
    ("share_elsewhere", [SINK], {"above": 0.1}, 0),
    # from 0.2 on: nine cells, of which (1, 1), (2, 1), (2, 2) in the upper left quarter
    ("corner_share", [MIXED], {"warm": 0.2}, 3 / 9),
    ("corner_share", [UNIFORM], {"warm": 0.4}, 1),
    ("corner_share", [SINK], {"warm": 0.2}, 2 / 4),
    ("corner_share", [FULL], {"warm": 0.3}, 0),
    # five tokens: the upper left quarter has three rows
    ("corner_share", [np.eye(5)], {"warm": 0.2}, 3 / 5),
    ("tokens", [MIXED], {}, 4),
    ("tokens", [RISING_TWO], {}, 2),
    ("squareness", [MIXED], {}, 1),
    ("squareness", [np.ones((2, 4))], {}, 0.5),
    ("correlation", [MIXED, MIXED], {}, 1),
    # 1, 0.8, 0.2 and 1, 0.2, 0.8: products of deviations −6/450, squares 156/450
    ("correlation", [FALLING_TWO, RISING_TWO], {}, -1 / 26),
    # texts of different length: the part that both have
    ("correlation", [MIXED, FALLING_TWO], {}, 1),
    ("largest_difference", [MIXED, UNIFORM], {}, 0.3),
    ("largest_difference", [FALLING_TWO, MIXED], {}, 0),
    ("average", [TABLE], {}, 3.5 / 5),
    ("average", [FLAT], {}, 0.5),
    ("largest", [TABLE], {}, 0.9),
    ("largest", [FLAT], {}, 0.5),
    ("smallest", [TABLE], {}, 0.5),
    ("smallest", [WAVE], {}, 0.1),
    ("range", [TABLE], {}, 0.4),
    ("range", [FLAT], {}, 0),
    ("share_at_least", [TABLE], {"level": 0.7}, 3 / 5),
    ("share_at_least", [FLAT], {"level": 0.7}, 0),
    ("share_at_most", [TABLE], {"level": 0.75}, 3 / 5),
    ("share_at_most", [FLAT], {"level": 0.5}, 1),
    ("share_within", [TABLE], {"low": 0.7, "high": 0.75}, 1 / 5),
    ("share_within", [FLAT], {"low": 0.5, "high": 0.7}, 1),
    ("distance_from", [TABLE], {"level": 0.5}, 0.2),
    ("distance_from", [TABLE], {"level": 0.8}, 0.1),
    ("peak_layer", [TABLE], {}, 20),
    ("peak_layer", [WAVE], {}, 0),
    ("steepest_rise", [TABLE], {}, 20),
    ("steepest_rise", [region([[0.1], [0.5], [0.6]])], {}, 10),
    # over depths 0, 1/2, 1: half of (0.85 − 0.6), over 1/2
    ("slope", [TABLE], {}, 0.25),
    ("slope", [FLAT], {}, 0),
    ("slope", [region([[0.9], [0.5]])], {}, -0.4),
    ("layer_trend", [TABLE], {}, 1.5 / sqrt(1.5 * 2)),
    ("layer_trend", [region([[0.9], [0.5], [0.1]])], {}, -1),
    ("valley", [WAVE], {}, 0.4),
    ("valley", [TABLE], {}, 0),
    ("valley", [region([[0.1], [0.5], [0.2]])], {}, -0.4),
    ("average_difference", [TABLE, region([[0.4, 0.9], [0.6, 0.1], [0.9, 0.8]])], {}, 0.3 / 5),
    ("average_difference", [FLAT, FLAT], {}, 0),
    # 0.8, below the cell of 0.9, and 0.85, above the cell of 0.7
    ("interval_gap", [SURE, WIDE], {}, -0.05),
    ("interval_gap", [SURE, region([[0.6, 0.2]], high=[[0.75, 0.9]])], {}, 0.05),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "options", "expected"), CASES, ids=lambda value: (
    value if isinstance(value, str) else ""
))  # fmt: skip
def test_the_value_is_that_worked_out_by_hand(name, data, options, expected):
    value = getattr(claim_statistics, name)(*data, **options)
    assert isinstance(value, float)
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_is_tested_where_it_is_high_and_where_it_is_low(name):
    values = {round(expected, 9) for case, *_, expected in CASES if case == name}
    assert len(values) > 1, f"add two cases of {name} to CASES"


@pytest.mark.parametrize("name", STATISTICS)
def test_the_registry_says_what_the_functions_take(name):
    kind, options, what = STATISTICS[name]
    assert kind in ("map", "maps", "table", "tables")
    assert what
    first = {"map": ["weights"], "table": ["region"]}.get(kind, ["one", "other"])
    taken = inspect.signature(getattr(claim_statistics, name)).parameters
    assert list(taken) == [*first, *options]


def test_no_function_is_missing_from_the_registry():
    functions = {
        name
        for name, value in vars(claim_statistics).items()
        if inspect.isfunction(value)
        and value.__module__ == claim_statistics.__name__
        and not name.startswith("_")
    }
    assert functions - {"spearman", "difference"} == set(STATISTICS)


@pytest.mark.parametrize("name", [name for name, what in STATISTICS.items() if "table" in what[0]])
def test_a_region_without_a_score_says_so(name):
    kind, options, _ = STATISTICS[name]
    empty = region([[nan, nan]] * 4, low=[[nan, nan]] * 4, high=[[nan, nan]] * 4)
    with pytest.raises(NotApplicableError, match="no cell of the region has a score"):
        getattr(claim_statistics, name)(
            *[empty] * (2 if kind == "tables" else 1), **dict.fromkeys(options, 0.5)
        )


@pytest.mark.parametrize(
    ("name", "layers", "reason"),
    [
        ("steepest_rise", 1, "a rise needs two layers"),
        ("slope", 1, "a slope needs two layers"),
        ("layer_trend", 2, "a trend needs three layers"),
        ("valley", 2, "a valley needs three layers"),
    ],
)
def test_what_needs_several_layers_says_so(name, layers, reason):
    with pytest.raises(NotApplicableError, match=reason):
        getattr(claim_statistics, name)(region([[0.5]] * layers))
    assert np.isfinite(getattr(claim_statistics, name)(region([[0.5]] * (layers + 1))))


def test_what_two_regions_lack_is_said():
    with pytest.raises(NotApplicableError, match="have no intervals"):
        claim_statistics.interval_gap(SURE, FLAT)
    with pytest.raises(NotApplicableError, match="differ in shape"):
        claim_statistics.average_difference(FLAT, TABLE)
    with pytest.raises(NotApplicableError, match="is constant"):
        claim_statistics.correlation(FULL, MIXED)


def test_layers_without_a_score_are_passed_over():
    holes = region([[0.2, 0.4], [nan, nan], [0.5, nan], [0.1, 0.3]])  # means 0.3, –, 0.5, 0.2
    assert claim_statistics.peak_layer(holes) == 20
    assert claim_statistics.steepest_rise(holes) == 20
    # through (0, 0.3), (2/3, 0.5), (1, 0.2): Σ(x − 5/9)(y − 1/3) / Σ(x − 5/9)²
    rise = (-5 / 9 * -1 / 30) + (1 / 9 * 1 / 6) + (4 / 9 * -2 / 15)
    assert claim_statistics.slope(holes) == pytest.approx(rise / ((25 + 1 + 16) / 81))


def test_rounding_is_neither_a_trend_nor_a_difference():
    """Means of maps whose rows sum to one differ by rounding; that must not read as weaker."""
    values = np.array([0.1, 0.1 + 1e-17, 0.1 + 3e-16, 0.1 - 1e-16])
    assert claim_statistics.spearman(values, np.arange(4)) == 0
    assert claim_statistics.difference(0.1 + 1e-16, 0.1) == 0
    assert claim_statistics.difference(0.3, 0.1) == pytest.approx(0.2)
    assert claim_statistics.difference(1e-9, 0.0) == 1e-9
    assert claim_statistics.spearman(np.array([1e-11, 2e-4, 0.1]), np.arange(3)) == 1
