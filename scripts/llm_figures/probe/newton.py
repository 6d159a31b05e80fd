"""The solvers of L2-regularised logistic regression, by the Newton system that each takes.

A system is one of features, or one of examples if there are fewer of them (Rasmussen & Williams
2006, algorithm 3.1, with an unpenalised intercept). `descent` has what both share.
"""

from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy.linalg.lapack import spotrs

from llm_figures.probe.descent import LogisticSolver
from llm_figures.probe.newton_systems import System, factorise, pad_rows

ALIKE = 0.2  # scales whose system serves another fit, too


def make_solver(
    X: np.ndarray, distinct: tuple[np.ndarray, np.ndarray] | None = None
) -> LogisticSolver:
    """The cheaper solver for examples [examples, features], float32.

    Features should have mean 0 and deviation 1 in all examples, or nearly so, for precision.
    distinct: the first of each set of equal rows, and for every row the index of its first; with it
    each distinct row is fitted once.
    """
    of_row = None
    if distinct is not None and len(distinct[0]) < len(X):
        X, of_row = X[distinct[0]], distinct[1]
    examples, features = X.shape
    return (Primal if examples >= features else Dual)(X, of_row)


class Primal(LogisticSolver):
    """Over the weights themselves: a system of features × features."""

    _axis = 1

    @cached_property
    def gram(self) -> np.ndarray:
        """[features, features]: XᵀX."""
        return self._X.T @ self._X

    def _weights(self, data, point):
        return point

    def _inner(self, data, points, images, others):
        return points @ others.transpose(0, 2, 1) / data.C

    def _image(self, data, point, exact):
        return self._onto_states(point * data.scales, exact)

    def _gradient(self, data, at, residual, exact):
        gradient = self._times_states(residual, exact) * data.scales - at.point / data.C
        return gradient, self._measure(data, gradient, residual)

    def _make_system(self, data, curvature):
        # [features, features]: ZᵀWZ + 1 / C
        scales = np.median(data.scales, axis=0)
        single = scales.astype(np.float32)
        if (curvature == curvature[0]).all():
            system = self.gram * single
            system *= np.float32(curvature[0]) * single[:, None]
        else:
            rows = _find_rows(curvature)
            scaled = self._X[rows] * np.sqrt(curvature[rows]).astype(np.float32)[:, None]
            scaled *= single
            system = scaled.T @ scaled
        system.flat[:: len(system) + 1] += np.float32(1 / data.C)
        if (cholesky := factorise(system)) is None:
            return None
        # The intercept's column of the system is ZᵀW1, its corner 1ᵀW1.
        column = (curvature.astype(np.float32) @ self._X) * scales
        shift = spotrs(cholesky, column.astype(np.float32), lower=1)[0].astype(np.float64)
        corner = float(curvature.sum() - column @ shift)
        return System(cholesky, shift, corner, column)

    def _solve(self, system, data, at, gradient, residual):
        free = system.solve(gradient)
        intercept = (residual.sum(axis=1) - free @ system.column) / system.corner
        step = free - system.shift * intercept[:, None]
        return np.where(data.scales == 0, 0, step), intercept


class Dual(LogisticSolver):
    """Over one number per example, w = C · Zᵀ dual: a system of examples × examples.

    At the optimum the dual equals weight · (label − probability), and sums to zero.
    """

    _axis = 0

    def __init__(self, X: np.ndarray, of_row: np.ndarray | None = None):
        super().__init__(X, of_row)
        self._kernel: tuple[np.ndarray, np.ndarray] | None = None

    def _weights(self, data, point):
        return data.C * self._times_states(point, exact=True) * data.scales

    def _inner(self, data, points, images, others):
        return images @ others.transpose(0, 2, 1)

    def _image(self, data, point, exact):
        weights = self._times_states(point, exact)
        return self._onto_states(data.C * weights * np.square(data.scales), exact)

    def _gradient(self, data, at, residual, exact):
        gradient = residual - at.point
        # Part of it may be one that no weights have.
        of_weights = self._times_states(gradient, exact) * data.scales
        return gradient, self._measure(data, of_weights, residual)

    def _make_system(self, data, curvature):
        # I + W^½ K W^½
        rows = _find_rows(curvature)
        whole = self._find_kernel(np.median(data.scales, axis=0).astype(np.float32))
        kernel = whole if isinstance(rows, slice) else whole[np.ix_(rows, rows)]
        root = np.sqrt(np.maximum(curvature[rows], 1e-12)).astype(np.float32)
        system = np.multiply(kernel, root)
        system *= np.float32(data.C) * root[:, None]
        system.flat[:: len(system) + 1] += 1
        if (cholesky := factorise(system)) is None:
            return None
        system = System(cholesky, root, 1.0, rows=rows, root=root, kernel=whole)
        shift = self._solve_freely(system, data, curvature[None])[0]
        return replace(system, shift=shift, corner=float(shift.sum()))

    def _find_kernel(self, scales):
        """[examples, examples]: ZZᵀ with these scales, or the first ones if they are alike."""
        if self._kernel is None:
            self._kernel = scales, self._multiply(scales)
        first, kernel = self._kernel
        alike = abs(scales - first) <= ALIKE * first
        return kernel if alike.all() else self._multiply(scales)

    def _multiply(self, scales):
        scaled = self._X * scales
        return scaled @ scaled.T

    def _solve_freely(self, system, data, right):
        """(K + W⁻¹)⁻¹ W⁻¹ right; right: [fits, examples]."""
        images = data.C * (pad_rows(right) @ system.kernel)[: len(right), system.rows]
        # An example without curvature keeps its own.
        free = right.copy()
        free[:, system.rows] -= system.root * system.solve(system.root * images)
        return free

    def _solve(self, system, data, at, gradient, residual):
        # Solving for the step, not for the new point, keeps the factor's rounding in proportion to
        # what is left to do.
        free = self._solve_freely(system, data, gradient)
        intercept = (free.sum(axis=1) + at.point.sum(axis=1)) / system.corner
        return free - system.shift * intercept[:, None], intercept


def _find_rows(curvature: np.ndarray) -> np.ndarray | slice:
    """The examples that have a curvature."""
    rows = np.flatnonzero(curvature)
    return slice(None) if len(rows) == len(curvature) else rows
