"""The columns of forward/hidden_states, for who writes them and who reads them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.parquet_tensors import tensor


def layer_column(layer: int) -> str:
    """Column of the states of block `layer`, counted from 1; 0 is the embeddings."""
    return f"layer_{layer:02d}"


def hidden_states_schema(layers: int, hidden_size: int) -> pa.Schema:
    """Schema of forward/hidden_states: one row per question × named token it has.

    `layers` blocks give layers + 1 columns: layer_00 is what enters the first block, layer_NN what
    leaves block NN, before any final norm, or for another site what its attention or MLP gives.
    """
    return pa.schema(
        [
            ("question_id", pa.int32()),
            ("token", pa.string()),
            ("position", pa.int32()),
            *((layer_column(layer), tensor((hidden_size,))) for layer in range(layers + 1)),
        ]
    )


def layer_columns(path: str | Path) -> list[str]:
    """The layer columns of a file, from the embeddings up."""
    return [name for name in pq.read_schema(path).names if name.startswith("layer_")]
