"""Hidden states of a layer in files, read cell by cell.

The states of all named tokens of a layer may be more than a process can hold: 100,000 questions of
a 7B model are 25 GB, of which one token is 1.6 GB.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_rows

# Bytes of states that are read in one pass over a file, if one cell does not take more by itself.
AT_ONCE = 2**29


class StoredStates:
    """The states of a layer in files, [rows, features]; those of heads are side by side.

    `states[rows]` reads some of the rows, as float32 however they are stored. Nothing is kept in
    memory.
    """

    def __init__(self, paths: Sequence[str | Path], column: str):
        self._paths, self._column = paths, column
        kind = pq.read_schema(paths[0]).field(column).type
        self._features = math.prod(kind.shape)
        self.bytes_of_row = self._features * kind.value_type.bit_width // 8

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.read(rows).astype(np.float32, copy=False)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The same as they are stored."""
        return read_rows(self._paths, self._column, rows).reshape(-1, self._features)


# Gives the states of a layer, [rows, features], to the process that fits its probes.
LoadStates = Callable[[], np.ndarray | StoredStates]


def read_cells_of_layer(
    layer: int, states: np.ndarray | StoredStates, rows: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """The states of one cell after the other: [examples, features], float32, a copy of its own.

    layer: for messages. states: of the layer, [rows, features]. rows: of each cell, those of its
    examples.

    To read one named token from a file, all others must be decompressed. So the tokens of several
    cells are read together, up to `AT_ONCE` bytes. Beyond that, one cell is in memory at a time.

    Raises:
        UserError: a value that is not finite; names its row.
    """
    for share in _share_reading(states, rows):
        if isinstance(states, StoredStates):
            read = states.read(np.concatenate([rows[cell] for cell in share]))
        else:
            read = states[np.concatenate([rows[cell] for cell in share])]
        start = 0
        for cell in share:
            stop = start + len(rows[cell])
            own = read[start:stop].astype(np.float32, copy=False)
            check_finite(layer, own, rows[cell])
            yield own
            start = stop


def _share_reading(
    states: np.ndarray | StoredStates, rows: Sequence[np.ndarray]
) -> Iterator[list[int]]:
    """The cells that are read together, one list after the other."""
    size = states.bytes_of_row if isinstance(states, StoredStates) else states[:1].nbytes
    share: list[int] = []
    for cell in range(len(rows)):
        if share and size * sum(len(rows[at]) for at in (*share, cell)) > AT_ONCE:
            yield share
            share = []
        share.append(cell)
    if share:
        yield share


def check_finite(layer: int, states: np.ndarray, rows: np.ndarray) -> None:
    """Check the states [examples, features] of a cell. rows: [examples], their rows in the files.

    Raises:
        UserError: a value that is not finite; names its row.
    """
    # A sum is finite only if all its terms are, and takes half as long to check.
    if np.isfinite(states @ np.ones(states.shape[1], states.dtype)).all():
        return
    finite = np.isfinite(states).all(axis=1)
    if not finite.all():
        raise UserError(
            f"hidden states of layer {layer} hold values that are not finite, the first in row "
            f"{int(rows[~finite].min()) + 1} of its file, counted through all shards; extract them "
            "again with dtype: float32"
        )
