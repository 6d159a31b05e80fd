"""The probes' grid of some layers and all named tokens: ours, and sklearn's regression."""

import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from measuring import CORES, SEED, measured, state_files, valid_answers
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from llm_figures.hidden_states_file import layer_columns
from llm_figures.labels import FEWEST_OF_A_LABEL
from llm_figures.metrics import metrics
from llm_figures.probes import Cell, make_cells, probe_layers
from llm_figures.protocol import TOKENS, protocol
from llm_figures.tensors import read_frame, read_table, read_tensors

# How sklearn's fits are run: (processes, BLAS threads in each).
RUNS = {"1 thread": (1, 1), "all threads": (1, CORES), "joblib": (CORES, 1)}


def probes(task: dict) -> None:
    answers = valid_answers(task, task["questions"])
    if min(answers["correct"].sum(), (~answers["correct"]).sum()) < FEWEST_OF_A_LABEL:
        sys.exit(
            f"{len(answers)} questions have fewer than {FEWEST_OF_A_LABEL} right or wrong answers; "
            "raise --questions"
        )
    strict = protocol({"preset": "strict", "seed": SEED}, hold_out=False) | {"controls": []}
    keys, layers = read_states(task, answers["question_id"])
    cells, rows = make_cells(keys, answers, TOKENS["strict"], strict)

    def ours(grid):
        layers, cells, rows = grid
        return [
            frame for cell in probe_layers(layers, rows, cells, strict, CORES) for frame in cell
        ]

    method, _, run = task["method"].partition(" (")
    work = ours if method == "ours" else partial(sklearn_grid, method, *RUNS[run[:-1]])
    grid, few = (layers, cells, rows), (layers[:1], cells[:CORES], rows[:CORES])
    frames = measured(task, work, grid, few, len(answers))
    scores = pd.concat(frames).groupby(["layer", "token"])
    states = dict(layers)
    found = [
        {"layer": layer, "token": cell.token}
        | cell_auc(states[layer][at], cell, scores.get_group((layer, cell.token)))
        for layer in states
        for cell, at in zip(cells, rows, strict=True)
        if cell.enough
    ]
    pd.DataFrame(found).to_parquet(Path(task["folder"], "auc.parquet"), index=False)


def read_states(task: dict, questions: pd.Series) -> tuple[pd.DataFrame, list]:
    """Question and token of every row, and [(layer, states [rows, hidden])], evenly spread."""
    files = state_files(task["model"])
    keys = pd.concat([read_frame(file, ["question_id", "token"]) for file in files])
    keys = keys.reset_index(drop=True).sort_values(["question_id", "token"])
    keys = keys[keys["question_id"].isin(questions)]
    columns = layer_columns(files[0])
    chosen = np.unique(np.linspace(0, len(columns) - 1, task["layers"]).round().astype(int))
    layers = []
    for layer in chosen.tolist():
        name = columns[layer]
        states = [read_tensors(read_table(file, [name]), name) for file in files]
        layers.append((layer, np.concatenate(states)[keys.index]))
    return keys.reset_index(drop=True), layers


def sklearn_grid(method: str, jobs: int, threads: int, grid) -> list[pd.DataFrame]:
    layers, cells, rows = grid
    with threadpool_limits(threads):
        found = Parallel(jobs)(
            delayed(sklearn_cell)(method, layer, states[at], cell)
            for layer, states in layers
            for cell, at in zip(cells, rows, strict=True)
        )
    return [frame for cell in found for frame in cell]


def sklearn_cell(method: str, layer: int, states: np.ndarray, cell: Cell) -> list[pd.DataFrame]:
    """One cell's fits, a frame per fold with the columns of `probes.probe_cell` that are used."""
    frames = []
    for split in cell.splits if cell.enough else []:
        train, test = states[split.train], states[split.test]
        regression = LogisticRegression()
        if method == "sklearn standardised":
            # In float32 the gradient does not get as small as this.
            scaler = StandardScaler().fit(train.astype(np.float64))
            train, test = (scaler.transform(x.astype(np.float64)) for x in (train, test))
            regression = LogisticRegression(C=1 / states.shape[1], tol=1e-8, max_iter=10000)
        with warnings.catch_warnings(action="ignore"):  # what has not converged is counted
            regression.fit(train, cell.labels[split.train])
        columns = {
            "question_id": cell.questions[split.test],
            "score": regression.decision_function(test),
            "layer": layer,
            "token": cell.token,
            "fold": split.fold,
            "converged": bool((regression.n_iter_ < regression.max_iter).all()),
        }
        frames.append(pd.DataFrame(columns))
    return frames


def cell_auc(states: np.ndarray, cell: Cell, scores: pd.DataFrame) -> dict[str, float]:
    """Means over the folds.

    auc: of the scores as they are. auc_equal: with identical inputs scored equal, as is done by our
    probe. auc_rounded: of scores rounded to 4 decimals. unconverged: share of the fits.
    """
    same = pd.factorize(np.array([row.tobytes() for row in states], dtype=object))[0]
    values: dict[str, list[float]] = {}
    for _, fold in scores.groupby("fold"):
        at = np.searchsorted(cell.questions, fold["question_id"])
        kinds = {
            "auc": fold["score"],
            "auc_equal": fold["score"].groupby(same[at]).transform("first"),
            "auc_rounded": fold["score"].round(4),
        }
        for name, score in kinds.items():
            auc = metrics(cell.labels[at], score.to_numpy())["auc"][0]
            values.setdefault(name, []).append(auc)
        values.setdefault("unconverged", []).append(not fold["converged"].all())
    return {name: float(np.mean(found)) for name, found in values.items()}
