"""The probe's grid, every layer and named token: ours, and sklearn's regression."""

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from made import SEED, results, valid_answers
from measuring import measured
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from llm_figures.core.parquet_tensors import read_columns, read_frames
from llm_figures.probe.cells import Cell, make_cells
from llm_figures.probe.fitting import list_tasks, probe_layers
from llm_figures.probe.protocol import PRESETS, TOKENS, Protocol
from llm_figures.probe.schema import read_layer_columns

# Of the mean gradient, as ours.
TOLERANCE, NEWTON = 1e-8, "newton-cholesky"
# Made-up states: directions that matter, how fast they fade, and features of unlike size.
DIRECTIONS, NOISE = 400, 0.1


@dataclass(frozen=True)
class Grid:
    """layers: (layer, file of its states [rows, features]). rows: of each cell's examples."""

    layers: list[tuple[int, Path]]
    cells: list[Cell]
    rows: list[np.ndarray]
    C: float

    def few(self) -> "Grid":
        """A task or so for every process."""
        return Grid(self.layers[:2], self.cells[:4], self.rows[:4], self.C)


def default(task: dict) -> None:
    _sklearn(task, _fit_default)


def converged(task: dict) -> None:
    """To the accuracy of ours, in double precision."""
    _sklearn(task, partial(_fit_standardised, tolerance=TOLERANCE, dtype=np.float64))


def loosely(task: dict) -> None:
    """To sklearn's default tolerance, which single precision reaches."""
    _sklearn(task, partial(_fit_standardised, tolerance=1e-4, dtype=np.float32))


def newton(task: dict) -> None:
    fit = partial(_fit_standardised, solver=NEWTON, tolerance=TOLERANCE, dtype=np.float64)
    _sklearn(task, fit)


def newton_loosely(task: dict) -> None:
    fit = partial(_fit_standardised, solver=NEWTON, tolerance=1e-4, dtype=np.float32)
    _sklearn(task, fit)


def ours(task: dict) -> None:
    grid = _grid(task)
    protocol = _protocol(task).changed(C=grid.C)

    def work(grid: Grid) -> list[pd.DataFrame]:
        states = [(layer, partial(_states, path)) for layer, path in grid.layers]
        cores = task["cores"]
        return list(probe_layers(states, grid.rows, grid.cells, protocol, cores, select=False))

    frames = measured(task, work, grid, grid.few(), len(grid.layers) * len(grid.cells))
    scores = {
        (layer, token): [
            (fit["score"].to_numpy(), bool(fit["converged"].iloc[0]))
            for _, fit in cell.groupby(["fold", "control"], sort=False)
        ]
        for (layer, _), frame in zip(grid.layers, frames, strict=True)
        for token, cell in frame.groupby("token")
    }
    _write_auc(task, grid, scores)


def _sklearn(task: dict, fit) -> None:
    """Each cell by `fit`, with one BLAS thread per process, which suits its solvers best."""
    grid = _grid(task)
    protocol = _protocol(task)

    def work(grid: Grid):
        places = [
            (layer, path, cell, at)
            for layer, path in grid.layers
            for cell, at in zip(grid.cells, grid.rows, strict=True)
        ]
        with threadpool_limits(1):
            fits = Parallel(task["processes"] or task["cores"])(
                delayed(_fit_cell)(fit, *place, protocol, grid.C) for place in places
            )
        return {
            (place[0], place[2].token): found for place, found in zip(places, fits, strict=True)
        }

    scores = measured(task, work, grid, grid.few(), len(grid.layers) * len(grid.cells))
    _write_auc(task, grid, scores)


def _fit_cell(
    fit, layer: int, path: Path, cell: Cell, at: np.ndarray, protocol: Protocol, C: float
) -> list[tuple[np.ndarray, bool]]:
    """Of each fit of a cell, the scores of the test answers, and whether it converged."""
    states, found, last, prepared = _states(path)[at], [], None, None
    for task in list_tasks(cell, layer, protocol):
        if task.split is not last:
            last, prepared = task.split, None
            X_train, X_test = states[task.split.train], states[task.split.test]
        with warnings.catch_warnings(action="ignore"):  # what has not converged is counted
            scores, converged, prepared = fit(X_train, X_test, task.labels, C, prepared)
        found.append((scores, converged))
    return found


def _fit_default(X_train, X_test, labels, C, prepared) -> tuple[np.ndarray, bool, None]:
    regression = LogisticRegression().fit(X_train, labels)
    return regression.decision_function(X_test), _has_converged(regression), None


def _fit_standardised(
    X_train, X_test, labels, C, prepared, *, tolerance, dtype, solver="lbfgs"
) -> tuple[np.ndarray, bool, tuple]:
    """prepared: what this returned for other labels of the same split, or None."""
    if prepared is None:
        X_train, X_test = X_train.astype(dtype), X_test.astype(dtype)
        scaler = StandardScaler().fit(X_train)
        prepared = scaler.transform(X_train), scaler.transform(X_test)
    regression = LogisticRegression(C=C, tol=tolerance, max_iter=10_000, solver=solver)
    regression.fit(prepared[0], labels)
    return regression.decision_function(prepared[1]), _has_converged(regression), prepared


def _has_converged(regression: LogisticRegression) -> bool:
    return bool((regression.n_iter_ < regression.max_iter).all())


def _states(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _protocol(task: dict) -> Protocol:
    """The pipeline's default, with folds and both label controls."""
    return PRESETS["strict"].changed(seed=SEED)


def _grid(task: dict) -> Grid:
    made_up = task["features"] is not None
    keys, layers, answers = make_states(task) if made_up else _of_the_run(task)
    cells, rows = make_cells(keys, answers, TOKENS["strict"], _protocol(task))
    kept = [index for index, cell in enumerate(cells) if cell.enough_answers]
    features = _states(layers[0][1]).shape[1]
    penalty = 1 / features if task["C"] == "auto" else task["C"]
    return Grid(layers, [cells[i] for i in kept], [rows[i] for i in kept], penalty)


def _of_the_run(task: dict):
    """The states that the run extracted, as one file a layer, which every method maps alike."""
    files = sorted(results(task, "forward", "hidden_states", "residual").glob("*.parquet"))
    answers = valid_answers(task, task["questions"])
    keys = read_frames(files, ["question_id", "token"])
    kept = np.flatnonzero(keys["question_id"].isin(answers["question_id"]))
    layers = []
    columns = list(enumerate(read_layer_columns(files[0])))[:: task["every"]]
    for layer, column in columns[: task["layers"]]:
        path = Path(task["folder"], f"{column}.npy")
        np.save(path, read_columns(files, column)[kept])
        layers.append((layer, path))
    return keys.iloc[kept].reset_index(drop=True), layers, answers


def make_states(task: dict):
    """States of a larger model: a spectrum that fades, features of unlike size and offset, and
    labels that a direction among the first tells, with noise.
    """
    count, features = task["questions"], task["features"]
    random = np.random.default_rng(SEED)
    tokens = TOKENS["strict"]
    fading = np.arange(1, DIRECTIONS + 1) ** -0.5
    meaning = random.standard_normal((count, DIRECTIONS), dtype=np.float32)
    told = (meaning * fading) @ random.standard_normal(DIRECTIONS)
    wrong = told + 1.5 * random.standard_normal(count) > 0
    answers = pd.DataFrame(
        {
            "question_id": np.arange(count),
            "correct": ~wrong,
            "hold_out": False,
            "split_group": np.arange(count),
            "group": "",
        }
    )
    keys = pd.DataFrame(
        {"question_id": np.tile(np.arange(count), len(tokens)), "token": np.repeat(tokens, count)}
    )
    layers = []
    for number in range(task["layers"]):
        states = np.empty((len(keys), features), np.float32)
        for start in range(0, len(keys), count):
            mixing = random.standard_normal((DIRECTIONS, features), dtype=np.float32)
            own = (meaning * fading.astype(np.float32)) @ mixing
            own += NOISE * random.standard_normal(own.shape, dtype=np.float32)
            own *= random.lognormal(0, 1, features).astype(np.float32)
            own += 10 * random.standard_normal(features).astype(np.float32)
            states[start : start + count] = own
        layers.append((number, Path(task["folder"], f"layer_{number}.npy")))
        np.save(layers[-1][1], states)
    return keys, layers, answers


def _write_auc(task: dict, grid: Grid, scores: dict) -> None:
    """AUC of every fit, answers with the same states scored equal, as ours are."""
    rows = []
    for layer, path in grid.layers:
        for cell, at in zip(grid.cells, grid.rows, strict=True):
            states = _states(path)[at]
            same = pd.factorize(np.array([row.tobytes() for row in states], dtype=object))[0]
            tasks = list_tasks(cell, layer, _protocol(task))
            for own, (found, converged) in zip(tasks, scores[layer, cell.token], strict=True):
                test = own.split.test
                equal = pd.Series(found).groupby(same[test]).transform("first")
                rows.append(
                    {
                        "layer": layer,
                        "token": cell.token,
                        "control": own.control,
                        "fold": own.split.fold,
                        "auc": roc_auc_score(cell.labels[test], equal),
                        "converged": converged,
                    }
                )
    pd.DataFrame(rows).to_parquet(Path(task["folder"], "auc.parquet"), index=False)
