"""The columns of forward/module_states, for who writes them and who reads them."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.parquet_tensors import tensor


def module_column(layer: int, module: str) -> str:
    """The column of one projection: "layer_07 mlp. up"; blocks count from 0."""
    return f"layer_{layer:02d} {module}"


def module_states_schema(projections: Iterable[tuple[int, str, int]]) -> pa.Schema:
    """Schema of forward/module_states: one row per question, one tensor column per projection.

    projections: (layer, module, d_out).
    """
    return pa.schema(
        [
            ("question_id", pa.int32()),
            ("token", pa.string()),
            ("position", pa.int32()),
            *(
                (module_column(layer, module), tensor((d_out,)))
                for layer, module, d_out in projections
            ),
        ]
    )


def module_columns(path: str | Path) -> list[tuple[str, int, str]]:
    """(column, layer, module) of every projection in a file."""
    names = [name for name in pq.read_schema(path).names if name.startswith("layer_")]
    return [(name, *_place(name)) for name in names]


def _place(column: str) -> tuple[int, str]:
    layer, module = column.removeprefix("layer_").split(" ", 1)
    return int(layer), module
