"""How well a cell does inside a training set: the criterion by which nested selection chooses one.

The test set of a split has no part in it. The training set is divided into inner folds, and a probe
is fitted on all but one of them and scored on that one. The probe is the first Newton step of the
strict protocol's from zero: there every answer has the curvature ¼, and the step ends at the ridge
regression of the labels with penalty 4 / C = 4 · features, on features that are standardised on
what it is fitted on, with an intercept that is not penalised. That is so whatever the protocol of
the probe itself.

Folds share their inner fits: where inner folds are the outer ones, what is fitted without folds j
and k is tested on j for the split that tests k, and on k for the one that tests j. All fits of a
cell are solved together, by conjugate gradients, for a few products with its states.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg.lapack import spotrf, spotrs

from llm_figures.probe.cells import Split
from llm_figures.probe.classification_metrics import compute_column_aucs

# Norm of the gradient, in units of that at the start, at which a fit has converged, and the most
# steps. Four more digits change no AUC by 0.0005 in the default model.
TOLERANCE = 1e-3
STEPS = 60
# A feature whose variance in a training set is less, in units of that in all examples, is constant.
CONSTANT = 1e-9


def score_inner_folds(
    X: np.ndarray,
    distinct: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    splits: Sequence[Split],
    gram: np.ndarray | None = None,
) -> np.ndarray:
    """[splits]: mean AUC over the inner folds of each split's training set.

    X: [examples, features], float32; it is changed in place. distinct: the first of each set of
    equal rows, and for every row the index of its first, for equal rows must have equal scores.
    labels: [examples], 0 or 1. gram: as for `fit_ridges`.

    An inner fold without both labels on both sides does not count; NaN if none does.
    """
    fits: dict[bytes, int] = {}
    trains: list[np.ndarray] = []
    # {test set: (its examples, and which fits are tested there for which splits)}
    tests: dict[bytes, tuple[np.ndarray, list[tuple[int, int]]]] = {}
    for number, split in enumerate(splits):
        for inner in [] if split.inner is None else np.unique(split.inner[split.train]):
            test = split.train & (split.inner == inner)
            train = split.train & ~test
            if min(_count_least(labels[test]), _count_least(labels[train])) == 0:
                continue
            if train.tobytes() not in fits:
                fits[train.tobytes()] = len(trains)
                trains.append(train)
            tested = tests.setdefault(test.tobytes(), (np.flatnonzero(test), []))[1]
            tested.append((number, fits[train.tobytes()]))
    if not trains:
        return np.full(len(splits), np.nan)
    weights = fit_ridges(X, labels, np.array(trains), gram)
    first, of_row = distinct
    scores = ((X if len(first) == len(X) else X[first]) @ weights.T)[of_row]
    aucs: list[list[float]] = [[] for _ in splits]
    for test, tested in tests.values():
        columns = scores[np.ix_(test, [fit for _, fit in tested])]
        labelled = np.broadcast_to(labels[test, None], columns.shape)
        found = compute_column_aucs(labelled, columns).tolist()
        for (number, _), auc in zip(tested, found, strict=True):
            aucs[number].append(auc)
    return np.array([np.mean(values) if values else np.nan for values in aucs])


def _count_least(labels: np.ndarray) -> int:
    return int(np.bincount(labels, minlength=2).min())


def fit_ridges(
    X: np.ndarray, labels: np.ndarray, trains: np.ndarray, gram: np.ndarray | None = None
) -> np.ndarray:
    """[fits, features]: the weights of the first Newton step on each training set, but for a scale.

    X: [examples, features], float32; without gram the mean of each feature is taken away in place,
    for precision. labels: [examples]. trains: masks [fits, examples], each with both labels. gram:
    XᵀX of standardised features; with it the fits take fewer steps.

    A fit's score of a row x of X is weights · x, plus a constant.
    """
    share = np.full(len(X), 1 / len(X), np.float32)
    overall = share @ X
    if gram is None:
        X -= overall
    masks = trains.astype(np.float32)
    counts = masks.sum(axis=1, keepdims=True)
    means = (masks @ X) / counts
    squares = np.square(X)
    variances = (masks @ squares) / counts - np.square(means)
    # A feature that varies no more than single precision rounds is constant, too.
    least = np.maximum(CONSTANT * (share @ squares), np.square(1e-6 * overall))
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = np.where(variances > least, 1 / np.sqrt(variances), 0).astype(np.float32)
    rates = (trains @ labels) / counts[:, 0]
    residuals = ((labels - rates[:, None]) * masks).astype(np.float32)
    penalty = np.float32(find_penalty(X.shape[1]))

    def apply(point: np.ndarray) -> np.ndarray:
        """ZᵀZ of each training set, times a point."""
        scaled = point * scales
        images = (X @ scaled.T).T - (means * scaled).sum(axis=1, keepdims=True)
        images *= masks
        return (images @ X - means * images.sum(axis=1, keepdims=True)) * scales

    precondition = _make_preconditioner(gram, float(counts.mean() / len(X)), penalty)
    # Centred residuals: the means of features drop out.
    gradient = (residuals @ X) * scales
    point = np.zeros_like(gradient)
    direction = precondition(gradient)
    left, size = _multiply(gradient, direction), _multiply(gradient, gradient)
    start = size
    for _ in range(STEPS):
        active = size > TOLERANCE**2 * start
        if not active.any():
            break
        product = apply(direction) + penalty * direction
        bend = np.maximum(_multiply(direction, product), 1e-30)
        length = np.where(active, left / bend, 0)
        point += length * direction
        gradient -= length * product
        size = np.where(active, _multiply(gradient, gradient), size)
        step = precondition(gradient)
        previous, left = left, np.where(active, _multiply(gradient, step), left)
        direction = step + (left / np.maximum(previous, 1e-30)) * direction
    return point * scales


def _multiply(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[fits, 1]: inner products of rows."""
    return (left * right).sum(axis=1, keepdims=True)


def _make_preconditioner(
    gram: np.ndarray | None, share: float, penalty: np.float32
) -> Callable[[np.ndarray], np.ndarray]:
    """Solves (share · XᵀX + penalty) for right sides [fits, features]; share: of the examples."""
    if gram is None:
        return np.copy
    system = np.float32(share) * gram
    system.flat[:: len(system) + 1] += penalty
    cholesky, failed = spotrf(system.T, lower=1, clean=0, overwrite_a=1)
    if failed:
        return np.copy
    return lambda right: spotrs(cholesky, right.T, lower=1)[0].T


def find_penalty(features: int) -> float:
    """Of the ridge regression that is the first Newton step: 1 / C over the curvature ¼."""
    return 4.0 * features
