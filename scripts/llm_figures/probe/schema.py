"""Parquet schema of hidden states (forward/hidden_states)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.parquet_tensors import tensor


def layer_column(layer: int) -> str:
    """The column of block `layer`, counted from 1; 0 is the embeddings."""
    return f"layer_{layer:02d}"


def make_hidden_states_schema(layers: int, hidden_size: int) -> pa.Schema:
    """Schema with one row per question × named token.

    `layers` blocks give layers + 1 columns: layer_00 is the input of the first block, layer_NN the
    output of block NN before any final norm, or of its attention or MLP for another site.
    """
    return pa.schema(
        [
            ("question_id", pa.int32()),
            ("token", pa.string()),
            ("position", pa.int32()),
            *((layer_column(layer), tensor((hidden_size,))) for layer in range(layers + 1)),
        ]
    )


def read_layer_columns(path: str | Path) -> list[str]:
    """Names of the layer columns of a file, from the embeddings up."""
    return [name for name in pq.read_schema(path).names if name.startswith("layer_")]
