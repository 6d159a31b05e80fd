"""Linear probes that detect wrong answers, fitted on some questions and scored on others.

The probe is L2-regularised logistic regression, the label 1 for a wrong answer. `newton` fits it by
Newton's method in the sample space (Rasmussen & Williams 2006, algorithm 3.1, with an unpenalised
intercept): with up to a few thousand examples this is faster than working on the features, and it
converges in about five steps where a first-order solver stops early on raw hidden states. `lbfgs`
is sklearn's LogisticRegression with its default 100 iterations, to compare with the published one.
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from scipy.linalg.lapack import spotrf, spotrs
from threadpoolctl import threadpool_limits

from llm_figures.errors import UserError
from llm_figures.labels import FEWEST_OF_A_LABEL
from llm_figures.metrics import metrics

# Largest entry of the gradient, in units of one example's residual, at which a fit has converged.
TOLERANCE = 1e-6
# What `C: cv` chooses from, times 1 / hidden size, by AUC in this many folds of the training fold.
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
INNER_FOLDS = 3


@dataclass(frozen=True)
class Split:
    """One division of the questions; train, test: [questions], True for those inside."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


def splits(
    labels: np.ndarray, twins: Sequence[int], held_out: np.ndarray, protocol: Mapping
) -> list[Split]:
    """The divisions of a protocol's `split`.

    twins: [questions], equal for questions that are the same but for spelling. held_out:
    [questions], True for those of the hold-out file.

    folds: twins share a fold, so that no question is trained and tested on, and labels are balanced
    over the folds. single: a random fifth is tested, without regard to labels or twins, as
    published. hold_out: the held-out questions are tested.
    """
    seed = protocol["seed"]
    match protocol["split"]:
        case "hold_out":
            return [Split(0, 0, ~held_out, held_out)]
        case "single":
            from sklearn.model_selection import train_test_split

            _, tested = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed)
            test = np.isin(np.arange(len(labels)), tested)
            return [Split(0, 0, ~test, test)]
    found = []
    for repeat in range(protocol["repeats"]):
        folds = assign_folds(labels, twins, folds=protocol["folds"], seed=seed + repeat)
        found += [Split(repeat, fold, folds != fold, folds == fold) for fold in np.unique(folds)]
    return found


def assign_folds(labels: np.ndarray, twins: Sequence[int], *, folds: int, seed: int) -> np.ndarray:
    """[examples]: the fold in which each example is tested; twins share one."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    assigned = np.empty(len(labels), dtype=np.int64)
    for fold, (_, test) in enumerate(splitter.split(labels, labels, twins)):
        assigned[test] = fold
    return assigned


@dataclass(frozen=True)
class DualFit:
    """What a logistic regression has learned, in dual form.

    dual: [train], the regression's weights are C · Zᵀ dual for training rows Z.
    """

    dual: np.ndarray
    intercept: float
    converged: bool


class DualSolver:
    """Minimises ½‖w‖² + C Σ weight · log-loss over weights w and an unpenalised intercept.

    Made once for a kernel and used for several labels of the same rows, such as a control's, which
    then share what does not depend on the labels.
    """

    def __init__(self, kernel: np.ndarray):
        """kernel: [train, train], C · Z Zᵀ for training rows Z."""
        self._single = np.asarray(kernel, dtype=np.float32)
        self._kernel = self._single.astype(np.float64)
        self._first: tuple[np.ndarray, _Factor] | None = None

    def fit(
        self, labels: np.ndarray, weights: np.ndarray | None = None, max_steps: int = 200
    ) -> DualFit:
        """labels: [train], 0 or 1, both present. weights: [train], of each example; by default 1.

        At the optimum the dual equals weight · (label − probability), and sums to zero.
        """
        kernel, count = self._kernel, len(labels)
        weights = np.ones(count) if weights is None else weights
        dual = np.zeros(count)
        rate = np.average(labels, weights=weights)
        intercept = float(np.log(rate / (1 - rate)))
        image = np.zeros(count)  # kernel @ dual

        def loss(dual, image, intercept):
            scores = image + intercept
            return dual @ image / 2 + weights @ (np.logaddexp(0, scores) - labels * scores)

        current, left, factor = loss(dual, image, intercept), np.inf, None
        for _ in range(max_steps):
            probability = 1 / (1 + np.exp(-(image + intercept)))
            residual = weights * (labels - probability)
            before, left = left, max(np.abs(dual - residual).max(), abs(residual.sum()))
            if left <= TOLERANCE:
                return DualFit(dual, intercept, True)
            # A factor costs as much as ten solves: keep it while each step with it gains a digit or
            # so. It only steers the step, so single precision does; the gradient above is exact.
            if factor is None or left > before / 4:
                factor = self._factor(weights * probability * (1 - probability), not dual.any())
                if factor is None:
                    break
            # Solving for the step, not for the new point, keeps the factor's rounding in proportion
            # to what is left to do.
            free = factor.solve(kernel, residual - dual)
            step_intercept = (free.sum() + dual.sum()) / factor.shift.sum()
            step = free - factor.shift * step_intercept
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
        return DualFit(dual, intercept, False)

    def _factor(self, curvature: np.ndarray, first: bool) -> "_Factor | None":
        """The factor at a point; that of the start is the same for labels of the same rate."""
        curvature = np.maximum(curvature, 1e-12)
        if first and self._first is not None and np.array_equal(self._first[0], curvature):
            return self._first[1]
        factor = _Factor.of(self._single, self._kernel, curvature)
        if first and factor is not None:
            self._first = (curvature, factor)
        return factor


@dataclass(frozen=True)
class _Factor:
    """Cholesky factor of I + W^½ K W^½ in single precision, for a diagonal W of curvatures.

    root: the diagonal of W^½. shift: (K + W⁻¹)⁻¹ 1.
    """

    cholesky: np.ndarray
    root: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, single: np.ndarray, kernel: np.ndarray, curvature: np.ndarray) -> "_Factor | None":
        root = np.sqrt(curvature)
        narrow = root.astype(np.float32)
        system = narrow[:, None] * single * narrow
        system.flat[:: len(root) + 1] += 1
        cholesky, failed = spotrf(system.T, lower=0, clean=0, overwrite_a=1)
        if failed:
            return None
        factor = cls(cholesky, root, root)
        return cls(cholesky, root, factor.solve(kernel, curvature))

    def solve(self, kernel: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(K + W⁻¹)⁻¹ W⁻¹ right."""
        inner = spotrs(self.cholesky, self.root * (kernel @ right), lower=0)[0]
        return right - self.root * inner


def standardised(states: np.ndarray, train: np.ndarray) -> np.ndarray:
    """`states` [examples, hidden] with the training rows' mean 0 and deviation 1, in float32.

    A feature that does not vary in training beyond float32's precision carries nothing and is 0:
    dividing by its rounding error would make a signal of noise.
    """
    taught = states[train].astype(np.float64)
    mean, deviation = taught.mean(axis=0), taught.std(axis=0)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    # The mean goes first, in double precision where it is large beside the deviation.
    rows = states - mean
    rows *= scale
    return rows.astype(np.float32)


@dataclass(frozen=True)
class Fitted:
    """scores: [test], the logit of a wrong answer. C: the penalty that was used."""

    scores: np.ndarray
    converged: bool
    C: float


class Learner:
    """One cell's training and test examples, ready to be fitted to several labels.

    states: [examples, features]; train, test: [examples]; twins: [examples], for `C: cv`.
    """

    def __init__(
        self,
        states: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        protocol: Mapping,
        twins: np.ndarray,
    ):
        self._protocol, self._train, self._twins = protocol, train, twins
        self._states = states
        rows = (
            standardised(states, train)
            if protocol["standardise"]
            else states.astype(np.float32, copy=False)
        )
        self._train_rows = rows[train]
        # Identical inputs must score exactly equal: matrix products differ in the last bits from
        # row to row, and a ranking metric would rank that noise. So each distinct row is scored
        # once.
        _, first, self._same = np.unique(
            _rows_as_bytes(states[test]), return_index=True, return_inverse=True
        )
        self._test_rows = rows[test][first]
        self._solvers: dict[float, DualSolver] = {}
        if protocol["solver"] == "newton":
            self._kernel = self._train_rows @ self._train_rows.T
            self._to_train = self._test_rows @ self._train_rows.T

    def fit(self, labels: np.ndarray, C: float | None = None) -> Fitted:
        """labels: [train], 0 or 1, both present. C: by default the protocol's."""
        C = self._penalty(labels) if C is None else C
        weights = None
        if self._protocol["class_weight"] == "balanced":
            weights = (len(labels) / (2 * np.bincount(labels)))[labels]
        if self._protocol["solver"] == "lbfgs":
            scores, converged = self._lbfgs(labels, C)
        else:
            scores, converged = self._newton(labels, weights, C)
        return Fitted(scores[self._same], converged, C)

    def _newton(self, labels, weights, C):
        if C not in self._solvers:
            self._solvers[C] = DualSolver(self._kernel * np.float32(C))
        fit = self._solvers[C].fit(labels, weights)
        return C * (self._to_train @ fit.dual) + fit.intercept, fit.converged

    def _lbfgs(self, labels, C):
        from sklearn.linear_model import LogisticRegression

        balanced = self._protocol["class_weight"] == "balanced"
        regression = LogisticRegression(
            C=C,
            class_weight="balanced" if balanced else None,
            random_state=self._protocol["seed"],
        )
        regression.fit(self._train_rows, labels)
        scores = regression.decision_function(self._test_rows)
        return scores, bool((regression.n_iter_ < regression.max_iter).all())

    def _penalty(self, labels: np.ndarray) -> float:
        """The protocol's C; `cv` looks at the training examples alone."""
        C = self._protocol["C"]
        unit = 1 / self._states.shape[1]
        if C == "auto":
            return unit
        if C != "cv":
            return float(C)
        states, twins = self._states[self._train], self._twins[self._train]
        folds = assign_folds(labels, twins, folds=INNER_FOLDS, seed=self._protocol["seed"])
        learners = [
            (folds != fold, Learner(states, folds != fold, folds == fold, self._protocol, twins))
            for fold in range(INNER_FOLDS)
            if len(np.unique(labels[folds != fold])) == 2 == len(np.unique(labels[folds == fold]))
        ]

        def score(choice: float) -> float:
            values = [
                metrics(labels[~train], learner.fit(labels[train], choice).scores)["auc"][0]
                for train, learner in learners
            ]
            return float(np.mean(values)) if values else 0.0

        return max((unit * choice for choice in C_GRID), key=score)


@dataclass(frozen=True)
class Cell:
    """The examples of one named token: what is the same in every layer.

    questions, labels, groups, twins: [examples]; questions are ids in ascending order, labels 1 for
    a wrong answer, groups numbers.
    splits: with masks [examples].
    """

    token: str
    questions: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    twins: np.ndarray
    splits: list[Split]

    @property
    def enough(self) -> bool:
        """Whether there are answers enough of either label for a score."""
        return bool(np.bincount(self.labels, minlength=2).min() >= FEWEST_OF_A_LABEL)


def probe_cell(
    states: np.ndarray, cell: Cell, layer: int, protocol: Mapping
) -> Iterator[pd.DataFrame]:
    """Fit the probe and its controls in one cell, one frame per split and control.

    states: [examples, features].

    Columns: question_id, score (logit of a wrong answer), layer, token, control ("none" for the
    probe itself), repeat, fold, n_train, converged, C. Of "shuffled_labels" the training labels are
    permuted, of "shuffled_within_group" each group's among themselves. Splits without both labels
    on both sides are left out, all of them where there are fewer than `FEWEST_OF_A_LABEL` answers
    of either label.
    """
    for split in cell.splits if cell.enough else []:
        train, test = split.train, split.test
        if any(len(np.unique(cell.labels[side])) < 2 for side in (train, test)):
            continue
        learner = Learner(states, train, test, protocol, cell.twins)
        for control in ("none", *protocol["controls"]):
            # The shuffle is a cell's own, whatever job or thread it is fitted in.
            place = [layer, split.repeat, split.fold, zlib.crc32(f"{cell.token}{control}".encode())]
            random = np.random.default_rng([protocol["seed"], *place])
            taught = cell.labels[train]
            if control == "shuffled_labels":
                taught = random.permutation(taught)
            elif control == "shuffled_within_group":
                taught = _shuffled_within(taught, cell.groups[train], random)
            fitted = learner.fit(taught)
            yield pd.DataFrame(
                {
                    "question_id": cell.questions[test],
                    "score": fitted.scores.astype(np.float32),
                    "layer": np.int16(layer),
                    "token": cell.token,
                    "control": control,
                    "repeat": np.int16(split.repeat),
                    "fold": np.int16(split.fold),
                    "n_train": np.int32(train.sum()),
                    "converged": fitted.converged,
                    "C": np.float32(fitted.C),
                }
            )


def probe_layers(
    layers: Iterable[tuple[int, np.ndarray]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    protocol: Mapping,
    jobs: int,
) -> Iterator[list[pd.DataFrame]]:
    """`probe_cell` for every named token of every layer, in their order, one list per cell.

    layers: (layer, states [rows, features]), taken as they are needed, so that about one layer is
    held at a time. rows: for each cell, which rows of states are its examples. jobs: processes
    that fit side by side, each on one core: threads would wait for one another between the small
    steps of a fit.

    Raises:
        UserError: states that are not finite numbers.
    """

    def tasks():
        for layer, states in layers:
            _check_finite(layer, states)
            for cell, at in zip(cells, rows, strict=True):
                yield delayed(_probe_cell)(states[at], cell, layer, protocol)

    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(jobs, return_as="generator", batch_size=1, max_nbytes=None)(tasks())


def _probe_cell(states, cell, layer, protocol) -> list[pd.DataFrame]:
    with warnings.catch_warnings(action="ignore"):  # what has not converged is counted instead
        return list(probe_cell(states, cell, layer, protocol))


def _check_finite(layer: int, states: np.ndarray) -> None:
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        raise UserError(
            f"hidden states of layer {layer} hold values that are not finite, the first in row "
            f"{int(np.argmin(finite)) + 1} of the rows sorted by question and token; extract them "
            "again with dtype: float32"
        )


def make_cells(
    keys: pd.DataFrame, answers: pd.DataFrame, tokens: Sequence[str], protocol: Mapping
) -> tuple[list[Cell], list[np.ndarray]]:
    """The cells of every layer, one per named token, and which rows of `keys` each rests on.

    keys: question_id and token of every row of states. answers: the rows of forward/answers.parquet
    with a valid exact answer.
    """
    answers = answers.sort_values("question_id", ignore_index=True)
    labels = 1 - answers["correct"].to_numpy(int)  # a wrong answer is what the probe detects
    twins = answers["twin"].to_numpy()
    groups = pd.factorize(answers["group"].fillna(""))[0]
    divisions = splits(labels, twins, answers["hold_out"].to_numpy(bool), protocol)
    at = pd.Series(np.arange(len(answers)), index=answers["question_id"])
    wanted = keys[keys["token"].isin(tokens)]
    if protocol["short_answers"] == "complete":
        has = wanted.groupby("question_id")["token"].nunique()
        wanted = wanted[wanted["question_id"].map(has) == len(tokens)]
    cells, rows = [], []
    for token in tokens:
        cell = wanted[wanted["token"] == token].sort_values("question_id")
        inside = at[cell["question_id"]].to_numpy()
        cells.append(
            Cell(
                token=token,
                questions=cell["question_id"].to_numpy(np.int32),
                labels=labels[inside],
                groups=groups[inside],
                twins=twins[inside],
                splits=[
                    replace(split, train=split.train[inside], test=split.test[inside])
                    for split in divisions
                ],
            )
        )
        rows.append(cell.index.to_numpy())
    return cells, rows


def _shuffled_within(
    labels: np.ndarray, groups: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    shuffled = labels.copy()
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        shuffled[inside] = random.permutation(labels[inside])
    return shuffled


def _rows_as_bytes(states: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(states)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
