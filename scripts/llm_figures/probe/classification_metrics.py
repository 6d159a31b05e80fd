"""How well scores tell wrong answers (the positive class) from right ones, and how surely."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.special import stdtrit

METRICS = ("auc", "accuracy", "f1", "average_precision")


def metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every metric of `METRICS`, each [draws].

    labels: [examples], 1 for the positive class. scores: [examples], above 0 where the positive
    class is the likelier. weights: [draws, examples], how often each example counts; by default one
    draw in which each counts once.

    AUC is the area under the ROC curve, ties counting half. Average precision is the sum over
    thresholds of precision times the rise in recall. F1 is 0 where nothing is called positive. A
    draw without one of the classes gives NaN.
    """
    if weights is None:
        weights = np.ones((1, len(labels)))
    ranked, positive, negative, starts = _counted(labels, scores, weights)
    above, false_above = positive.cumsum(axis=1), negative.cumsum(axis=1)
    positives, negatives = above[:, -1], false_above[:, -1]
    called = ranked[starts] > 0
    true_called, false_called = positive[:, called].sum(axis=1), negative[:, called].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(above > 0, above / (above + false_above), 0.0)
        values = {
            "auc": _area(positive, negative),
            "accuracy": (true_called + negatives - false_called) / (positives + negatives),
            "f1": 2 * true_called / (true_called + false_called + positives),
            "average_precision": (positive * precision).sum(axis=1) / positives,
        }
    both = (positives > 0) & (negatives > 0)
    return {name: np.where(both, value, np.nan) for name, value in values.items()}


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`metrics` of the AUC alone: [draws]."""
    _, positive, negative, _ = _counted(labels, scores, weights)
    return _area(positive, negative)


def _counted(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores from the highest, the weights of both classes [draws, distinct scores], and where each
    distinct score starts. Equal scores fall on the same side of every threshold: they are counted
    together."""
    order = np.argsort(-scores, kind="stable")
    ranked, truth, weights = scores[order], labels[order] == 1, weights[:, order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positive = np.add.reduceat(weights * truth, starts, axis=1)
    negative = np.add.reduceat(weights * ~truth, starts, axis=1)
    return ranked, positive, negative, starts


def _area(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counting half; NaN without one of the classes."""
    false_above = negative.cumsum(axis=1)
    below = false_above[:, -1:] - false_above
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positive * (below + negative / 2)).sum(axis=1) / pairs, np.nan)


def resamples(twins: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[1 + draws, examples]: each example once, then bootstrap resamples with replacement.

    twins: [examples]; what is drawn are distinct questions, with all their examples.
    """
    random = np.random.default_rng(seed)
    distinct, which = np.unique(twins, return_inverse=True)
    chance = np.full(len(distinct), 1 / len(distinct))
    drawn = random.multinomial(len(distinct), chance, size=draws)
    return np.vstack([np.ones(len(distinct)), drawn])[:, which]


def fold_interval(
    values: Sequence[float], n_train: float, n_test: float
) -> tuple[float, float, float]:
    """Mean over folds with a 95% interval: (mean, low, high).

    Folds share training examples, so their scores vary less than independent ones would; the
    variance is corrected for it (Nadeau & Bengio 2003, eq. 9).
    """
    if len(values) < 2:
        return (float("nan"),) * 3
    mean, variance = float(np.mean(values)), float(np.var(values, ddof=1))
    deviation = np.sqrt(variance * (1 / len(values) + n_test / n_train))
    half = _quantile(len(values) - 1) * float(deviation)
    return mean, mean - half, mean + half


@cache
def _quantile(freedom: int) -> float:
    return float(stdtrit(freedom, 0.975))


def bootstrap_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The value of the first draw, and the 2.5th and 97.5th percentile of the others."""
    if not np.isfinite(values[1:]).any():
        return (float("nan"),) * 3
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)
