"""The probes' scores of single answers in files, one layer in memory at a time.

100,000 questions have 130 million in a model of 30 layers.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from llm_figures.core.parquet_tensors import TableReader


class StoredPredictions:
    """The predictions of probe/predictions, as from `fitting.probe_layers`, layer by layer.

    Each iteration reads the files again, and yields one frame per layer, in their order.
    columns: some of the columns, `layer` and `control` among them; by default all. controls: only
    their predictions; "none" is the probe itself.

    Raises:
        UserError: a file that cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        columns: Sequence[str] | None = None,
        controls: Sequence[str] | None = None,
    ):
        self._columns, self._controls = columns, controls
        self._groups: dict[int, list[tuple[TableReader, int]]] = {}
        for reader in map(TableReader, paths):
            # a row group has one layer: it is at most what `score_probes` writes at once
            for group, layer in enumerate(reader.read_minima("layer")):
                self._groups.setdefault(layer, []).append((reader, group))

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for _, groups in sorted(self._groups.items()):
            tables = [self._select(reader.read(at, self._columns)) for reader, at in groups]
            yield pa.concat_tables(tables).unify_dictionaries().to_pandas()

    def _select(self, table: pa.Table) -> pa.Table:
        if self._controls is None:
            return table
        names = table["control"].cast(pa.string())
        return table.filter(pc.is_in(names, pa.array(self._controls, pa.string())))


# One frame of all layers, or frames of one or more layers each.
Predictions = pd.DataFrame | Iterable[pd.DataFrame]


def iterate_layers(predictions: Predictions) -> Iterator[pd.DataFrame]:
    """Frames of whole layers; a frame by itself is one."""
    if isinstance(predictions, pd.DataFrame):
        yield predictions
    else:
        yield from predictions
