"""The statistics of claims: functions of one attention map, of cells of a table, or of two.

Claims name them; `definitions.STATISTICS` says what each is. An attention map is an array [query,
key], its rows summing to one over the causal lower triangle. `Cells` are those of a table, layer ×
column.
"""

from dataclasses import dataclass

import numpy as np

from llm_figures.attention.maps import BinnedMap, uniform_causal
from llm_figures.attention.maps import distance_to_uniform as _distance_to_uniform
from llm_figures.attention.maps import sink_strength as _sink_strength


class NotApplicableError(Exception):
    """A claim cannot be evaluated on this figure; the message says why."""


# Values closer than this, relative to the larger, are equal: sums of the same numbers in another
# order.
ROUNDING = 1e-12
# Likewise of numbers that rest on many float32 weights, whose rows sum to 1 up to rounding.
FLOAT32 = 1e-6


def difference(a: float, b: float, rounding: float = ROUNDING) -> float:
    """a − b; 0 where they differ by rounding alone, relative to the larger."""
    return a - b if abs(a - b) > rounding * max(abs(a), abs(b)) else 0.0


def spearman(a: np.ndarray, b: np.ndarray, rounding: float = ROUNDING) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one side does not vary.

    rounding: neighbours that differ by less, relative to the largest value, are equal.
    """
    return _pearson(_ranks(a, rounding), _ranks(b, rounding), constant=0.0)


def _ranks(values: np.ndarray, rounding: float) -> np.ndarray:
    order = np.argsort(values)
    rising = np.diff(values[order], prepend=values[order[0]])
    distinct = np.empty(len(values), dtype=int)
    distinct[order] = (rising > rounding * np.abs(values).max()).cumsum()
    counts = np.bincount(distinct)
    # scipy.stats.rankdata does the same, but its import takes longer than the whole job
    return (counts.cumsum() - (counts - 1) / 2)[distinct]


def _pearson(a: np.ndarray, b: np.ndarray, constant: float = np.nan) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else constant


# Statistics of one attention map.


def first_cell(weights):
    return float(weights[0, 0])


def sink_strength(weights):
    """F; without the first row, whose weight is 1 by causality."""
    return float(_sink_strength(weights))


def sink_lead(weights):
    """F minus the largest mean weight of another column over the later rows that see it."""
    return sink_strength(weights) - float(_column_means(weights)[1:].max())


def first_column_trend(weights):
    return spearman(weights[:, 0], np.arange(len(weights)))


def first_column_spread(weights):
    return float(weights[1:, 0].std())


def first_column_excess(weights):
    return sink_strength(weights) - sink_strength(uniform_causal(len(weights)))


def column_trend(weights):
    means = _column_means(weights)
    return spearman(means, np.arange(len(means)))


def diagonal(weights):
    return float(np.diag(weights)[1:].mean())


def diagonal_trend(weights):
    return spearman(np.diag(weights), np.arange(len(weights)))


def diagonal_excess(weights):
    return diagonal(weights) - diagonal(uniform_causal(len(weights)))


def diagonal_contrast(weights):
    """0 for a text of two tokens, whose map has no other cell right of the first column."""
    others = weights[1:, 1:][np.tril_indices(len(weights) - 1, -1)]
    return diagonal(weights) - float(others.mean()) if len(others) else 0.0


def distance_to_uniform(weights):
    return float(_distance_to_uniform(weights))


def median(weights):
    return float(np.median(weights))


def mean(weights):
    """1 / tokens for every map, since rows sum to one."""
    return float(weights.mean())


def visible_mean(weights):
    """2 / (tokens + 1) for every causal map; masked cells do not count."""
    return float(weights[np.tril_indices(len(weights), m=weights.shape[1])].mean())


def entropy(weights):
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return float(-(weights * logs).sum(axis=1).mean())


def lower_right(weights):
    half = len(weights) // 2
    return float(weights[half:, half:].mean())


def above_diagonal(weights):
    return float(weights[np.triu_indices(len(weights), 1)].max())


def median_elsewhere(weights):
    return float(np.median(_elsewhere(weights)))


def largest_elsewhere(weights):
    return float(_elsewhere(weights).max())


def share_elsewhere(weights, above):
    return float((_elsewhere(weights) > above).mean())


def corner_share(weights, warm):
    """Share of the warm cells, not of the weight: rows sum to one wherever the weight lies.

    The upper left quarter has the first half of the rows and columns, rounded up. The first cell
    of a causal map is always warm.
    """
    half = (len(weights) + 1) // 2
    hot = weights >= warm
    return float(hot[:half, :half].sum() / hot.sum()) if hot.any() else 0.0


def tokens(weights):
    return float(len(weights))


def squareness(weights):
    return weights.shape[0] / weights.shape[1]


def _elsewhere(weights: np.ndarray) -> np.ndarray:
    """The lower triangle's cells off the first column."""
    return weights[1:, 1:][np.tril_indices(len(weights) - 1)]


def _column_means(weights: np.ndarray) -> np.ndarray:
    """Mean weight of each key over the later rows that see it."""
    seen = np.tril(np.ones_like(weights))
    seen[0] = 0
    return (weights * seen).sum(axis=0) / seen.sum(axis=0)


# Statistics of a long text's binned map: those whose exact value follows from the bins.


def _binned_sink_strength(binned: BinnedMap) -> float:
    return float(np.average(binned.weights[1:, 0], weights=binned.counts[1:]))


def _binned_first_column_excess(binned: BinnedMap) -> float:
    return _binned_sink_strength(binned) - float(np.mean(1 / np.arange(2, binned.tokens + 1)))


def _binned_total(binned: BinnedMap) -> float:
    return float(binned.counts @ binned.weights.sum(axis=1))


BINNED = {
    "first_cell": lambda binned: float(binned.weights[0, 0]),
    "sink_strength": _binned_sink_strength,
    "first_column_excess": _binned_first_column_excess,
    "mean": lambda binned: _binned_total(binned) / binned.tokens**2,
    "visible_mean": lambda binned: (
        _binned_total(binned) / (binned.tokens * (binned.tokens + 1) / 2)
    ),
    "tokens": lambda binned: float(binned.tokens),
    "squareness": lambda binned: 1.0,
}


# Statistics of two attention maps. Of texts that differ in length the common part is compared.


def correlation(one, other):
    a, b = _common(one, other)
    value = _pearson(a, b)
    if not np.isfinite(value):
        raise NotApplicableError("one of two maps to be correlated is constant")
    return value


def largest_difference(one, other):
    a, b = _common(one, other)
    return float(np.abs(a - b).max())


def _common(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = min(len(one), len(other))
    lower = np.tril_indices(size)
    return one[:size, :size][lower], other[:size, :size][lower]


# Statistics of cells of a table, or of two sets of cells.


@dataclass(frozen=True)
class Cells:
    """Cells of a table, chosen by layers and columns.

    values: [layers, columns], NaN where there is no score.
    rows: [layers], each layer's number, in layers of the published figure where that is known.
    depth: [layers], each layer's relative depth from 0 to 1.
    low, high: [layers, columns], ends of the cells' intervals, or None.
    """

    values: np.ndarray
    rows: np.ndarray
    depth: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def layers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(mean over columns, rows, depth) of the layers that have a score, each [layers].

        Raises:
            NotApplicableError: no cell has a score.
        """
        has = np.isfinite(self.values).any(axis=1)
        if not has.any():
            raise NotApplicableError("no cell of the region has a score")
        return np.nanmean(self.values[has], axis=1), self.rows[has], self.depth[has]


def average(region):
    return float(_scores(region).mean())


def largest(region):
    return float(_scores(region).max())


def smallest(region):
    return float(_scores(region).min())


def range(region):
    return largest(region) - smallest(region)


def share_at_least(region, level):
    return float((_scores(region) >= level).mean())


def share_at_most(region, level):
    return float((_scores(region) <= level).mean())


def share_within(region, low, high):
    scores = _scores(region)
    return float(((low <= scores) & (scores <= high)).mean())


def distance_from(region, level):
    return abs(average(region) - level)


def peak_layer(region):
    means, rows, _ = region.layers()
    return float(rows[means.argmax()])


def steepest_rise(region):
    means, rows, _ = region.layers()
    if len(means) < 2:
        raise NotApplicableError("a rise needs two layers")
    return float(rows[1 + np.diff(means).argmax()])


def slope(region):
    means, _, depth = region.layers()
    if len(means) < 2:
        raise NotApplicableError("a slope needs two layers")
    return float(np.polyfit(depth, means, 1)[0])


def layer_trend(region):
    means, rows, _ = region.layers()
    if len(means) < 3:
        raise NotApplicableError("a trend needs three layers")
    return spearman(means, rows)


def valley(region):
    """The most by which a layer lies below the highest layer on each of its sides."""
    means, _, _ = region.layers()
    if len(means) < 3:
        raise NotApplicableError("a valley needs three layers")
    before = np.maximum.accumulate(means)[:-2]
    after = np.maximum.accumulate(means[::-1])[::-1][2:]
    return float((np.minimum(before, after) - means[1:-1]).max())


def average_difference(one, other):
    if one.values.shape != other.values.shape:
        raise NotApplicableError("the two regions differ in shape")
    difference = np.abs(one.values - other.values)
    if not np.isfinite(difference).any():
        raise NotApplicableError("no cell of the region has a score")
    return float(np.nanmean(difference))


def interval_gap(one, other):
    """Above 0 where the interval of the first's best cell lies above that of the other's."""
    ends = []
    for region, end in ((one, one.low), (other, other.high)):
        if end is None:
            raise NotApplicableError("this figure's cells have no intervals")
        _scores(region)
        ends.append(float(end.ravel()[np.nanargmax(region.values)]))
    return ends[0] - ends[1]


def _scores(region: Cells) -> np.ndarray:
    scores = region.values[np.isfinite(region.values)]
    if not len(scores):
        raise NotApplicableError("no cell of the region has a score")
    return scores
