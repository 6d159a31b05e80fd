"""Parquet schema of forward/module_states."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.parquet_tensors import tensor


def column_name(layer: int, projection: str) -> str:
    """The column of one projection, such as "layer_07 mlp. up"; layers count from 0."""
    return f"layer_{layer:02d} {projection}"


def build_schema(projections: Iterable[tuple[int, str, int]], dtype: str = "float32") -> pa.Schema:
    """One row per question, one tensor column [d_out] per projection.

    projections: (layer, projection, d_out) of each. dtype: of the stored values.
    """
    return pa.schema(
        [
            ("question_id", pa.int32()),
            ("token", pa.string()),
            ("position", pa.int32()),
            *(
                (column_name(layer, projection), tensor((d_out,), dtype))
                for layer, projection, d_out in projections
            ),
        ]
    )


def find_columns(path: str | Path) -> list[tuple[str, int, str]]:
    """(column, layer, projection) of every projection in a file."""
    columns = [name for name in pq.read_schema(path).names if name.startswith("layer_")]
    parts = [column.removeprefix("layer_").split(" ", 1) for column in columns]
    return [
        (column, int(layer), projection)
        for column, (layer, projection) in zip(columns, parts, strict=True)
    ]
