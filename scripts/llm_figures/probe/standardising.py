"""Standardised features, and which examples are equal for a probe."""

from typing import NamedTuple

import numpy as np

from llm_figures.probe.descent import BLOCK

# A feature that varies less, in units of its mean, varies no more than single precision rounds.
CONSTANT = 1e-6


class Scaler(NamedTuple):
    """A state x becomes (x − mean) / scale; both [features], float64.

    A feature that does not vary in training has scale 1. The pipeline makes it 0, and its weight is
    0.
    """

    mean: np.ndarray
    scale: np.ndarray


def standardise(X_train: np.ndarray, X_test: np.ndarray | None = None) -> Scaler:
    """Scale features to mean 0 and deviation 1 on the training set, in place.

    X_train, X_test: [examples, features], float32.

    A feature that varies no more than float32's precision becomes 0: divided by its rounding error,
    it would turn noise into a signal.

    Returns what it did.
    """
    count = np.float32(len(X_train))
    # The rounding error of this mean is subtracted in the second pass.
    mean = np.full(len(X_train), 1 / count) @ X_train
    sums, squares = np.zeros(len(mean)), np.zeros(len(mean))
    for start in range(0, len(X_train), BLOCK):
        rows = X_train[start : start + BLOCK]
        rows -= mean
        sums += rows.sum(axis=0)
        squares += np.square(rows).sum(axis=0)
    rest = sums / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(rest), 0))
    varies = deviation > CONSTANT * np.maximum(np.abs(mean), 1e-30)
    deviation = np.where(varies, deviation, 1.0)
    scaler = Scaler(mean + rest, deviation)
    scale = np.where(varies, 1 / deviation, 0.0).astype(np.float32)
    rest = rest.astype(np.float32)
    for start in range(0, len(X_train), BLOCK):
        rows = X_train[start : start + BLOCK]
        rows -= rest
        rows *= scale
    if X_test is not None:
        X_test -= mean
        X_test -= rest
        X_test *= scale
    return scaler


def measure_features(
    X: np.ndarray, trains: np.ndarray, scaler: Scaler
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of features in each training set, both [sets, features].

    X: [examples, features], float32, as `scaler` made them from states. trains: masks [sets,
    examples]. The deviation of a feature that varies no more than the states' precision is 0.
    """
    masks = trains / trains.sum(axis=1, keepdims=True)
    means, squares = np.zeros((2, len(trains), X.shape[1]))
    for start in range(0, len(X), BLOCK):
        rows, own = X[start : start + BLOCK].astype(np.float64), masks[:, start : start + BLOCK]
        means += own @ rows
        squares += own @ np.square(rows)
    deviations = np.sqrt(np.maximum(squares - np.square(means), 0))
    sizes = np.maximum(abs(means), abs(scaler.mean / scaler.scale + means))
    return means, np.where(deviations > CONSTANT * sizes, deviations, 0)


def find_distinct_rows(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each set of equal rows, and for every row of X the index of its first."""
    if not X.shape[1]:
        return np.arange(min(1, len(X))), np.zeros(len(X), int)
    # Rows that differ usually do so in their first features.
    for width in (4, X.shape[1]):
        part = np.ascontiguousarray(X[:, :width]) + np.float32(0)  # -0 becomes 0
        as_bytes = part.view(np.dtype((np.void, part.dtype.itemsize * part.shape[1])))[:, 0]
        _, first, distinct_of_row = np.unique(as_bytes, return_index=True, return_inverse=True)
        if len(first) == len(X):
            return np.arange(len(X)), np.arange(len(X))
    return first, distinct_of_row
