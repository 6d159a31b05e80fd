"""L2-regularised logistic regression fitted by Newton's method, to convergence.

In the space of the features, or in that of the examples where there are fewer of these (Rasmussen &
Williams 2006, algorithm 3.1, with an unpenalised intercept): about five steps, where a first-order
solver stops early on raw hidden states.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg.lapack import spotrf, spotrs

# Largest entry of the gradient, in units of one example's residual, at which a fit has converged.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Fit:
    """A logistic regression: the logit of a row z is weights · z + intercept.

    weights: [features].
    """

    weights: np.ndarray
    intercept: float
    converged: bool


class NewtonSolver(ABC):
    """Minimises ½‖w‖² + C Σ weight · log-loss over weights w and an unpenalised intercept.

    Made once for the rows of a training fold and used for several labels of them, such as a
    control's, which then share what does not depend on the labels.
    """

    def __init__(self) -> None:
        self._first: tuple[np.ndarray, _Factor] | None = None

    @staticmethod
    def of(rows: np.ndarray, C: float) -> "NewtonSolver":
        """The cheaper one for training rows [train, features]."""
        return (Primal if rows.shape[0] >= rows.shape[1] else Dual)(rows, C)

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None = None, max_steps: int = 200
    ) -> Fit:
        """labels: [train], 0 or 1, both present. weights: [train], of each example; by default 1.

        Converged when no entry of the gradient exceeds `TOLERANCE`, in units of what one example's
        residual of one adds to it.
        """
        weights = np.ones(len(labels)) if weights is None else weights
        rate = np.average(labels, weights=weights)
        intercept = float(np.log(rate / (1 - rate)))
        point = self._start()
        image = np.zeros(len(labels))  # what the weights add to the logits

        def loss(point, image, intercept):
            scores = image + intercept
            fit = weights @ (np.logaddexp(0, scores) - labels * scores)
            return self._penalty(point, image) + fit

        current, left, factor = loss(point, image, intercept), np.inf, None
        for _ in range(max_steps):
            probability = 1 / (1 + np.exp(-(image + intercept)))
            residual = weights * (labels - probability)
            gradient, largest = self._gradient(point, residual)
            before, left = left, max(largest, abs(residual.sum()))
            if left <= TOLERANCE:
                return Fit(self._weights(point), intercept, True)
            # A factor costs several solves: keep it while each step with it gains a digit or so. It
            # only steers the step, so single precision does; the gradient above is exact.
            if factor is None or left > before / 4:
                curvature = weights * probability * (1 - probability)
                factor = self._factor(np.maximum(curvature, 1e-12), factor is None)
                if factor is None:
                    break
            step, step_intercept = self._step(factor, point, gradient, residual)
            step_image = self._image(step)
            length = 1.0
            while True:
                trial = (
                    point + length * step,
                    image + length * step_image,
                    intercept + length * step_intercept,
                )
                value = loss(*trial)
                if value <= current + 1e-12 * abs(current) or length < 1e-6:
                    break
                length /= 2
            point, image, intercept = trial
            current = value
        return Fit(self._weights(point), intercept, False)

    def _factor(self, curvature: np.ndarray, first: bool) -> "_Factor | None":
        """The factor at a point; that of the start is the same for labels of the same rate."""
        if first and self._first is not None and np.array_equal(self._first[0], curvature):
            return self._first[1]
        factor = self._factorised(curvature)
        if first and factor is not None:
            self._first = (curvature, factor)
        return factor

    @abstractmethod
    def _start(self) -> np.ndarray: ...

    @abstractmethod
    def _weights(self, point: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _penalty(self, point: np.ndarray, image: np.ndarray) -> float:
        """½‖w‖² / C."""

    @abstractmethod
    def _image(self, point: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _gradient(self, point: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, float]:
        """Minus the gradient over C, and its largest entry in units of one example's residual."""

    @abstractmethod
    def _factorised(self, curvature: np.ndarray) -> "_Factor | None": ...

    @abstractmethod
    def _step(
        self, factor: "_Factor", point: np.ndarray, gradient: np.ndarray, residual: np.ndarray
    ) -> tuple[np.ndarray, float]: ...


@dataclass(frozen=True)
class _Factor:
    """Cholesky factor of a Newton system in single precision, with what the intercept needs.

    curvature: [train]. shift: how the point answers to a change of the intercept.
    """

    cholesky: np.ndarray
    curvature: np.ndarray
    shift: np.ndarray

    def solve(self, right: np.ndarray) -> np.ndarray:
        return spotrs(self.cholesky, right, lower=0)[0]


class Primal(NewtonSolver):
    """Over the weights themselves: a system of features × features."""

    def __init__(self, rows: np.ndarray, C: float):
        super().__init__()
        self._single = rows
        self._rows = rows.astype(np.float64)
        self._C = C
        # What one example adds to the gradient differs with the size of the features.
        self._unit = np.maximum(np.sqrt(np.square(self._rows).mean(axis=0)), 1e-30)

    def _start(self):
        return np.zeros(self._rows.shape[1])

    def _weights(self, point):
        return point

    def _penalty(self, point, image):
        return point @ point / (2 * self._C)

    def _image(self, point):
        return self._rows @ point

    def _gradient(self, point, residual):
        gradient = residual @ self._rows - point / self._C
        return gradient, float((np.abs(gradient) / self._unit).max())

    def _factorised(self, curvature):
        # [features, features]: Zᵀ W Z + 1 / C
        scaled = np.sqrt(curvature).astype(np.float32)[:, None] * self._single
        system = scaled.T @ scaled
        system.flat[:: len(system) + 1] += np.float32(1 / self._C)
        cholesky, failed = spotrf(system.T, lower=0, clean=0, overwrite_a=1)
        if failed:
            return None
        factor = _Factor(cholesky, curvature, curvature)
        return replace(factor, shift=factor.solve(curvature @ self._rows))

    def _step(self, factor, point, gradient, residual):
        # The intercept's column of the system is Zᵀ W 1, its corner 1ᵀ W 1.
        column = factor.curvature @ self._rows
        corner = factor.curvature.sum() - column @ factor.shift
        free = factor.solve(gradient)
        step_intercept = (residual.sum() - column @ free) / corner
        return free - factor.shift * step_intercept, float(step_intercept)


class Dual(NewtonSolver):
    """Over one number per example, w = C · Zᵀ dual: a system of train × train.

    At the optimum the dual equals weight · (label − probability), and sums to zero.
    """

    def __init__(self, rows: np.ndarray, C: float):
        super().__init__()
        self._rows, self._C = rows, C
        self._single = np.float32(C) * (rows @ rows.T)
        self._kernel = self._single.astype(np.float64)

    def _start(self):
        return np.zeros(len(self._rows))

    def _weights(self, point):
        return self._C * (point @ self._rows)

    def _penalty(self, point, image):
        return point @ image / 2

    def _image(self, point):
        return self._kernel @ point

    def _gradient(self, point, residual):
        gradient = residual - point
        return gradient, float(np.abs(gradient).max())

    def _factorised(self, curvature):
        # I + W^½ K W^½
        root = np.sqrt(curvature).astype(np.float32)
        system = root[:, None] * self._single * root
        system.flat[:: len(system) + 1] += 1
        cholesky, failed = spotrf(system.T, lower=0, clean=0, overwrite_a=1)
        if failed:
            return None
        factor = _Factor(cholesky, curvature, curvature)
        return replace(factor, shift=self._solved(factor, curvature))

    def _solved(self, factor, right):
        """(K + W⁻¹)⁻¹ W⁻¹ right."""
        root = np.sqrt(factor.curvature)
        return right - root * factor.solve(root * (self._kernel @ right))

    def _step(self, factor, point, gradient, residual):
        # Solving for the step, not for the new point, keeps the factor's rounding in proportion to
        # what is left to do.
        free = self._solved(factor, gradient)
        step_intercept = (free.sum() + point.sum()) / factor.shift.sum()
        return free - factor.shift * step_intercept, float(step_intercept)
