"""Classification metrics of the probe, with wrong answers as the positive class, and intervals."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.special import stdtrit

# Up to so many pairs of a positive and a negative example all are compared, which takes no sorting.
MOST_PAIRS = 100_000
METRICS = ("auc", "accuracy", "f1", "average_precision")


def compute_metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """{metric: [draws]} for every metric of `METRICS`.

    labels: [examples], 1 for the positive class. scores: [examples]; above 0 the prediction is
    positive. weights: [draws, examples], how often each example counts; by default one draw in
    which each counts once.

    AUC is the area under the ROC curve, ties counting half. Average precision is the sum over
    thresholds of precision times the increase in recall. F1 is 0 without a positive prediction. A
    draw without one of the classes gives NaN.
    """
    if weights is None:
        weights = np.ones((1, len(labels)))
    thresholds, positive, negative = _count_by_score(labels, scores, weights)
    true_above, false_above = positive.cumsum(axis=1), negative.cumsum(axis=1)
    positives, negatives = true_above[:, -1], false_above[:, -1]
    predicted = thresholds > 0
    true_positives = positive[:, predicted].sum(axis=1)
    false_positives = negative[:, predicted].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(true_above > 0, true_above / (true_above + false_above), 0.0)
        values = {
            "auc": _area(positive, negative),
            "accuracy": (true_positives + negatives - false_positives) / (positives + negatives),
            "f1": 2 * true_positives / (true_positives + false_positives + positives),
            "average_precision": (positive * precision).sum(axis=1) / positives,
        }
    both = (positives > 0) & (negatives > 0)
    return {name: np.where(both, value, np.nan) for name, value in values.items()}


def compute_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The AUC alone, [draws]; arguments as for `compute_metrics`."""
    is_positive = labels == 1
    positives, negatives = scores[is_positive], scores[~is_positive]
    if len(positives) * len(negatives) <= MOST_PAIRS:
        # The share of pairs in which the positive example has the higher score, ties counting half.
        # Counts are exact in single precision.
        higher = (positives[:, None] > negatives).astype(np.float32)
        higher += np.float32(0.5) * (positives[:, None] == negatives)
        weights = weights.astype(np.float32, copy=False)
        of_positives, of_negatives = weights[:, is_positive], weights[:, ~is_positive]
        won = np.einsum("dn,dn->d", of_positives @ higher, of_negatives).astype(np.float64)
        pairs = of_positives.sum(axis=1, dtype=float) * of_negatives.sum(axis=1, dtype=float)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, won / pairs, np.nan)
    _, positive, negative = _count_by_score(labels, scores, weights)
    return _area(positive, negative)


def compute_column_aucs(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """[columns]: the AUC of each column, as `compute_auc` gives it; NaN without one of the classes.

    labels: [examples, columns], 1 for the positive class. scores: [examples, columns].
    """
    scores = np.ascontiguousarray(scores.T)  # [columns, examples]: rows are sorted faster
    order = np.argsort(scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    positive = np.take_along_axis(np.ascontiguousarray(labels.T == 1), order, axis=1)
    count = ranked.shape[1]
    ranks = np.arange(1.0, count + 1)
    equal = ranked[:, 1:] == ranked[:, :-1]
    if equal.any():
        ranks = _share_ranks(equal)
    positives = positive.sum(axis=1)
    pairs = positives * (count - positives)
    above = (positive * ranks).sum(axis=1) - positives * (positives + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, above / pairs, np.nan)


def _share_ranks(equal: np.ndarray) -> np.ndarray:
    """[columns, examples]: ranks from 1 in ascending order, the mean of theirs for equal scores.

    equal: [columns, examples − 1], whether a score equals the one before it.
    """
    edge = np.ones((len(equal), 1), bool)
    places = np.arange(equal.shape[1] + 1)
    first = np.maximum.accumulate(np.where(np.hstack([edge, ~equal]), places, 0), axis=1)
    last = np.where(np.hstack([~equal, edge]), places, len(places))
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    return (first + last) / 2 + 1


def _count_by_score(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores in descending order, and the weight of either class at each.

    Equal scores are on the same side of every threshold. Returns distinct scores [distinct],
    positive and negative weights [draws, distinct].
    """
    order = np.argsort(-scores, kind="stable")
    ranked, is_positive, weights = scores[order], labels[order] == 1, weights[:, order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    if len(starts) == len(ranked):  # no sums to take, which are a third of the work
        return ranked, weights * is_positive, weights * ~is_positive
    positive = np.add.reduceat(weights * is_positive, starts, axis=1)
    negative = np.add.reduceat(weights * ~is_positive, starts, axis=1)
    return ranked[starts], positive, negative


def _area(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counting half; NaN without one of the classes."""
    false_above = negative.cumsum(axis=1)
    below = false_above[:, -1:] - false_above
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positive * (below + negative / 2)).sum(axis=1) / pairs, np.nan)


def compute_p(observed: float, permuted: np.ndarray) -> float:
    """(1 + how many permuted values are not below the observed one) / (1 + how many there are)."""
    return (1 + int((permuted >= observed).sum())) / (1 + len(permuted))


def draw_resamples(split_groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Weights [1 + draws, examples]: each example once, then bootstrap resamples.

    split_groups: [examples]; groups are resampled with replacement, with all their examples.
    """
    random = np.random.default_rng(seed)
    distinct, group_of_example = np.unique(split_groups, return_inverse=True)
    probabilities = np.full(len(distinct), 1 / len(distinct))
    counts = random.multinomial(len(distinct), probabilities, size=draws)
    return np.vstack([np.ones(len(distinct)), counts])[:, group_of_example]


def compute_fold_interval(
    values: Sequence[float], n_train: float, n_test: float
) -> tuple[float, float, float]:
    """As `compute_fold_intervals`, of the values of one score."""
    mean, low, high = compute_fold_intervals(np.asarray(values)[None], n_train, n_test)
    return float(mean[0]), float(low[0]), float(high[0])


def compute_fold_intervals(
    values: np.ndarray, n_train: float, n_test: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over folds with 95% intervals: (means, lows, highs), each [scores].

    values: [scores, folds].

    Folds share training examples, so their scores vary less than independent ones would. The
    variance is corrected for that (Nadeau & Bengio 2003, eq. 9).
    """
    count = values.shape[1]
    if count < 2:
        return (np.full(len(values), np.nan),) * 3
    means, variances = values.mean(axis=1), values.var(axis=1, ddof=1)
    half = _t_quantile(count - 1) * np.sqrt(variances * (1 / count + n_test / n_train))
    return means, means - half, means + half


@cache
def _t_quantile(degrees_of_freedom: int) -> float:
    return float(stdtrit(degrees_of_freedom, 0.975))


def compute_bootstrap_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The value of the first draw, and the 2.5th and 97.5th percentiles of the others."""
    if not np.isfinite(values[1:]).any():
        return (float("nan"),) * 3
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)
