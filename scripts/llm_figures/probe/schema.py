"""Parquet schema of hidden states (forward/hidden_states)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import tensor

# In the metadata of the schema of the site "head": the model's number of blocks.
LAYERS = b"layers"


def layer_column(layer: int) -> str:
    """The column of block `layer`, counted from 1; 0 is the embeddings."""
    return f"layer_{layer:02d}"


def make_hidden_states_schema(
    layers: int,
    hidden_size: int,
    heads: Mapping[int, tuple[int, int]] | None = None,
    dtype: str = "float32",
) -> pa.Schema:
    """Schema with one row per question × named token.

    `layers` blocks give layers + 1 columns: layer_00 is the input of the first block, layer_NN the
    output of block NN before any final norm, or what another site takes of the block. The position
    of a mean over several tokens is −1.

    heads: for the site "head", {layer, counted from 1: (heads, size of each)}. Its column is a
    tensor [heads, size] then; a block without heads has none. dtype: of the stored values.
    """
    shapes = dict.fromkeys(range(layers + 1), (hidden_size,))
    if heads is not None:
        shapes = {0: (hidden_size,), **heads}
    return pa.schema(
        [
            ("question_id", pa.int32()),
            ("token", pa.string()),
            ("position", pa.int32()),
            *(
                (layer_column(layer), tensor(shape, dtype))
                for layer, shape in sorted(shapes.items())
            ),
        ],
        metadata=None if heads is None else {LAYERS: str(layers)},
    )


def read_layer_columns(path: str | Path) -> list[str]:
    """Names of the layer columns of a file, from the embeddings up, one for every layer.

    Raises:
        UserError: some layers have none.
    """
    columns = list(read_layer_shapes(path))
    if lacking := sorted(set(range(count_layers(path) + 1)) - set(columns)):
        raise UserError(
            f"config: probe.site: head: layer(s) {list_layers(lacking)} of this model have no "
            "attention heads; use residual, or the figure probe_heads, where they are grey"
        )
    return [layer_column(layer) for layer in columns]


def read_layer_shapes(path: str | Path) -> dict[int, tuple[int, ...]]:
    """{layer: shape of its states} of a file of states; 0 is the embeddings."""
    schema = pq.read_schema(path)
    names = [name for name in schema.names if name.startswith("layer_")]
    return {
        int(name.removeprefix("layer_")): tuple(schema.field(name).type.shape) for name in names
    }


def count_layers(path: str | Path) -> int:
    """The model's number of blocks, also of those without a column."""
    written = (pq.read_schema(path).metadata or {}).get(LAYERS)
    return max(read_layer_shapes(path)) if written is None else int(written)


def list_layers(layers: Sequence[int]) -> str:
    """Layers in words, the first eight by their numbers."""
    shown = ", ".join(map(str, layers[:8]))
    return shown if len(layers) <= 8 else f"{shown} and {len(layers) - 8} more"
