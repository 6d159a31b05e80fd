"""The chosen cell over many draws of folds, and its controls over many permutations.

One draw of folds, and one permutation of the labels for each, leave noise in the score of the
chosen cell and more of it in its controls. Here the choice is made anew in each fold of several
draws. Only the cells that are chosen are fitted, with the labels as they are and permuted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.probe.best_cell import ANY_TOKEN, CHOSEN_LAYER
from llm_figures.probe.cells import Cell
from llm_figures.probe.fitting import probe_cell
from llm_figures.probe.nested import tabulate_nested
from llm_figures.probe.nested_details import tabulate_nested_details
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.scores import measure_cells
from llm_figures.probe.selection import score_inner_folds
from llm_figures.probe.standardising import find_distinct_rows
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer

# Splits that are drawn at random, and may be drawn again.
DRAWN = ("folds", "group_folds")
# Splits whose inner folds are scored at once, which bounds the memory.
AT_ONCE = 10


def score_repeated_choice(
    layers: Sequence[tuple[int, LoadStates]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    answers: pd.DataFrame,
    protocol: Protocol,
    shuffles: int,
    jobs: int,
) -> pd.DataFrame:
    """The rows of nested selection over all splits of the cells.

    layers, rows, cells: as for `fitting.probe_layers`; the cells have the splits of all draws, and
    are those to choose from. answers: as for `scores.compute_probe_scores`. shuffles:
    number of permutations of the labels of each training set, for each control. jobs: number of
    processes.

    mean of a shuffled control: over splits and permutations. Empty without a cell to choose.

    Raises:
        UserError: states that are not finite.
    """
    if not cells:
        return pd.DataFrame()
    tasks = (delayed(_score_inner)(layer, load, rows, cells) for layer, load in layers)
    with threadpool_limits(1), parallel_config(backend="loky", inner_max_num_threads=1):
        inner = np.array(Parallel(jobs, batch_size=1, max_nbytes=None)(tasks))
    chosen = _choose(inner)  # {split: (layer, cell)}
    if len(chosen) < 2:
        return pd.DataFrame()
    fits = pd.concat(
        _fit_chosen(layers, rows, cells, protocol, shuffles, chosen, inner), ignore_index=True
    )
    return _tabulate(fits, cells, answers, protocol)


def _score_inner(
    layer: int, load: LoadStates, rows: Sequence[np.ndarray], cells: Sequence[Cell]
) -> np.ndarray:
    """[cells, splits]: the AUC within each training set."""
    found = []
    with threadpool_limits(1):
        states_of_cells = read_cells_of_layer(layer, load(), rows)
        for states, cell in zip(states_of_cells, cells, strict=True):
            if not cell.enough_answers:
                found.append(np.full(len(cell.splits), np.nan))
                continue
            X = states.astype(np.float32, copy=False)
            distinct = find_distinct_rows(X)
            parts = [cell.splits[at : at + AT_ONCE] for at in range(0, len(cell.splits), AT_ONCE)]
            values = [score_inner_folds(X.copy(), distinct, cell.labels, part) for part in parts]
            found.append(np.concatenate(values))
    return np.array(found)


def _choose(inner: np.ndarray) -> dict[int, tuple[int, int]]:
    """{split: (layer, cell)}, the first of equals. inner: [layers, cells, splits]."""
    flat = inner.reshape(-1, inner.shape[-1])
    known = np.flatnonzero(np.isfinite(flat).any(axis=0))
    best = np.nanargmax(flat[:, known], axis=0)
    places = zip(*np.unravel_index(best, inner.shape[:2]), strict=True)
    return {
        int(split): (int(at), int(cell)) for split, (at, cell) in zip(known, places, strict=True)
    }


def _fit_chosen(
    layers: Sequence[tuple[int, LoadStates]],
    rows: Sequence[np.ndarray],
    cells: Sequence[Cell],
    protocol: Protocol,
    shuffles: int,
    chosen: dict[int, tuple[int, int]],
    inner: np.ndarray,
) -> Iterator[pd.DataFrame]:
    """Predictions of the chosen cells, and of layer 0 at their tokens, as from `probe_cell`.

    inner_auc is that of the splits that chose the cell.
    """
    of_token: dict[int, list[int]] = {}  # {cell: the splits that chose it, in any layer}
    for split, (_, number) in chosen.items():
        of_token.setdefault(number, []).append(split)
    for at, (layer, load) in enumerate(layers):
        here = {number for where, number in chosen.values() if where == at}
        here = sorted(here if at else of_token)  # all have the embeddings as a control
        if not here:
            continue
        states_of_cells = read_cells_of_layer(layer, load(), [rows[number] for number in here])
        for number, states in zip(here, states_of_cells, strict=True):
            cell = cells[number]
            own = [split for split in of_token[number] if chosen[split][0] == at]
            if own:
                splits = [cell.splits[split] for split in own]
                frame = probe_cell(states, cell, layer, protocol, shuffles, splits)
                criterion = {
                    (split.repeat, split.fold): inner[at, number, index]
                    for index, split in zip(own, splits, strict=True)
                }
                keys = zip(frame["repeat"], frame["fold"], strict=True)
                yield frame.assign(inner_auc=[criterion[int(r), int(f)] for r, f in keys])
            if at == 0 and (others := [cell.splits[s] for s in of_token[number] if s not in own]):
                plain = protocol.changed(controls=())
                yield probe_cell(states, cell, layer, plain, splits=others)


def _tabulate(
    fits: pd.DataFrame, cells: Sequence[Cell], answers: pd.DataFrame, protocol: Protocol
) -> pd.DataFrame:
    """The rows of `score_repeated_choice`. fits: as from `_fit_chosen`."""
    table = tabulate_nested(measure_cells(fits, list(cells), answers, protocol))
    table = table[(table["layer"] == CHOSEN_LAYER) & (table["token"] == ANY_TOKEN)]
    own = fits[(fits["control"] == "none") & np.isfinite(fits["inner_auc"])]
    tokens = [cell.token for cell in cells]
    details = tabulate_nested_details(own, table, answers, [], tokens, protocol)
    parts = [part for part in (table, details) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
