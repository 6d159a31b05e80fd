"""L2-regularised logistic regression, fitted to convergence for many training sets at once.

A first-order solver stops early on raw hidden states. Newton's method converges, but a system of
equations for each fit is expensive, and most fits of a cell of the probe have nearly the same one:
the folds share four fifths of their examples, and a control differs in its labels alone. All fits
of a cell are therefore solved together.

- Each step begins with the Newton direction of a system that all fits share, with the mean of their
  curvatures. It is made once, and again only where fits converge slowly.
- Each fit then moves to the least loss in the plane of this direction, its previous step and the
  current point (Narkiss & Zibulevsky 2005, sequential subspace optimisation; with the previous step
  it is a conjugate gradient method, which the shared system preconditions).
- Products with the states are products of matrices, one column per fit. They are in single
  precision at first, and in double precision at the end.

`newton` has the systems.

benchmarks/README.md compares its time with that of scikit-learn's solvers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llm_figures.probe.newton_systems import System, pad_rows

# Largest entry of the gradient of the mean loss at which a fit has converged, in units of what one
# example's residual of one adds to that of the sum.
TOLERANCE = 1e-8
# Where single precision no longer helps: so many times the tolerance.
ROUGH = 4
# A system serves at least so many steps, and for as long as each shrinks the largest gradient by
# this factor on average. The first `SHARED` are for all fits, later ones for each fit by itself.
FEWEST_STEPS = 6
SLOW = 0.5
SHARED = 2
MOST_SYSTEMS = 8
MOST_STEPS = 400
# Newton steps inside a plane of at most four dimensions. One is enough where no logit changes by
# more than this: there the loss is all but quadratic, and falls.
PLANE_STEPS = 3
NEAR = 0.1
SHORTER = 20
BLOCK = 256  # rows converted to double precision at a time, so that they stay in the cache


class Fits(NamedTuple):
    """Logistic regressions: the logit of features z is weights · z + intercept.

    weights: [fits, features]. intercepts, converged: [fits]. logits: [fits, examples], of all
    examples, also of those that a fit was not trained on.
    """

    weights: np.ndarray
    intercepts: np.ndarray
    converged: np.ndarray
    logits: np.ndarray


class LogisticSolver(ABC):
    """Minimises ½‖w‖² + C Σ weight · log-loss over weights w and an unpenalised intercept.

    Made once for some examples (`newton.make_solver`), and used for any number of fits to some of
    them each.

    X: distinct examples [distinct, features], float32. of_row: for every example the index of its
    row of X; by default they are the same.
    """

    def __init__(self, X: np.ndarray, of_row: np.ndarray | None = None):
        self._X, self._of_row = X, of_row

    def fit(
        self,
        labels: np.ndarray,
        weights: np.ndarray,
        C: float,
        scales: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
    ) -> Fits:
        """Fit each row of labels.

        labels: [fits, examples], 0 or 1. weights: [fits, examples], 0 for an example that is not
        trained on; of the others, either label is present.
        scales, offsets: [fits, features]; the features of a fit are X · scales + offsets, by
        default X itself. A feature of scale 0 gets no weight.

        A fit has converged when no entry of the gradient of its mean loss exceeds `TOLERANCE`, in
        units of the root mean square of the feature in its training set.
        """
        labels, weights = labels.astype(np.float64), weights.astype(np.float64)
        if self._of_row is not None:  # the share of a row's examples that have label 1
            totals = self._sum_equal(weights)
            ones = self._sum_equal(weights * labels)
            weights = totals
            labels = np.divide(ones, totals, out=np.zeros_like(ones), where=totals > 0)
        fits, features = len(labels), self._X.shape[1]
        scales = np.ones((fits, features)) if scales is None else scales
        offsets = np.zeros((fits, features)) if offsets is None else offsets
        data = Data(labels, weights, C, scales, offsets)
        counts = data.weights.sum(axis=1)
        rates = (data.weights * data.labels).sum(axis=1) / counts
        intercepts = np.log(rates / (1 - rates))
        at = Point(
            np.zeros((fits, self._X.shape[self._axis])),
            np.zeros((fits, len(self._X))),
            intercepts,
        )
        tolerances = TOLERANCE * counts
        systems: list[System | None] = [None] * fits
        at, _ = self._descend(data, at, ROUGH * tolerances, systems, exact=False)
        # The images of steps were added up in single precision: what counts is the point's.
        at = at._replace(image=self._image(data, at.point, exact=True))
        at, converged = self._descend(data, at, tolerances, systems, exact=True)
        found = self._weights(data, at.point)
        shifts = np.einsum("fp,fp->f", found, offsets)
        logits = at.logits if self._of_row is None else at.logits[:, self._of_row]
        return Fits(found, at.intercept - shifts, converged, logits)

    def _sum_equal(self, values: np.ndarray) -> np.ndarray:
        """[fits, distinct rows]: sums of [fits, examples] over equal rows."""
        return np.array([np.bincount(self._of_row, own, len(self._X)) for own in values])

    def _descend(
        self,
        data: "Data",
        start: "Point",
        tolerances: np.ndarray,
        systems: list["System | None"],
        exact: bool,
    ) -> tuple["Point", np.ndarray]:
        """Points whose gradients are within `tolerances` [fits], and whether each is.

        systems: of each fit, changed in place; None: to be made. exact: whether products with the
        states are in double precision.
        """
        ended = Point(*(values.copy() for values in start))
        converged = np.zeros(len(data.labels), bool)
        active = np.arange(len(data.labels))
        at, scored, previous = start, data.score(start.logits), None
        made, steps, before = 0, 0, np.inf
        for _ in range(MOST_STEPS):
            gradient, left = self._gradient(data, at, scored.residual, exact)
            left = np.maximum(left, abs(scored.residual.sum(axis=1)))
            if (done := left <= tolerances[active]).any():
                ended.put(active[done], at.take(done))
                converged[active[done]] = True
                if done.all():
                    return ended, converged
                kept = ~done
                active, gradient, left = active[kept], gradient[kept], left[kept]
                data, at, scored = data.take(kept), at.take(kept), scored.take(kept)
                previous = None if previous is None else previous.take(kept)
            missing = any(systems[fit] is None for fit in active)
            if missing or (steps >= FEWEST_STEPS and left.max() > before * SLOW**steps):
                if made > (MOST_SYSTEMS if exact else SHARED):
                    break  # without exact: what slows the fits is the rounding of single precision
                curvatures = scored.curvature
                if missing:  # the same for all examples: of products that do not depend on it
                    curvatures = np.full((1, len(self._X)), curvatures.mean())
                elif made < SHARED and not exact:
                    curvatures = curvatures.mean(axis=0, keepdims=True)
                if not self._make_systems(data, curvatures, active, systems):
                    break
                made, steps = made + 1, 0
            if steps == 0:
                before = left.max()
            step, intercept = self._solve_all(
                [systems[fit] for fit in active], data, at, gradient, scored.residual
            )
            newton = Point(step, self._image(data, step, exact), intercept)
            # The first move is the point itself.
            places = [newton] if previous is None else [newton, previous, at]
            previous, scored = self._find_best(data, at, scored, places)
            at, steps = at.plus(previous), steps + 1
        ended.put(active, at)
        return ended, converged

    def _make_systems(
        self,
        data: "Data",
        curvatures: np.ndarray,
        active: np.ndarray,
        systems: list["System | None"],
    ) -> bool:
        """Make one system for all active fits, or one for each; False if one is not positive.

        curvatures: [1 or active, examples].
        """
        if len(curvatures) == 1:
            made = [self._make_system(data, curvatures[0])] * len(active)
        else:
            parts = (data.take([fit]) for fit in range(len(active)))
            made = [self._make_system(*pair) for pair in zip(parts, curvatures, strict=True)]
        for fit, system in zip(active, made, strict=True):
            systems[fit] = system
        return None not in made

    def _solve_all(
        self,
        systems: Sequence["System"],
        data: "Data",
        at: "Point",
        gradient: np.ndarray,
        residual: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`_solve` by the system of each fit, together for those that share one."""
        sharing: dict[int, list[int]] = {}
        for fit, system in enumerate(systems):
            sharing.setdefault(id(system), []).append(fit)
        step, intercept = np.empty_like(gradient), np.empty(len(gradient))
        for fits in sharing.values():
            step[fits], intercept[fits] = self._solve(
                systems[fits[0]], data.take(fits), at.take(fits), gradient[fits], residual[fits]
            )
        return step, intercept

    def _find_best(
        self, data: "Data", at: "Point", scored: "Scored", places: Sequence["Point"]
    ) -> tuple["Point", "Scored"]:
        """Each fit's move from `at` to the least loss in the plane of `places`, and scores there.

        places: the Newton step first.
        """
        points = np.stack([place.point for place in places], axis=1)
        ones = np.ones_like(at.image)
        directions = np.stack([ones, *(place.image for place in places)], axis=1)
        turned = directions.transpose(0, 2, 1)
        penalty = self._inner(data, points, directions[:, 1:], points)
        here = self._inner(data, points, directions[:, 1:], at.point[:, None])[:, :, 0]

        def move(along):
            return data.score(scored.logits + (along[:, None] @ directions)[:, 0])

        along = np.zeros(directions.shape[:2])
        along[:, 0], along[:, 1] = places[0].intercept, 1
        found = move(along)
        for _ in range(PLANE_STEPS):
            slope = -(directions @ found.residual[:, :, None])[:, :, 0]
            slope[:, 1:] += here + (penalty @ along[:, 1:, None])[:, :, 0]
            hessian = (directions * found.curvature[:, None]) @ turned
            hessian[:, 1:, 1:] += penalty
            change = _solve_small(hessian, -slope)
            along += change
            found = move(along)
            near = abs(found.logits - scored.logits).max() < NEAR
            if near or abs(change).max() < 1e-2:
                break

        def measure(along, found):
            weights = along[:, 1:]
            bent = (penalty @ weights[:, :, None])[:, :, 0]
            return ((here + bent / 2) * weights).sum(axis=1) + found.compute_loss()

        start = None if near else scored.compute_loss() * (1 + 1e-12)
        if not near and (worse := ~(measure(along, found) <= start)).any():
            # Along the Newton step alone, shorter and shorter.
            along[worse] = 0
            along[worse, 0], along[worse, 1] = places[0].intercept[worse], 1
            for _ in range(SHORTER):
                found = move(along)
                worse &= ~(measure(along, found) <= start)
                if not worse.any():
                    break
                along[worse] /= 2
        moved = (along[:, None, 1:] @ points)[:, 0], (along[:, None, 1:] @ directions[:, 1:])[:, 0]
        return Point(*moved, along[:, 0]), found

    def _times_states(self, rows: np.ndarray, exact: bool) -> np.ndarray:
        """[rows, examples] @ X."""
        if not exact:
            return (pad_rows(rows) @ self._X)[: len(rows)].astype(np.float64)
        return sum(
            rows[:, start : start + BLOCK] @ self._X[start : start + BLOCK].astype(np.float64)
            for start in range(0, len(self._X), BLOCK)
        )

    def _onto_states(self, rows: np.ndarray, exact: bool) -> np.ndarray:
        """[rows, features] @ Xᵀ."""
        if not exact:
            return (self._X @ pad_rows(rows).T).T[: len(rows)].astype(np.float64, order="C")
        return np.concatenate(
            [
                rows @ self._X[start : start + BLOCK].astype(np.float64).T
                for start in range(0, len(self._X), BLOCK)
            ],
            axis=1,
        )

    @staticmethod
    def _measure(data: "Data", gradient: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """[fits]: the largest entry of a weights' gradient, in units of one example's residual."""
        # With the intercept of the features, not of the states.
        whole = gradient + data.offsets * residual.sum(axis=1)[:, None]
        units = np.sqrt(np.square(data.scales) + np.square(data.offsets))
        return (abs(whole) / np.maximum(units, 1e-30)).max(axis=1)

    @property
    @abstractmethod
    def _axis(self) -> int:
        """The axis of X along which a point has its numbers."""

    @abstractmethod
    def _weights(self, data: "Data", point: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _inner(
        self, data: "Data", points: np.ndarray, images: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        """[fits, points, others]: w · w' / C of the weights of each two."""

    @abstractmethod
    def _image(self, data: "Data", point: np.ndarray, exact: bool) -> np.ndarray:
        """What a point's weights add to the logits, but for a constant, [fits, examples]."""

    @abstractmethod
    def _gradient(
        self, data: "Data", at: "Point", residual: np.ndarray, exact: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Minus the gradient over C, and its largest entry in units of one example's residual."""

    @abstractmethod
    def _make_system(self, data: "Data", curvature: np.ndarray) -> "System | None":
        """The Newton system that all fits share. curvature: [examples]."""

    @abstractmethod
    def _solve(
        self,
        system: "System",
        data: "Data",
        at: "Point",
        gradient: np.ndarray,
        residual: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Newton steps and those of the intercepts, [fits]."""


def _solve_small(systems: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[fits, n]: of small, positive systems, whose directions may be nearly the same."""
    sizes = np.einsum("fii->fi", systems)
    # Not positive but for rounding: the direction says nothing.
    scale = np.where(sizes > 0, 1 / np.sqrt(np.maximum(sizes, 1e-300)), 0)
    scaled = systems * scale[:, :, None] * scale[:, None, :]
    scaled += 1e-10 * np.eye(scaled.shape[1])
    return scale * np.linalg.solve(scaled, (scale * right)[:, :, None])[:, :, 0]


class Data(NamedTuple):
    """What is fitted: labels and weights [fits, examples], scales and offsets [fits, features]."""

    labels: np.ndarray
    weights: np.ndarray
    C: float
    scales: np.ndarray
    offsets: np.ndarray

    def take(self, fits: np.ndarray) -> "Data":
        return Data(
            self.labels[fits], self.weights[fits], self.C, self.scales[fits], self.offsets[fits]
        )

    def score(self, logits: np.ndarray) -> "Scored":
        # exp of a negative number: does not overflow
        small = np.exp(-abs(logits))
        rest = 1 / (1 + small)
        probability = np.where(logits >= 0, rest, small * rest)
        residual = self.weights * (self.labels - probability)
        return Scored(self, logits, small, residual, self.weights * small * rest * rest)


class Scored(NamedTuple):
    """Logits, and there the residuals weight · (label − probability) and the curvature.

    All are [fits, examples]. small: e to the power of −|logit|.
    """

    data: Data
    logits: np.ndarray
    small: np.ndarray
    residual: np.ndarray
    curvature: np.ndarray

    def take(self, fits: np.ndarray) -> "Scored":
        return Scored(self.data.take(fits), *(values[fits] for values in self[1:]))

    def compute_loss(self) -> np.ndarray:
        """[fits]: Σ weight · log-loss."""
        losses = (
            np.maximum(self.logits, 0) + np.log(1 + self.small) - self.data.labels * self.logits
        )
        return (self.data.weights * losses).sum(axis=1)


class Point(NamedTuple):
    """A point or a move of each fit. image: what its weights add to the logits, but for a constant.

    point: [fits, features or examples]. image: [fits, examples]. intercept: [fits].
    """

    point: np.ndarray
    image: np.ndarray
    intercept: np.ndarray

    @property
    def logits(self) -> np.ndarray:
        return self.image + self.intercept[:, None]

    def plus(self, move: "Point") -> "Point":
        return Point(*(one + other for one, other in zip(self, move, strict=True)))

    def take(self, fits: np.ndarray) -> "Point":
        return Point(*(values[fits] for values in self))

    def put(self, fits: np.ndarray, other: "Point") -> None:
        for values, new in zip(self, other, strict=True):
            values[fits] = new
