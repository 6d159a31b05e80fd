"""L2-regularised logistic regression fitted by Newton's method, to convergence.

A first-order solver stops early on raw hidden states. Newton's method converges. It works in the
space of the features, or in that of the examples if there are few of them (Rasmussen & Williams
2006, algorithm 3.1, with an unpenalised intercept).

The Cholesky factor of the system is the most expensive part of a Newton step. One factor is
therefore reused for several steps. Each step minimises the loss exactly over the plane that the new
direction, the previous step and the current point span (Narkiss & Zibulevsky 2005, sequential
subspace optimisation; with the previous step it is a conjugate gradient method preconditioned by
the factor). That takes a few hundred operations per example.

scikit-learn's converged lbfgs takes 1.3 times as long at the default penalty and 576 features, and
5 to 6 times at C = 1 or 4,096 features, those of a 7B model (benchmarks/README.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import strsv
from scipy.linalg.lapack import dposv, spotrf
from scipy.special import expit

# Largest entry of the gradient, in units of one example's residual, at which a fit has converged.
TOLERANCE = 1e-6
# A factor is reused for at least this many steps, and for as long as each step shrinks the gradient
# by this factor. Far from the optimum the gradient shrinks slowly, and new factors hardly pay.
FEWEST_STEPS = 4
WORTH_KEEPING = 0.3
# Up to this ratio of examples to features the system of the examples is cheaper: its matrix is
# computed once, that of the features once for every factor.
MORE_EXAMPLES = 1.5
BLOCK = 64  # rows converted to double precision at a time, so that they stay in the cache


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
        """The cheaper one for training rows [train, features] in single precision."""
        examples, features = rows.shape
        return (Primal if examples >= MORE_EXAMPLES * features else Dual)(rows, C)

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None = None, max_steps: int = 200
    ) -> Fit:
        """labels: [train], 0 or 1, both present. weights: [train], of each example; by default 1.

        Converged when no entry of the gradient exceeds `TOLERANCE`, in units of what one example's
        residual of one adds to it.
        """
        data = _Data.of(labels, weights)
        rate = np.average(data.labels, weights=data.weights)
        at = _Point(self._start(), np.zeros(len(labels)), float(np.log(rate / (1 - rate))))
        scored = data.scored(at.image + at.intercept)
        others: list[_Point] = []  # what the plane of the next move holds beside its Newton step
        left, factor, steps, exact = np.inf, None, 0, True
        for _ in range(max_steps):
            gradient, largest = self._gradient(at.point, scored.residual)
            previous, left = left, max(largest, abs(float(scored.residual.sum())))
            if left <= TOLERANCE:
                if exact:
                    return Fit(self._weights(at.point), at.intercept, True)
                # The steps' images were added up in single precision: what counts is the point's.
                at, exact, left = replace(at, image=self._exact_image(at.point)), True, previous
                scored = data.scored(at.image + at.intercept)
                continue
            if factor is None or (steps >= FEWEST_STEPS and left > previous * WORTH_KEEPING):
                steps = 0
                factor = self._factor(np.maximum(scored.curvature, 1e-12), factor is None)
                if factor is None:
                    break
            step, step_intercept = self._step(factor, at.point, gradient, scored.residual)
            newton = _Point(step, self._image(step), step_intercept)
            move, scored = self._best(at, scored, [newton, *others], data)
            at, steps, exact = at.plus(move), steps + 1, False
            # The first move is the point itself.
            others = [at, move] if others else [at]
        return Fit(self._weights(at.point), at.intercept, False)

    def _best(
        self, at: "_Point", scored: "_Scored", places: Sequence["_Point"], data: "_Data"
    ) -> tuple["_Point", "_Scored"]:
        """The move from `at` to the least loss in the plane of `places`, and the scores there.

        places: the Newton step, then the point itself, if not the origin, and others.
        """
        points = np.array([place.point for place in places])
        directions = np.array([data.ones, *(place.image for place in places)])
        penalty = self._inner(points, directions[1:], points)
        here = self._inner(points, directions[1:], at.point)
        logits, start = scored.logits, scored.loss()

        def moved(along):
            found = data.scored(logits + along @ directions)
            weights = along[1:]
            return found, float(here @ weights + weights @ penalty @ weights / 2 + found.loss())

        along = np.zeros(len(directions))
        along[:2] = places[0].intercept, 1.0
        for _ in range(PLANE_STEPS):
            found = data.scored(logits + along @ directions)
            slope = -(directions @ found.residual)
            slope[1:] += here + penalty @ along[1:]
            hessian = (directions * found.curvature) @ directions.T
            hessian[1:, 1:] += penalty
            change = _solved(hessian, -slope)
            along += change
            if abs(change).max() < 1e-2:
                break
        found, value = moved(along)
        if not value <= start + 1e-12 * abs(start):
            along[:] = 0
            along[:2] = places[0].intercept, 1.0
            while True:
                found, value = moved(along)
                if value <= start + 1e-12 * abs(start) or along[1] < 1e-6:
                    break
                along /= 2
        move = _Point(along[1:] @ points, along[1:] @ directions[1:], float(along[0]))
        return move, found

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
    def _inner(self, points: np.ndarray, images: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[points] or [points, others]: w · w' / C of the weights of each two."""

    @abstractmethod
    def _image(self, point: np.ndarray) -> np.ndarray:
        """What a point's weights add to the logits, [train]."""

    @abstractmethod
    def _exact_image(self, point: np.ndarray) -> np.ndarray:
        """The same, summed in double precision."""

    @abstractmethod
    def _gradient(self, point: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, float]:
        """Minus the gradient over C, and its largest entry in units of one example's residual."""

    @abstractmethod
    def _factorised(self, curvature: np.ndarray) -> "_Factor | None": ...

    @abstractmethod
    def _step(
        self, factor: "_Factor", point: np.ndarray, gradient: np.ndarray, residual: np.ndarray
    ) -> tuple[np.ndarray, float]: ...


# Newton steps inside a plane of at most four dimensions, which cost next to nothing.
PLANE_STEPS = 3


def _solved(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a small, positive system, whose directions may be nearly the same."""
    scale = 1 / np.sqrt(np.maximum(system.diagonal(), 1e-300))
    scaled = system * scale * scale[:, None]
    scaled.flat[:: len(scaled) + 1] += 1e-10
    _, found, failed = dposv(scaled, scale * right)
    # Not positive but for rounding: the directions say nothing that one of them does not.
    return np.zeros(len(right)) if failed else scale * found


class _Data(NamedTuple):
    """What is fitted: labels 0 or 1 and weights, [train], in double precision."""

    labels: np.ndarray
    weights: np.ndarray | None  # None: 1 each
    ones: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, weights: np.ndarray | None) -> "_Data":
        return cls(labels.astype(np.float64), weights, np.ones(len(labels)))

    def scored(self, logits: np.ndarray) -> "_Scored":
        probability = expit(logits)
        residual, curvature = self.labels - probability, probability * (1 - probability)
        if self.weights is not None:
            residual, curvature = self.weights * residual, self.weights * curvature
        return _Scored(self, logits, residual, curvature)


class _Scored(NamedTuple):
    """Logits, and there the residuals weight · (label − probability) and the curvature, [train]."""

    data: _Data
    logits: np.ndarray
    residual: np.ndarray
    curvature: np.ndarray

    def loss(self) -> float:
        losses = np.logaddexp(0, self.logits) - self.data.labels * self.logits
        return float(losses.sum() if self.data.weights is None else self.data.weights @ losses)


@dataclass(frozen=True)
class _Point:
    """A point or a move. image: what its weights add to the logits, [train]."""

    point: np.ndarray
    image: np.ndarray
    intercept: float

    def plus(self, move: "_Point") -> "_Point":
        return _Point(
            self.point + move.point, self.image + move.image, self.intercept + move.intercept
        )


@dataclass(frozen=True)
class _Factor:
    """Cholesky factor of a Newton system in single precision, with what the intercept needs.

    cholesky: lower, which LAPACK finds in three quarters of the time of the upper one.
    curvature: [train]. shift: how the point answers to a change of the intercept.
    """

    cholesky: np.ndarray
    curvature: np.ndarray
    shift: np.ndarray

    def solve(self, right: np.ndarray) -> np.ndarray:
        # LAPACK's own for this, spotrs, takes four times as long for a single vector.
        return strsv(self.cholesky, strsv(self.cholesky, right, lower=1), lower=1, trans=1)


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

    def _inner(self, points, images, others):
        return points @ others.T / self._C

    def _image(self, point):
        return self._rows @ point

    def _exact_image(self, point):
        return self._rows @ point

    def _gradient(self, point, residual):
        gradient = residual @ self._rows - point / self._C
        return gradient, float((np.abs(gradient) / self._unit).max())

    def _factorised(self, curvature):
        # [features, features]: Zᵀ W Z + 1 / C
        scaled = np.sqrt(curvature).astype(np.float32)[:, None] * self._single
        system = scaled.T @ scaled
        system.flat[:: len(system) + 1] += np.float32(1 / self._C)
        cholesky, failed = spotrf(system.T, lower=1, clean=0, overwrite_a=1)
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
        self._rows, self._C = rows, np.float32(C)
        self._kernel = rows @ rows.T
        self._kernel *= self._C

    def _start(self):
        return np.zeros(len(self._rows))

    def _weights(self, point):
        return self._C * (point.astype(np.float32) @ self._rows)

    def _inner(self, points, images, others):
        # Of the two ways to write it the one that does not see what of a point has no image: where
        # examples outnumber features, rounding there would steer the moves.
        return images @ others.T

    def _image(self, point):
        return (self._kernel @ point.astype(np.float32)).astype(np.float64)

    def _exact_image(self, point):
        blocks = range(0, len(point), BLOCK)
        return np.concatenate(
            [self._kernel[start : start + BLOCK].astype(np.float64) @ point for start in blocks]
        )

    def _gradient(self, point, residual):
        gradient = residual - point
        return gradient, float(np.abs(gradient).max())

    def _factorised(self, curvature):
        # I + W^½ K W^½
        root = np.sqrt(curvature).astype(np.float32)
        system = np.multiply(self._kernel, root)
        system *= root[:, None]
        system.flat[:: len(system) + 1] += 1
        cholesky, failed = spotrf(system.T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        factor = _Factor(cholesky, root, curvature)
        return replace(factor, shift=self._solved(factor, curvature))

    def _solved(self, factor, right):
        """(K + W⁻¹)⁻¹ W⁻¹ right."""
        root = factor.curvature
        return right - root * factor.solve(root * (self._kernel @ right.astype(np.float32)))

    def _step(self, factor, point, gradient, residual):
        # Solving for the step, not for the new point, keeps the factor's rounding in proportion to
        # what is left to do.
        free = self._solved(factor, gradient)
        step_intercept = (free.sum() + point.sum()) / factor.shift.sum()
        return free - factor.shift * step_intercept, float(step_intercept)
