"""Attention weights from cached queries and keys, and what is measured on them.

Everything here is NumPy in float64: a single-layer alteration of Query, Key or Value needs the
layer's cached states alone, no model and no torch.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from llm_figures.errors import UserError
from llm_figures.operations import Alteration
from llm_figures.rotation import Rotation
from llm_figures.tensors import read_tensors, tensor


@dataclass(frozen=True)
class LayerStates:
    """What one layer's attention kernel saw of one text.

    query: [heads, tokens, head_dim], after rotary embedding and any query norm.
    key: [key-value heads, tokens, head_dim], likewise; not repeated for grouped queries.
    scaling: factor on query·key, usually head_dim ** -0.5.
    window: a token attends to this many positions, itself included; None is no limit.
    softcap: s -> softcap * tanh(s / softcap) on scores (Gemma 2); None is none.
    sinks: [heads], logits of an extra column that only takes weight away (GPT-OSS); or None.
    tokens: the text's tokens, as strings.
    rotation: how the query and key were rotated; None where the model has no rotary embedding or
        its own is not known.
    """

    input: int
    layer: int
    query: np.ndarray
    key: np.ndarray
    scaling: float
    window: int | None = None
    softcap: float | None = None
    sinks: np.ndarray | None = None
    tokens: list[str] = field(default_factory=list)
    rotation: Rotation | None = None

    def altered(self, alteration: Alteration | None) -> "LayerStates":
        """The same states with `alteration` made; Value plays no part in its own layer's map.

        A change before rotary embedding undoes the rotation, alters, and rotates again.

        Raises:
            UserError: a change before rotary embedding where that is not known.
        """
        if alteration is None or alteration.component == "value":
            return self
        states = getattr(self, alteration.component).astype(np.float64)
        if not alteration.unrotates:
            return replace(self, **{alteration.component: alteration(states)})
        if self.rotation is None:
            raise UserError(f"stage: before_rotary: {unknown_rotation(self.layer)}")
        changed = self.rotation.apply(alteration(self.rotation.undo(states)))
        return replace(self, **{alteration.component: changed})

    def head(self, head: int) -> "LayerStates":
        """The same states of one query head alone, with the key-value head that it reads."""
        group = len(self.query) // len(self.key)
        return replace(
            self,
            query=self.query[head : head + 1],
            key=self.key[head // group : head // group + 1],
            sinks=None if self.sinks is None else self.sinks[head : head + 1],
        )

    def weights(self) -> np.ndarray:
        """Causal attention weights [heads, tokens (query), tokens (key)], rows summing to 1.

        softmax(query · keyᵀ · scaling) (Vaswani et al. 2017, eq. 1), with the layer's window,
        soft cap and sinks. With sinks the rows sum to what the sinks leave.
        """
        query = self.query.astype(np.float64)
        key = np.repeat(self.key.astype(np.float64), len(query) // len(self.key), axis=0)
        scores = query @ key.transpose(0, 2, 1) * self.scaling
        if self.softcap is not None:
            scores = self.softcap * np.tanh(scores / self.softcap)
        position = np.arange(scores.shape[-1])
        distance = position[:, None] - position[None, :]
        hidden = distance < 0
        if self.window is not None:
            hidden |= distance >= self.window
        scores = np.where(hidden, -np.inf, scores)
        if self.sinks is not None:
            column = np.broadcast_to(self.sinks[:, None, None], (*scores.shape[:2], 1))
            scores = np.concatenate([scores, column], axis=-1)
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        return weights[..., : len(position)]


def unknown_rotation(layer: int) -> str:
    """Why a change before rotary embedding is refused in a layer, and what to do."""
    return (
        f"layer {layer} of this model has no rotary embedding that can be observed; take "
        "after_rotary (without rotary embedding the two are the same)"
    )


def attention_states_schema(query_shape, key_shape) -> pa.Schema:
    """Schema of forward/attention_states.parquet: one row per input × layer.

    Texts differ in length and a tensor column has one shape, so rows are padded with NaN to the
    longest text; `tokens` tells the true length. `rotation_*` are those of `Rotation`, padded
    likewise, and null where that is None.
    """
    return pa.schema(
        [
            ("input", pa.int32()),
            ("layer", pa.int32()),
            ("component", pa.string()),  # what was altered on the way; null: nothing
            ("operation", pa.string()),
            ("over", pa.string()),
            ("epsilon", pa.float64()),
            ("stage", pa.string()),
            ("tokens", pa.list_(pa.string())),
            ("token_ids", pa.list_(pa.int64())),
            ("scaling", pa.float64()),
            ("mask", pa.string()),  # "causal" or "sliding"
            ("window", pa.int32()),
            ("softcap", pa.float64()),
            ("sinks", pa.list_(pa.float32())),
            ("query", tensor(query_shape)),
            ("key", tensor(key_shape)),
            ("rotation_own", tensor(query_shape[1:])),
            ("rotation_other", tensor(query_shape[1:])),
            ("rotation_partner", pa.list_(pa.int32())),
        ]
    )


def layer_states(table: pa.Table) -> list[tuple[Alteration | None, LayerStates]]:
    """The rows of an attention states table, each with the alteration of its forward pass."""
    tensors = ["query", "key", "rotation_own", "rotation_other"]
    query, key, own, other = (read_tensors(table, column) for column in tensors)
    rows = table.drop_columns(tensors).to_pylist()
    found = []
    for index, row in enumerate(rows):
        length = len(row["tokens"])
        states = LayerStates(
            input=row["input"],
            layer=row["layer"],
            query=query[index][:, :length],
            key=key[index][:, :length],
            scaling=row["scaling"],
            window=row["window"],
            softcap=row["softcap"],
            sinks=None if row["sinks"] is None else np.array(row["sinks"]),
            tokens=row["tokens"],
            rotation=None
            if row["rotation_partner"] is None
            else Rotation(
                own[index, :length], other[index, :length], np.array(row["rotation_partner"])
            ),
        )
        if not (np.isfinite(states.query).all() and np.isfinite(states.key).all()):
            raise UserError(
                f"attention states of input {states.input}, layer {states.layer} hold NaN or "
                "infinite values; try dtype: float32, or remove the file and run again"
            )
        made = (
            None
            if row["component"] is None
            else Alteration(
                **{
                    name: row[name]
                    for name in ("component", "operation", "over", "epsilon", "stage")
                }
            )
        )
        found.append((made, states))
    return found


def sink_strength(weights: np.ndarray) -> np.ndarray:
    """F: mean weight on the first token over the rows after it; [..., T, T] -> [...].

    The first row is left out: causality makes its weight 1 whatever the model does.
    """
    return weights[..., 1:, 0].mean(axis=-1)


def uniform_causal(tokens: int) -> np.ndarray:
    """U: the map of a causal layer whose scores are all equal; row i (from 1) holds 1/i."""
    return np.tril(np.ones((tokens, tokens))) / np.arange(1, tokens + 1)[:, None]


def distance_to_uniform(weights: np.ndarray) -> np.ndarray:
    """D: mean |A − U| over the lower triangle; [..., T, T] -> [...]."""
    tokens = weights.shape[-1]
    lower = np.tril_indices(tokens)
    return np.abs(weights - uniform_causal(tokens))[..., lower[0], lower[1]].mean(axis=-1)


def strongest_layer(states: list[LayerStates]) -> int:
    """The layer with the strongest sink: mean F over heads and inputs; ties go to the lower."""
    strength: dict[int, list[float]] = {}
    for state in states:
        strength.setdefault(state.layer, []).append(sink_strength(state.weights()).mean())
    return max(sorted(strength), key=lambda layer: np.mean(strength[layer]))


def strongest_head(states: list[LayerStates]) -> int:
    """The head with the strongest sink among one layer's states, mean F over inputs."""
    strength = np.mean([sink_strength(s.weights()) for s in states], axis=0)
    return int(strength.argmax())
