"""Verdicts, comparisons, and the names and options of the statistics that claims are made of.

The Snakefile imports this module, so it imports nothing heavy: the statistics themselves are
functions of statistics.py.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_figures.core.numbers import as_given

REPRODUCED, NOT_REPRODUCED, NOT_APPLICABLE = "reproduced", "not reproduced", "not applicable"
# What is said, beside its verdict, of a claim that could not have another; see references.py.
DECIDED = "decided by construction"
# Shown beside the word: colour alone says nothing to many readers, nor on paper.
SYMBOLS = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", NOT_APPLICABLE: "–"}
COMPARISONS = {">=": "≥", "<=": "≤", ">": ">", "<": "<", "within": "within"}

# {name: (kind, options, description)}. A statistic of the kind "map" takes one attention map, of
# "maps" a pair; "table" takes a region of a layer × column table, "tables" a pair.
STATISTICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "first_cell": ("map", (), "weight of the first token on itself"),
    "sink_strength": ("map", (), "F: mean weight on the first token over the later rows"),
    "sink_lead": ("map", (), "F minus the mean weight of the strongest other column"),
    "first_column_trend": ("map", (), "Spearman correlation of the first column with the row"),
    "first_column_spread": ("map", (), "standard deviation of the first column's later rows"),
    "first_column_excess": ("map", (), "F minus that of the uniform causal map"),
    "column_trend": ("map", (), "Spearman correlation of a column's mean weight with its position"),
    "diagonal": ("map", (), "mean weight of later tokens on themselves"),
    "diagonal_trend": ("map", (), "Spearman correlation of the diagonal with the row"),
    "diagonal_excess": ("map", (), "diagonal minus that of the uniform causal map"),
    "diagonal_contrast": ("map", (), "diagonal minus the other cells right of the first column"),
    "distance_to_uniform": ("map", (), "D: mean |A − U| over the lower triangle"),
    "median": ("map", (), "median weight of all cells"),
    "mean": ("map", (), "mean weight of all cells"),
    "visible_mean": ("map", (), "mean weight of the lower triangle"),
    "entropy": ("map", (), "mean entropy of the rows, in nats"),
    "lower_right": ("map", (), "mean weight of the lower right quarter"),
    "above_diagonal": ("map", (), "largest weight above the diagonal"),
    "median_elsewhere": ("map", (), "median weight off the first column, lower triangle"),
    "largest_elsewhere": ("map", (), "largest weight off the first column"),
    "share_elsewhere": (
        "map", ("above",), "share of the lower triangle off the first column with a weight above"
    ),
    "corner_share": (
        "map", ("warm",), "of the cells from weight `warm` on, the share in the upper left quarter"
    ),
    "tokens": ("map", (), "number of tokens"),
    "squareness": ("map", (), "rows over columns"),
    "correlation": ("maps", (), "Pearson correlation over the lower triangle"),
    "largest_difference": ("maps", (), "largest difference between two cells"),
    "average": ("table", (), "mean of the cells"),
    "largest": ("table", (), "largest cell"),
    "smallest": ("table", (), "smallest cell"),
    "range": ("table", (), "largest minus smallest cell"),
    "share_at_least": ("table", ("level",), "share of cells of at least the level"),
    "share_at_most": ("table", ("level",), "share of cells of at most the level"),
    "share_within": ("table", ("low", "high"), "share of cells from low to high, both included"),
    "distance_from": ("table", ("level",), "distance of the cells' mean from the level"),
    "peak_layer": ("table", (), "layer of the highest mean over columns"),
    "steepest_rise": ("table", (), "layer of the largest rise from the layer before"),
    "slope": ("table", (), "rise over the whole depth of the line fitted to the layers' means"),
    "layer_trend": ("table", (), "Spearman correlation of the layers' means with the layer"),
    "valley": ("table", (), "depth of the deepest valley between two higher layers"),
    "average_difference": ("tables", (), "mean absolute difference, cell by cell"),
    "interval_gap": (
        "tables", (), "lower end of the best cell's interval minus the other best cell's upper end"
    ),
}  # fmt: skip


def format_threshold(comparison: str, threshold: float, high: float | None) -> str:
    """≥ 0.9, or 13 to 17: the threshold as the claim gives it, not rounded."""
    if comparison == "within":
        return f"{as_given(threshold)} to {as_given(high)}"
    return f"{COMPARISONS[comparison]} {as_given(threshold)}"


def is_certain(row: Mapping) -> bool:
    """Whether both ends of a claim's interval must meet its threshold; not known of old files.

    row: of claims.parquet, whose column `test` says so.
    """
    test = row.get("test")
    return isinstance(test, str) and json.loads(test).get("certain", False)


def format_expected(row: Mapping) -> str:
    """< 0, the whole interval: what a row of claims.parquet expects of its value."""
    text = format_threshold(row["comparison"], row["threshold"], row["threshold_high"])
    return f"{text}, the whole interval" if is_certain(row) else text


def holds(value: float, comparison: str, threshold: Sequence[float]) -> bool:
    """Whether the comparison is true of the value; `within` includes both ends."""
    match comparison:
        case ">=":
            return value >= threshold[0]
        case "<=":
            return value <= threshold[0]
        case ">":
            return value > threshold[0]
        case "<":
            return value < threshold[0]
    return threshold[0] <= value <= threshold[1]


def worst(values: Sequence[float], comparison: str, threshold: Sequence[float]) -> float:
    """The value that is closest to failing, or fails the most; a claim must hold for all."""
    match comparison:
        case ">=" | ">":
            return min(values)
        case "<=" | "<":
            return max(values)
    return max(values, key=lambda value: abs(value - sum(threshold) / 2))


def as_tuple(value: Any) -> tuple:
    """One value or several as a tuple; None, a key that is left out, gives an empty one."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
