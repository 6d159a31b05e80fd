"""Linear probes that detect wrong answers, fitted to convergence and scored on held-out questions.

The probe is L2-regularised logistic regression on features standardised with the training fold's
mean and deviation, the label 1 for a wrong answer. It is fitted by Newton's method in the sample
space (Rasmussen & Williams 2006, algorithm 3.1, with an unpenalised intercept): with up to a few
thousand examples this is faster than working on the features, and it converges in about five steps
where a first-order solver stops early on raw hidden states.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg.lapack import spotrf, spotrs
from scipy.stats import rankdata
from scipy.stats import t as student_t
from threadpoolctl import threadpool_limits

from llm_figures.errors import UserError

# A cell with fewer answers of either label is left empty: five folds would hold four each.
FEWEST_OF_A_LABEL = 20
# Largest entry of the gradient, in units of one example's residual, at which a fit has converged.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Probe:
    """What a logistic regression on standardised features has learned, in dual form.

    dual: [train], the regression's weights are C · Zᵀ dual for standardised training rows Z.
    """

    dual: np.ndarray
    intercept: float
    converged: bool


def fit_dual(kernel: np.ndarray, labels: np.ndarray, max_steps: int = 200) -> Probe:
    """Minimise ½‖w‖² + C Σ log-loss over weights and an unpenalised intercept.

    kernel: [train, train], C · Z Zᵀ for standardised rows Z.
    labels: [train], 0 or 1, both present.

    At the optimum the dual equals the residual, labels − probability, and sums to zero.
    """
    single = np.asarray(kernel, dtype=np.float32)
    kernel = single.astype(np.float64)
    count = len(labels)
    dual = np.zeros(count)
    rate = labels.mean()
    intercept = float(np.log(rate / (1 - rate)))
    image = np.zeros(count)  # kernel @ dual

    def loss(dual, image, intercept):
        scores = image + intercept
        return dual @ image / 2 + np.logaddexp(0, scores).sum() - labels @ scores

    current, left, factor = loss(dual, image, intercept), np.inf, None
    for _ in range(max_steps):
        probability = 1 / (1 + np.exp(-(image + intercept)))
        residual = labels - probability
        before, left = left, max(np.abs(dual - residual).max(), abs(residual.sum()))
        if left <= TOLERANCE:
            return Probe(dual, intercept, True)
        # A factor costs as much as ten solves: keep it while each step with it gains a digit or so.
        # It only steers the step, so single precision does; the gradient above is exact.
        if factor is None or left > before / 4:
            weight = np.maximum(probability * (1 - probability), 1e-12)
            root = np.sqrt(weight)
            narrow = root.astype(np.float32)
            system = narrow[:, None] * single * narrow
            system.flat[:: count + 1] += 1
            factor, failed = spotrf(system.T, lower=0, clean=0, overwrite_a=1)
            if failed:
                break
            shift = _solve(factor, root, kernel, weight)
        # Solving for the step, not for the new point, keeps the factor's rounding in proportion
        # to what is left to do.
        free = _solve(factor, root, kernel, residual - dual)
        step_intercept = (free.sum() + dual.sum()) / shift.sum()
        step = free - shift * step_intercept
        step_image = kernel @ step
        length = 1.0
        while True:
            trial = (
                dual + length * step,
                image + length * step_image,
                intercept + length * step_intercept,
            )
            value = loss(*trial)
            if value <= current + 1e-12 * abs(current) or length < 1e-6:
                break
            length /= 2
        dual, image, intercept = trial
        current = value
    return Probe(dual, intercept, False)


def _solve(factor, root, kernel, right):
    """(K + W⁻¹)⁻¹ W⁻¹ right, from the factor of I + W^½ K W^½; root is the diagonal of W^½."""
    return right - root * spotrs(factor, root * (kernel @ right), lower=0)[0]


def standardised(states: np.ndarray, train: np.ndarray) -> np.ndarray:
    """`states` [examples, hidden] with the training rows' mean 0 and deviation 1, in float32.

    A feature that does not vary in training beyond float32's precision carries nothing and is 0:
    dividing by its rounding error would make a signal of noise.
    """
    states = states.astype(np.float64)
    mean = states[train].mean(axis=0)
    deviation = states[train].std(axis=0)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    return ((states - mean) * scale).astype(np.float32)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counting half (the Mann–Whitney statistic)."""
    positive = labels == 1
    wins = rankdata(scores)[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of examples on the right side of probability one half."""
    return float(((scores > 0) == (labels == 1)).mean())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"auc": auc, "accuracy": accuracy}


def assign_folds(
    labels: np.ndarray, questions: Sequence[str], *, folds: int, repeats: int, seed: int
) -> np.ndarray:
    """[repeats, examples]: the fold in which each example is tested.

    Equal questions share a fold, so that no question is trained and tested on; labels are
    balanced over the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = pd.factorize(pd.Series(questions, dtype=object))[0]
    assigned = np.empty((repeats, len(labels)), dtype=np.int64)
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
        for fold, (_, test) in enumerate(splitter.split(labels, labels, groups)):
            assigned[repeat, test] = fold
    return assigned


def cross_validate(
    states: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    C: float,
    seed: int,
) -> pd.DataFrame:
    """Probe one cell: one layer, one named token.

    states: [examples, hidden]; labels: [examples], 1 for a wrong answer; folds: [repeats,
    examples] as made by `assign_folds`; C: inverse strength of the L2 penalty.

    Returns one row per control × metric: control ("none", or "shuffled_labels" for a probe
    trained on labels permuted within the training fold), metric, mean, ci_low, ci_high (95%),
    n_train, n_test (per fold, on average), folds, unconverged. With fewer than
    `FEWEST_OF_A_LABEL` answers of either label the numbers are NaN.
    """
    counts = np.bincount(labels, minlength=2)
    values: dict[tuple[str, str], list[float]] = {
        (control, metric): [] for control in ("none", "shuffled_labels") for metric in METRICS
    }
    sizes: list[tuple[int, int]] = []
    unconverged = 0
    # Identical inputs must score exactly equal: matrix products differ in the last bits from row
    # to row, and a ranking metric would rank that noise. So each distinct row is scored once.
    _, first, same = np.unique(_rows_as_bytes(states), return_index=True, return_inverse=True)
    random = np.random.default_rng(seed)
    for repeat in folds if counts.min() >= FEWEST_OF_A_LABEL else []:
        for fold in np.unique(repeat):
            train, test = repeat != fold, repeat == fold
            if len(np.unique(labels[train])) < 2 or len(np.unique(labels[test])) < 2:
                continue
            rows = standardised(states, train)
            to_train = C * (rows[first] @ rows[train].T)  # [distinct, train]
            sizes.append((int(train.sum()), int(test.sum())))
            for control in ("none", "shuffled_labels"):
                taught = labels[train]
                if control == "shuffled_labels":
                    taught = random.permutation(taught)
                probe = fit_dual(to_train[same[train]], taught)
                unconverged += not probe.converged
                scores = (to_train @ probe.dual + probe.intercept)[same[test]]
                for metric, measure in METRICS.items():
                    values[control, metric].append(measure(labels[test], scores))
    n_train, n_test = np.mean(sizes, axis=0).round().astype(int) if sizes else (0, len(labels))
    return pd.DataFrame(
        [
            (control, metric, *interval(found, n_train, n_test), n_train, n_test, len(found))
            for (control, metric), found in values.items()
        ],
        columns=["control", "metric", "mean", "ci_low", "ci_high", "n_train", "n_test", "folds"],
    ).assign(unconverged=unconverged)


def interval(values: Sequence[float], n_train: int, n_test: int) -> tuple[float, float, float]:
    """Mean over folds with a 95% interval (mean, low, high), clipped to [0, 1].

    Folds share training examples, so their scores vary less than independent ones would; the
    variance is corrected for it (Nadeau & Bengio 2003, eq. 9).
    """
    if len(values) < 2:
        return (float("nan"),) * 3
    mean, variance = float(np.mean(values)), float(np.var(values, ddof=1))
    deviation = np.sqrt(variance * (1 / len(values) + n_test / n_train))
    half = float(student_t.ppf(0.975, len(values) - 1) * deviation)
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def probe_layer(
    states: np.ndarray,
    cells: pd.DataFrame,
    tokens: Sequence[str],
    *,
    C: float,
    seed: int,
    threads: int,
) -> pd.DataFrame:
    """Probe every named token of one layer.

    states: [rows, hidden]; cells: one row each, with columns token, label and fold_0, fold_1, …
    (one per repeat).
    Returns the rows of `cross_validate` with a column `token`.
    """
    fold_columns = [column for column in cells if column.startswith("fold_")]

    def probe(token: str) -> pd.DataFrame:
        chosen = (cells["token"] == token).to_numpy()
        cell = cells[chosen]
        return cross_validate(
            states[chosen],
            cell["label"].to_numpy(),
            cell[fold_columns].to_numpy().T,
            C=C,
            seed=seed,
        ).assign(token=token)

    # One thread a cell beats several threads in one small factorisation.
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        return pd.concat(pool.map(probe, tokens), ignore_index=True)


def check_labels(correct: np.ndarray, examples: Sequence[str]) -> None:
    """Enough answers of either label to probe.

    Raises:
        UserError: fewer than `FEWEST_OF_A_LABEL` right or wrong answers.
    """
    right, wrong = int(correct.sum()), int((~correct).sum())
    if min(right, wrong) < FEWEST_OF_A_LABEL:
        shown = "; ".join(repr(example) for example in examples[:3])
        raise UserError(
            f"dataset: {right} right and {wrong} wrong answers with a valid exact answer; the "
            f"probe needs at least {FEWEST_OF_A_LABEL} of each. First answers: {shown}. Add "
            "questions, or change the prompt"
        )


def _rows_as_bytes(states: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(states)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
