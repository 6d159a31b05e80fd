"""Files of attention states: their schema, and reading one row, which is one layer, at a time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.rope import Rotation
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import RowReader, read_table, read_tensors, tensor

VALUE_NORM = "value_norm"
INTERVENTION = ["component", "operation", "over", "epsilon", "stage"]


def build_states_schema(query_shape: tuple[int, ...], key_shape: tuple[int, ...]) -> pa.Schema:
    """Schema of forward/attention_states.parquet: one row per text and layer with attention.

    A tensor column has one shape, so states are padded with NaN: to the longest text, and in models
    whose layers differ to the most heads and the largest head. `tokens`, `heads`,
    `key_value_heads` and `head_dim` tell the true sizes. cos, sin and pair_index are those of
    `Rotation`, padded likewise, and null if the rotation is unknown. value_norm is padded likewise,
    and null after an intervention.

    query_shape, key_shape: the largest [(key-value) heads, tokens, head_dim].
    """
    return pa.schema(
        [
            ("input", pa.int32()),
            ("layer", pa.int32()),
            ("model_layers", pa.int32()),
            ("component", pa.string()),  # of the pass's intervention; null in a clean pass
            ("operation", pa.string()),
            ("over", pa.string()),
            ("epsilon", pa.float64()),
            ("stage", pa.string()),
            ("tokens", pa.list_(pa.string())),
            ("token_ids", pa.list_(pa.int64())),
            ("scaling", pa.float64()),
            ("heads", pa.int32()),
            ("key_value_heads", pa.int32()),
            ("head_dim", pa.int32()),
            ("mask", pa.string()),  # "causal", "sliding", or "other", which `bias` holds
            ("window", pa.int32()),
            ("softcap", pa.float64()),
            # [1 or heads, tokens, tokens], flattened; null unless the mask is "other"
            ("bias", pa.large_list(pa.float32())),
            ("sinks", pa.list_(pa.float32())),
            ("deviation", pa.float64()),  # of some weights from the model's own
            ("sink_strength", pa.list_(pa.float64())),  # F by head; null unless the pass is clean
            ("query", tensor(query_shape)),
            ("key", tensor(key_shape)),
            (VALUE_NORM, tensor(key_shape[:2])),  # L2 norms of the values
            ("cos", tensor(query_shape[1:])),
            ("sin", tensor(query_shape[1:])),
            ("pair_index", pa.list_(pa.int32())),
        ]
    )


def read_layer_states(table: pa.Table) -> list[tuple[Intervention | None, LayerStates]]:
    """The rows of a table of attention states, each with the intervention of its forward pass.

    Raises:
        UserError: states that are not finite.
    """
    tensors = ["query", "key", "cos", "sin"]
    query, key, cos, sin = (read_tensors(table, column) for column in tensors)
    if VALUE_NORM in table.column_names:  # files of earlier versions lack it
        tensors.append(VALUE_NORM)
        norms, known = read_tensors(table, VALUE_NORM), table.column(VALUE_NORM).is_valid()
    found = []
    for number, row in enumerate(table.drop_columns([*tensors, "bias"]).to_pylist()):
        length, size, pairs = len(row["tokens"]), row["head_dim"], row["pair_index"]
        bias = table.column("bias")[number].values
        has_norms = VALUE_NORM in tensors and known[number].as_py()
        states = LayerStates(
            input=row["input"],
            layer=row["layer"],
            query=query[number][: row["heads"], :length, :size],
            key=key[number][: row["key_value_heads"], :length, :size],
            scaling=row["scaling"],
            window=row["window"],
            softcap=row["softcap"],
            model_layers=row["model_layers"],
            bias=None if bias is None else bias.to_numpy().reshape(-1, length, length),
            sinks=_read_sinks(row),
            value_norm=norms[number, : row["key_value_heads"], :length] if has_norms else None,
            tokens=row["tokens"],
            rotation=None
            if pairs is None
            else Rotation(
                cos[number, :length, :size], sin[number, :length, :size], np.array(pairs)
            ),
            stored_strength=_array(row["sink_strength"]),
        )
        if not (np.isfinite(states.query).all() and np.isfinite(states.key).all()):
            raise _not_finite(row)
        found.append((_read_intervention(row), states))
    return found


@dataclass(frozen=True)
class StoredStates:
    """A row of a file of attention states whose tensors are not read yet.

    It takes the place of `maps.LayerStates` where layers and heads are chosen; `load` reads it.

    strength: [heads], F of every head; None in a pass with an intervention.
    rotated: whether the rotation of query and key is known.
    """

    input: int
    layer: int
    intervention: Intervention | None
    strength: np.ndarray | None
    rotated: bool
    heads: int
    model_layers: int
    row: int
    reader: RowReader

    def load(self) -> LayerStates:
        """The states themselves.

        Raises:
            UserError: a damaged file; states that are not finite.
        """
        ((_, states),) = read_layer_states(self.reader.row(self.row))
        return states


def open_states(path: str | Path) -> list[StoredStates]:
    """All rows of a file of attention states, without their tensors.

    Raises:
        UserError: see `parquet_tensors.RowReader`; a layer whose states are not finite.
    """
    reader = RowReader(path)
    columns = [
        "input",
        "layer",
        "model_layers",
        "heads",
        *INTERVENTION,
        "sink_strength",
        "pair_index",
    ]
    found = []
    for number, row in enumerate(reader.columns(columns).to_pylist()):
        strength = _array(row["sink_strength"])
        if strength is not None and not np.isfinite(strength).all():
            raise _not_finite(row)
        found.append(
            StoredStates(
                input=row["input"],
                layer=row["layer"],
                intervention=_read_intervention(row),
                strength=strength,
                rotated=row["pair_index"] is not None,
                heads=row["heads"],
                model_layers=row["model_layers"],
                row=number,
                reader=reader,
            )
        )
    return found


def open_intervened_states(
    path: str | Path | None,
) -> Mapping[tuple[int, int, Intervention], StoredStates] | None:
    """The rows of a file of passes with interventions, by layer, text and intervention.

    None without a file.
    """
    if path is None:
        return None
    return {(row.layer, row.input, row.intervention): row for row in open_states(path)}


def read_random_weights(path: str | Path) -> list[list[LayerStates]]:
    """States of layers of the model with random weights, each with those of every text.

    Rows of one layer and text stand in the order of the random models; a layer whose states
    overflow is left out.
    """
    layers: dict[tuple[int, int], list[LayerStates]] = {}
    models: Counter[tuple[int, int]] = Counter()
    table = read_table(path)
    for number in range(len(table)):
        row = table.slice(number, 1)
        key = row["layer"][0].as_py(), row["input"][0].as_py()
        models[key] += 1
        try:
            ((_, states),) = read_layer_states(row)
        except UserError:
            continue
        layers.setdefault((models[key], key[0]), []).append(states)
    texts = len({text for _, text in models})
    return [states for states in layers.values() if len(states) == texts]


def _array(values: list | None) -> np.ndarray | None:
    return None if values is None else np.array(values)


def _read_sinks(row: Mapping) -> np.ndarray | None:
    """[heads], or [heads, tokens] if there is one per query."""
    sinks, heads = _array(row["sinks"]), row["heads"]
    return sinks if sinks is None or len(sinks) == heads else sinks.reshape(heads, -1)


def _read_intervention(row: Mapping) -> Intervention | None:
    if row["component"] is None:
        return None
    return Intervention(**{name: row[name] for name in INTERVENTION})


def _not_finite(row: Mapping) -> UserError:
    return UserError(
        f"attention states of input {row['input']}, layer {row['layer']} hold NaN or infinite "
        "values; remove the file and run again"
    )
