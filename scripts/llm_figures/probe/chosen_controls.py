"""The shuffled controls of the chosen cells, over many permutations of the labels.

One permutation for each fold leaves noise in a control. In the cells that are chosen, which
captions compare with their controls, labels are therefore shuffled more often.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits

from llm_figures.probe.cells import Cell
from llm_figures.probe.fitting import probe_cell
from llm_figures.probe.nested import choose_among_all
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.scores import MeasuredCells, Result, measure_predictions
from llm_figures.probe.stored_states import LoadStates, read_cells_of_layer


def shuffle_chosen_cells(
    measured: MeasuredCells,
    layers: Sequence[tuple[int, LoadStates]],
    rows: Sequence[np.ndarray],
    protocol: Protocol,
    shuffles: int,
    jobs: int,
) -> dict[tuple[str, int, str], Result]:
    """{(token, layer, control): its metrics in the splits that chose the cell}, for all controls
    that shuffle labels; see `nested.tabulate_nested`.

    layers, rows: as for `fitting.probe_layers`, of the cells of `measured`. shuffles: number of
    permutations of the labels of each training set. jobs: number of processes.

    Raises:
        UserError: states that are not finite.
    """
    if not protocol.controls or shuffles < 2:
        return {}
    cells = [part.cell for part in measured.tokens]
    places = {cell.token: at for at, cell in enumerate(cells)}
    chosen: dict[int, dict[int, set[tuple[int, int]]]] = {}  # {layer: {cell: its splits}}
    for choice in choose_among_all(measured):
        at = places[choice.cell.cell.token]
        chosen.setdefault(choice.layer, {}).setdefault(at, set()).add(choice.split)
    tasks = []
    for layer, load in layers:
        if layer in chosen:
            own = [(cells[at], rows[at], splits) for at, splits in chosen[layer].items()]
            tasks.append(delayed(_shuffle_layer)(layer, load, own, protocol, shuffles))
    if not tasks:
        return {}
    with parallel_config(backend="loky", inner_max_num_threads=1):
        found = Parallel(min(jobs, len(tasks)), batch_size=1, max_nbytes=None)(tasks)
    return {key: result for results in found for key, result in results.items()}


def _shuffle_layer(
    layer: int,
    load: LoadStates,
    chosen: Sequence[tuple[Cell, np.ndarray, set[tuple[int, int]]]],
    protocol: Protocol,
    shuffles: int,
) -> dict[tuple[str, int, str], Result]:
    """The controls of one layer. chosen: cells with their rows and the splits that chose them."""
    found = {}
    # Scores do not depend on the number of cores; unconverged fits are counted, not warned of.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore"):
        states_of_cells = read_cells_of_layer(layer, load(), [rows for _, rows, _ in chosen])
        for (cell, _, wanted), states in zip(chosen, states_of_cells, strict=True):
            splits = [split for split in cell.splits if (split.repeat, split.fold) in wanted]
            fits = probe_cell(states, cell, layer, protocol, shuffles, splits)
            results = measure_predictions(fits[fits["control"] != "none"], cell, protocol)
            found |= {(cell.token, *key): result for key, result in results.items()}
    return found
