"""Compare the probe's solver (probe/newton.py) with scikit-learn's: CPU time and AUC.

    .venv/bin/python benchmarks/solvers.py                       hidden states of the default run
    .venv/bin/python benchmarks/solvers.py --features 4096       made-up states of a 7B model
    .venv/bin/python benchmarks/solvers.py --penalty 1           scikit-learn's default penalty

Every method fits the pipeline's own grid, with folds and both label controls: only the class
`NewtonSolver` is replaced. Methods take turns, with one BLAS thread, in one process and in two.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from probing_methods import make_states
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from llm_figures.core.parquet_tensors import read_columns, read_frames
from llm_figures.probe import fitting
from llm_figures.probe.cells import Cell, make_cells
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.newton import Fit, NewtonSolver
from llm_figures.probe.protocol import PRESETS, TOKENS, Protocol
from llm_figures.probe.schema import read_layer_columns

RUN = Path(__file__).parents[1] / "results" / "smollm2-135m"
OURS = "newton.py"


class SklearnSolver:
    """scikit-learn's regression in place of `NewtonSolver`, on features that are standardised."""

    def __init__(self, solver: str, dtype: type, tolerance: float):
        self._solver, self._dtype, self._tolerance = solver, dtype, tolerance

    def of(self, X: np.ndarray, C: float) -> SimpleNamespace:
        X = X.astype(self._dtype)

        def fit(labels: np.ndarray, weights: np.ndarray | None) -> Fit:
            regression = LogisticRegression(
                C=C, solver=self._solver, tol=self._tolerance, max_iter=10_000
            )
            with warnings.catch_warnings(record=True) as messages:
                warnings.simplefilter("always")
                regression.fit(X, labels, weights)
            return Fit(regression.coef_[0], regression.intercept_[0], not messages)

        return SimpleNamespace(fit=fit)


# The gradient that a tolerance bounds is that of the mean loss; 1e-8 is as accurate as ours.
SOLVERS = {
    OURS: NewtonSolver,
    "newton-cholesky, double, 1e-8": SklearnSolver("newton-cholesky", np.float64, 1e-8),
    "newton-cholesky, single, 1e-4": SklearnSolver("newton-cholesky", np.float32, 1e-4),
    "lbfgs, double, 1e-8": SklearnSolver("lbfgs", np.float64, 1e-8),
    "lbfgs, double, 1e-6": SklearnSolver("lbfgs", np.float64, 1e-6),
    "lbfgs, single, 1e-6": SklearnSolver("lbfgs", np.float32, 1e-6),
    "lbfgs, single, 1e-4": SklearnSolver("lbfgs", np.float32, 1e-4),
}


def main() -> None:
    options = parse_arguments()
    protocol = PRESETS["strict"].changed(C=options.penalty or "auto")
    with tempfile.TemporaryDirectory() as folder:
        keys, layers, answers = load_states(options, Path(folder))
        cells, rows = make_cells(keys, answers, TOKENS["strict"], protocol)
        tasks = [
            (layer, path, cell, of_cell)
            for layer, path in layers
            for cell, of_cell in zip(cells, rows, strict=True)
            if cell.enough_answers
        ]
        print(f"{len(tasks)} cells of {len(answers)} answers, load {os.getloadavg()}", flush=True)
        seconds, frames = measure(tasks, protocol, options.repeats)
    print(f"load {os.getloadavg()}")
    print(summarise(seconds, frames, cells).to_string(index=False))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RUN, help="folder of the model's results")
    parser.add_argument("--features", type=int, help="made-up states of so many features instead")
    parser.add_argument("--layers", type=int, default=2, help="layers, spread over the depth")
    parser.add_argument("--penalty", type=float, help="C; by default 1 / features")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def load_states(options: argparse.Namespace, folder: Path):
    """Keys, (layer, file of its states [rows, features]), and answers with a valid exact answer."""
    if options.features:
        sizes = {"questions": 900, "features": options.features, "layers": options.layers}
        return make_states({"folder": folder, **sizes})
    files = sorted(Path(options.results, "forward/hidden_states/residual").glob("*.parquet"))
    answers = pd.read_parquet(options.results / "forward" / "answers.parquet")
    columns = read_layer_columns(files[0])
    layers = []
    for layer in np.linspace(len(columns) // 3, len(columns) - 1, options.layers, dtype=int):
        layers.append((int(layer), folder / f"{columns[layer]}.npy"))
        np.save(layers[-1][1], read_columns(files, columns[layer]))
    return read_frames(files, ["question_id", "token"]), layers, answers[answers["valid"]]


def measure(tasks: Sequence, protocol: Protocol, repeats: int):
    """{(method, processes): CPU seconds of every repeat}, and {method: predictions}.

    Seconds are those of the fitting processes' cores, from which other programs take little.
    """
    seconds: dict[tuple[str, int], list[float]] = {}
    frames = {}
    for processes in (1, 2):
        with threadpool_limits(1), Parallel(processes) as parallel:
            parallel(delayed(fit_cell)(OURS, *task, protocol) for task in tasks[:4])
            for _ in range(repeats):
                for method in SOLVERS:
                    fits = parallel(delayed(fit_cell)(method, *task, protocol) for task in tasks)
                    seconds.setdefault((method, processes), []).append(sum(t for _, t in fits))
                    frames[method] = pd.concat([frame for frame, _ in fits])
    return seconds, frames


def fit_cell(
    method: str, layer: int, path: Path, cell: Cell, rows: np.ndarray, protocol: Protocol
) -> tuple[pd.DataFrame, float]:
    """`probe_cell` with the method's solver, and its CPU seconds."""
    states = np.load(path, mmap_mode="r")[rows]
    with patch.object(fitting, "NewtonSolver", SOLVERS[method]), threadpool_limits(1):
        start = time.process_time()
        return fitting.probe_cell(states, cell, layer, protocol), time.process_time() - start


def summarise(seconds: dict, frames: dict, cells: Sequence[Cell]) -> pd.DataFrame:
    """A row per method: medians over repeats as ratios to ours, and differences of cells' AUC."""
    medians = {key: float(np.median(values)) for key, values in seconds.items()}
    scores = {method: compute_cell_auc(frame, cells) for method, frame in frames.items()}
    rows = []
    for method, frame in frames.items():
        apart = (scores[method] - scores[OURS]).abs()
        of_probe = apart.xs("none", level="control")
        rows.append(
            {
                "solver": method,
                "CPU seconds": round(medians[method, 1], 2),
                "× ours": round(medians[method, 1] / medians[OURS, 1], 2),
                "× ours, 2 processes": round(medians[method, 2] / medians[OURS, 2], 2),
                "AUC apart": f"{of_probe.max():.5f}",
                "mean": f"{of_probe.mean():.6f}",
                "of controls": f"{apart.max():.5f}",
                "unconverged": count_unconverged(frame),
            }
        )
    return pd.DataFrame(rows)


def count_unconverged(frame: pd.DataFrame) -> int:
    fits = frame.drop_duplicates(["layer", "token", "control", "repeat", "fold"])
    return int((~fits["converged"].astype(bool)).sum())


def compute_cell_auc(frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.Series:
    """Mean over folds, by layer, token and control."""
    cell_of_token = {cell.token: cell for cell in cells}
    rows = {}
    for key, fold in frame.groupby(["layer", "token", "control", "fold"]):
        cell = cell_of_token[key[1]]
        examples = np.searchsorted(cell.questions, fold["question_id"].to_numpy())
        rows[key] = compute_metrics(cell.labels[examples], fold["score"].to_numpy())["auc"][0]
    auc = pd.Series(rows)
    auc.index.names = ["layer", "token", "control", "fold"]
    return auc.groupby(["layer", "token", "control"]).mean()


if __name__ == "__main__":
    main()
