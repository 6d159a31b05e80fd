"""A factorised Newton system in single precision, and solving with it."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import strsv
from scipy.linalg.lapack import spotrf, spotrs

KERNEL_COLUMNS = 4  # products with a multiple of so many columns are the fastest per column
# How much is added to the diagonal of a system that is not positive but for rounding.
JITTERS = (0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class System:
    """Cholesky factor of a Newton system in single precision, with what the intercept needs.

    cholesky: lower, which LAPACK finds in three quarters of the time of the upper one.
    column: how the intercept's equation depends on a point. shift: how the point answers to a
    change of the intercept. corner: the intercept's own equation, after that.
    rows: the examples that a system of examples takes in. root: of their curvature. kernel: of all.
    """

    cholesky: np.ndarray
    shift: np.ndarray
    corner: float
    column: np.ndarray | None = None
    rows: np.ndarray | slice | None = None
    root: np.ndarray | None = None
    kernel: np.ndarray | None = None

    def solve(self, right: np.ndarray) -> np.ndarray:
        """right: [fits, n]."""
        if not right.shape[1]:
            return right
        if len(right) == 1:  # spotrs takes four times as long for a single vector
            half = strsv(self.cholesky, right[0], lower=1)
            return strsv(self.cholesky, half, lower=1, trans=1)[None]
        return spotrs(self.cholesky, pad_rows(right).T, lower=1, overwrite_b=1)[0].T[: len(right)]


def factorise(system: np.ndarray) -> np.ndarray | None:
    """The Cholesky factor of a positive system; what rounding took from it is added."""
    diagonal = system.diagonal().copy()
    for jitter in JITTERS:
        if jitter:
            system.flat[:: len(system) + 1] = diagonal * np.float32(1 + jitter)
        cholesky, failed = spotrf(system.T, lower=1, clean=0)
        if not failed:
            return cholesky
    return None


def pad_rows(rows: np.ndarray) -> np.ndarray:
    """`rows` in single precision, with rows of zeros up to a multiple of `KERNEL_COLUMNS`."""
    padded = np.zeros((-(-len(rows) // KERNEL_COLUMNS) * KERNEL_COLUMNS, *rows.shape[1:]), "f4")
    padded[: len(rows)] = rows
    return padded
