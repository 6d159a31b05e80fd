"""A probe of one split of a cell, fitted to its training set and scored on its test set."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import sposv

from llm_figures.probe.cells import assign_folds
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.descent import LogisticSolver
from llm_figures.probe.kinds import fit_kind
from llm_figures.probe.newton import make_solver
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.selection import find_penalty
from llm_figures.probe.standardising import Scaler, find_distinct_rows, standardise

# What `C: cv` chooses from, times 1 / hidden size, by AUC over so many folds of the training set.
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
INNER_FOLDS = 3


@dataclass(frozen=True)
class ProbeFit:
    """scores: [test], above 0 for a wrong answer; of logistic regression, its logit.

    C: the inverse penalty of the fit; NaN for a kind of probe without one. weights, intercept: of
    the features as they were fitted, standardised or raw; None for a probe that is not linear.
    """

    scores: np.ndarray
    converged: bool
    C: float
    weights: np.ndarray | None
    intercept: float | None


class ProbeFitter:
    """Training and test set of one split of a cell, to be fitted to several labels.

    X_train, X_test: [examples, features], float32; they are changed in place. split_groups:
    [train], for `C: cv`.

    scaler: how features were standardised; None for raw ones.
    """

    def __init__(
        self,
        X_train: np.ndarray,
        X_test: np.ndarray,
        protocol: Protocol,
        split_groups: np.ndarray,
    ):
        self._protocol, self._split_groups = protocol, split_groups
        # Inner folds are standardised by their own training set.
        self._raw_train = X_train.copy() if protocol.C == "cv" else None
        # Identical inputs must get equal scores. Matrix products differ in the last bits from row
        # to row, and a ranking metric would rank that noise. So each distinct row is scored once.
        first, self._distinct_of_row = find_distinct_rows(X_test)
        X_test = X_test if len(first) == len(X_test) else X_test[first]
        self.scaler: Scaler | None = None
        if protocol.standardise:
            self.scaler = standardise(X_train, X_test)
            # Equal now, too, are rows that differ only in features which do not vary in training,
            # such as groups of which all questions are tested.
            first, distinct_of_row = find_distinct_rows(X_test)
            if len(first) < len(X_test):
                X_test = X_test[first]
                self._distinct_of_row = distinct_of_row[self._distinct_of_row]
        self._X_train, self._X_test = X_train, X_test
        self._solver: LogisticSolver | None = None

    def fit(self, labels: np.ndarray, C: float | None = None, seed: int | None = None) -> ProbeFit:
        """labels: [train], 0 or 1, both present. C: by default the protocol's.

        seed: of a kind of probe with randomness; by default the protocol's. Such kinds count as
        converged.
        """
        if self._protocol.kind != "logistic":
            seed = self._protocol.seed if seed is None else seed
            found = fit_kind(self._protocol.kind, self._X_train, labels, seed)
            scores = found.score(self._X_test)[self._distinct_of_row]
            return ProbeFit(scores, True, math.nan, found.weights, found.intercept)
        C = self._choose_penalty(labels) if C is None else C
        solve = self._fit_lbfgs if self._protocol.solver == "lbfgs" else self._fit_newton
        scores, weights, intercept, converged = solve(labels, C)
        return ProbeFit(scores[self._distinct_of_row], converged, C, weights, intercept)

    def score_first_steps(self, labels: np.ndarray) -> np.ndarray:
        """[test, columns]: scores after the first Newton step from zero, but for a constant.

        labels: [train, columns], one fit for each column, which all share one factor. It is the
        ridge regression of `selection`; features must be standardised.
        """
        X = self._X_train
        residuals = (labels - labels.mean(axis=0)).astype(np.float32)
        penalty = np.float32(find_penalty(X.shape[1]))
        if len(X) < X.shape[1]:
            weights = X.T @ _solve_ridge(X @ X.T, penalty, residuals)
        else:
            weights = _solve_ridge(X.T @ X, penalty, X.T @ residuals)
        return (self._X_test @ weights)[self._distinct_of_row]

    def _fit_newton(
        self, labels: np.ndarray, C: float
    ) -> tuple[np.ndarray, np.ndarray, float, bool]:
        """Scores, weights, intercept, and whether the fit converged."""
        if self._solver is None:
            X, features = self._X_train, ()
            if not self._protocol.standardise:
                X = X.copy()
                scaler = standardise(X)
                features = (scaler.scale[None], scaler.mean[None])
            self._solver = make_solver(X, find_distinct_rows(X))
            self._features = features
        weights = weigh_examples(labels, self._protocol)
        fits = self._solver.fit(labels[None], weights[None], C, *self._features)
        weights, intercept = fits.weights[0], float(fits.intercepts[0])
        return self._X_test @ weights + intercept, weights, intercept, bool(fits.converged[0])

    def _fit_lbfgs(
        self, labels: np.ndarray, C: float
    ) -> tuple[np.ndarray, np.ndarray, float, bool]:
        from sklearn.linear_model import LogisticRegression

        balanced = self._protocol.class_weight == "balanced"
        regression = LogisticRegression(
            C=C,
            class_weight="balanced" if balanced else None,
            random_state=self._protocol.seed,
        )
        regression.fit(self._X_train, labels)
        scores = regression.decision_function(self._X_test)
        converged = bool((regression.n_iter_ < regression.max_iter).all())
        return scores, regression.coef_[0], float(regression.intercept_[0]), converged

    def _choose_penalty(self, labels: np.ndarray) -> float:
        """The protocol's C; `cv` chooses it within the training set."""
        C = self._protocol.C
        unit = 1 / self._X_train.shape[1]
        if C == "auto":
            return unit
        if C != "cv":
            return float(C)
        X, groups = self._raw_train, self._split_groups
        if len(np.unique(groups)) < INNER_FOLDS:
            return unit
        folds = assign_folds(labels, groups, folds=INNER_FOLDS, seed=self._protocol.seed)
        inner = self._protocol.changed(C="auto")  # `fit` is given each C of the grid
        fitters = [
            (
                folds != fold,
                ProbeFitter(X[folds != fold], X[folds == fold], inner, groups[folds != fold]),
            )
            for fold in range(INNER_FOLDS)
            if len(np.unique(labels[folds != fold])) == 2 == len(np.unique(labels[folds == fold]))
        ]

        def mean_auc(C: float) -> float:
            values = [
                compute_metrics(labels[~train], fitter.fit(labels[train], C).scores)["auc"][0]
                for train, fitter in fitters
            ]
            return float(np.mean(values))

        if not fitters:  # every fold of one label
            return unit
        return max((unit * factor for factor in C_GRID), key=mean_auc)


def _solve_ridge(system: np.ndarray, penalty: np.float32, right: np.ndarray) -> np.ndarray:
    """(system + penalty · I)⁻¹ right; system: positive semidefinite, changed in place."""
    system.flat[:: len(system) + 1] += penalty
    _, solved, failed = sposv(system.T, right, lower=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError(f"leading minor {failed} is not positive")
    return solved


def draw_seed(*key: int) -> int:
    """The seed of one fit. key: the protocol's seed and what identifies the fit."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def weigh_examples(labels: np.ndarray, protocol: Protocol) -> np.ndarray:
    """[train]: the weight of each example in the loss."""
    if protocol.class_weight == "balanced":
        return weigh_classes(labels)[labels]
    return np.ones(len(labels))


def weigh_classes(labels: np.ndarray) -> np.ndarray:
    """[2]: the weights of both labels with which each counts half."""
    return len(labels) / (2 * np.bincount(labels, minlength=2))
