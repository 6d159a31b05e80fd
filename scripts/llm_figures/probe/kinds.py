"""Probes besides logistic regression: difference of means, LDA, and a small multilayer perceptron.

Label 1 is a wrong answer. Every probe gives an answer a score that is above 0 where it calls the
answer wrong.
"""

import warnings
from typing import NamedTuple

import numpy as np

from llm_figures.core.errors import UserError
from llm_figures.probe.protocol import BATCH, EPOCHS, HIDDEN_UNITS, STEPS


class KindFit(NamedTuple):
    """A fitted probe.

    layers: (weights, biases) of each layer, float64: a linear probe has one, with weights
    [features, 1] and biases [1]; between two layers negative values become 0.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def weights(self) -> np.ndarray | None:
        """[features]; None for a probe that is not linear."""
        return self.layers[0][0][:, 0] if len(self.layers) == 1 else None

    @property
    def intercept(self) -> float | None:
        """None for a probe that is not linear."""
        return float(self.layers[0][1][0]) if len(self.layers) == 1 else None

    def score(self, X: np.ndarray) -> np.ndarray:
        """X: [examples, features]. Returns [examples], float64."""
        (weights, biases), *others = self.layers
        values = X @ weights + biases
        for weights, biases in others:
            values = np.maximum(values, 0) @ weights + biases
        return values[:, 0]


def fit_kind(kind: str, X: np.ndarray, labels: np.ndarray, seed: int) -> KindFit:
    """Fit a probe of `protocol.Kind` other than logistic.

    X: [examples, features], float32, standardised or raw as the protocol says. labels: [examples],
    0 or 1, both present. seed: of the perceptron's initial weights and batches; the others have no
    randomness.

    Raises:
        UserError: a perceptron whose training diverges.
    """
    match kind:
        case "mean_difference":
            return _fit_mean_difference(X, labels)
        case "lda":
            return _fit_lda(X, labels)
        case "mlp":
            return _fit_perceptron(X, labels, seed)
    raise ValueError(kind)


def _linear(weights: np.ndarray, intercept: float) -> KindFit:
    return KindFit(((weights.astype(np.float64)[:, None], np.array([float(intercept)])),))


def _fit_mean_difference(X: np.ndarray, labels: np.ndarray) -> KindFit:
    """The mean of wrong answers minus that of right ones (Marks & Tegmark 2023, arXiv 2310.06824).

    The score is the projection onto it, 0 midway between the two means.
    """
    right, wrong = (X[labels == label].mean(axis=0, dtype=np.float64) for label in (0, 1))
    direction = wrong - right
    return _linear(direction, -direction @ (right + wrong) / 2)


def _fit_lda(X: np.ndarray, labels: np.ndarray) -> KindFit:
    """Linear discriminant analysis, the score being the log-odds of its Gaussian model.

    There are often fewer examples than features, so the covariance of either class is shrunk by the
    rule of Ledoit & Wolf (2004). Of scikit-learn's solvers with shrinkage, lsqr solves for the
    direction alone; eigen gives the same and takes longer.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    model.fit(X.astype(np.float64), labels)
    return _linear(model.coef_[0], model.intercept_[0])


def _fit_perceptron(X: np.ndarray, labels: np.ndarray, seed: int) -> KindFit:
    """scikit-learn's multilayer perceptron with ReLU and Adam; the score is its logit."""
    from sklearn.neural_network import MLPClassifier

    batch = min(BATCH, len(X))
    epochs = max(EPOCHS, -(-STEPS // -(-len(X) // batch)))
    model = MLPClassifier(
        (HIDDEN_UNITS,),
        batch_size=batch,
        max_iter=epochs,
        n_iter_no_change=epochs,  # never stopped by its loss
        random_state=seed,
    )
    try:
        with warnings.catch_warnings(action="ignore"):  # that it has not converged
            model.fit(X.astype(np.float32, copy=False), labels)
    except ValueError as error:
        if "non-finite" not in str(error):
            raise
        raise UserError(
            "config: probe.kind: mlp: its training diverges on these features; set "
            "probe.standardise: true"
        ) from None
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return KindFit(tuple((W.astype(np.float64), b.astype(np.float64)) for W, b in pairs))
