"""Attention weights from cached queries and keys, and what is measured on them.

Everything here is NumPy: a single-layer intervention of Query, Key or Value needs the layer's
cached
states alone, no model and no torch. Alterations are computed in float64, weights in the type of the
states, float32 as a rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.rope import Rotation
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_tensors, tensor

# Weights of a long text are computed for some heads and queries at a time; so many bytes of them,
# which a core's own cache holds: they are gone through several times.
BLOCK_BYTES = 2**20
# A text of more tokens is shown in so many bins a side, where the config does not say otherwise.
BINS = 128


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
    stored_strength: [heads], F of every head, where it is known from before; see `strength`.
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
    stored_strength: np.ndarray | None = None

    def loaded(self) -> "LayerStates":
        """These states; see `qk_store.StoredStates`."""
        return self

    @property
    def heads(self) -> int:
        return len(self.query)

    @property
    def rotated(self) -> bool:
        """Whether it is known how the query and key were rotated."""
        return self.rotation is not None

    @property
    def strength(self) -> np.ndarray:
        """F of every head: its mean weight on the first token over the later rows, [heads]."""
        if self.stored_strength is not None:
            return self.stored_strength
        first = np.empty(self.query.shape[:2], self.query.dtype)
        for heads, rows, weights in self.blocks():
            first[heads, rows] = weights[..., 0]
        return sink_strength(first[..., None])

    def intervened(self, intervention: Intervention | None) -> "LayerStates":
        """The same states with `intervention` made; Value plays no part in its own layer's map.

        A change before rotary embedding undoes the rotation, alters, and rotates again.

        Raises:
            UserError: a change before rotary embedding where that is not known.
        """
        if intervention is None or intervention.component == "value":
            return self
        given = getattr(self, intervention.component)
        states = given.astype(np.float64)
        if not intervention.unrotates:
            changed = intervention(states)
        elif self.rotation is None:
            raise UserError(f"stage: before_rotary: {unknown_rotation(self.layer)}")
        else:
            changed = self.rotation.apply(intervention(self.rotation.undo(states)))
        changed = changed.astype(given.dtype)
        return replace(self, stored_strength=None, **{intervention.component: changed})

    def head(self, head: int) -> "LayerStates":
        """The same states of one query head alone, with the key-value head that it reads."""
        group = len(self.query) // len(self.key)
        return replace(
            self,
            query=self.query[head : head + 1],
            key=self.key[head // group : head // group + 1],
            sinks=None if self.sinks is None else self.sinks[head : head + 1],
            stored_strength=None
            if self.stored_strength is None
            else self.stored_strength[head : head + 1],
        )

    def weights(self) -> np.ndarray:
        """Causal attention weights [heads, tokens (query), tokens (key)], rows summing to 1.

        softmax(query · keyᵀ · scaling) (Vaswani et al. 2017, eq. 1), with the layer's window,
        soft cap and sinks. With sinks the rows sum to what the sinks leave.
        """
        return self._weights(slice(0, self.heads), slice(0, self.query.shape[1]))

    def blocks(self, size: int | None = None) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Yield (heads, rows, their weights [heads, rows, tokens (key)]) of the whole map.

        The keys are those up to the block's last row; later ones have no weight. A short text is
        one block, so its numbers are those of `weights`.

        size: bytes of a block at most, but for a row's; `BLOCK_BYTES` by default.
        """
        size = BLOCK_BYTES if size is None else size
        tokens, number = self.query.shape[1], self.query.itemsize
        together = max(1, size // (tokens * tokens * number))  # heads
        rows = max(1, min(tokens, size // (tokens * number)))
        for row in range(0, tokens, rows):
            block = slice(row, min(row + rows, tokens))
            for head in range(0, self.heads, together):
                heads = slice(head, min(head + together, self.heads))
                yield heads, block, self._weights(heads, block)

    def mean_rows(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, their mean over heads [rows, tokens (key)]), from the first row on."""
        for heads, rows, weights in self.blocks():
            part = weights[0] if len(weights) == 1 else weights.sum(axis=0)
            if heads.start == 0:
                total = part
            else:
                total += part
            if heads.stop == self.heads:
                total /= self.heads
                yield rows, total

    def _weights(self, heads: slice, rows: slice) -> np.ndarray:
        """Weights of some heads' queries on the keys up to the last of these."""
        group = self.heads // len(self.key)
        served = np.arange(heads.start, heads.stop) // group  # key-value heads
        key = self.key[served[0] : served[-1] + 1, : rows.stop]
        if len(key) > 1:
            key = key[served - served[0]]
        # the factor as a Python number, which leaves float32 what it is
        query = self.query[heads, rows] * float(self.scaling)
        scores = query @ key.transpose(0, 2, 1)
        if self.softcap is not None:
            scores = self.softcap * np.tanh(scores / self.softcap)
        # Without a window every query of the block sees the keys before its first.
        seen = 0 if self.window is not None else rows.start
        distance = np.arange(rows.start, rows.stop)[:, None] - np.arange(seen, rows.stop)
        hidden = distance < 0
        if self.window is not None:
            hidden |= distance >= self.window
        np.copyto(scores[..., seen:], -np.inf, where=hidden)
        if self.sinks is not None:
            sinks = self.sinks[heads, None, None].astype(scores.dtype)
            column = np.broadcast_to(sinks, (*scores.shape[:2], 1))
            scores = np.concatenate([scores, column], axis=-1)
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        return weights[..., : rows.stop]


def bin_edges(tokens: int, bins: int | None) -> np.ndarray:
    """Where the bins of a text's tokens begin, and behind them the text's end: [bins + 1].

    A text of at most `bins` tokens (or None) has a bin per token. Of a longer one the first token
    keeps a bin of its own, and the others fall into even bins, whose sizes differ by one at most.
    """
    if bins is None or tokens <= bins:
        return np.arange(tokens + 1)
    return np.concatenate([[0], 1 + np.arange(bins) * (tokens - 1) // (bins - 1)])


@dataclass(frozen=True)
class BinnedMap:
    """A long text's map between bins of its tokens.

    weights: [bins (query), bins (key)], see `mean_map`. counts: [bins], tokens in each; the first
        is the first token alone.
    """

    weights: np.ndarray
    counts: np.ndarray

    @property
    def tokens(self) -> int:
        return int(self.counts.sum())


def mean_map(states: LayerStates, edges: np.ndarray) -> np.ndarray:
    """The map of the mean over heads between bins of tokens, [bins (query), bins (key)].

    A cell is the mean over the bin's queries of their weight on all of the bin's keys together, so
    rows sum to what the tokens' rows do. With a bin per token it is the mean map itself.

    edges: see `bin_edges`.
    """
    bins, tokens = len(edges) - 1, states.query.shape[1]
    bin_of = np.repeat(np.arange(bins), np.diff(edges))
    found = np.zeros((bins, bins), states.query.dtype if bins == tokens else np.float64)
    for rows, weights in states.mean_rows():
        if bins == tokens:
            found[rows, : rows.stop] = weights
            continue
        starts = edges[:-1][edges[:-1] < rows.stop]
        weights = np.add.reduceat(weights, starts, axis=1, dtype=np.float64)
        np.add.at(found[:, : weights.shape[1]], bin_of[rows], weights)
    if bins == tokens:
        return found
    return found / np.diff(edges)[:, None]


def equal_change(intervention: Intervention | None) -> Intervention | None:
    """A change by which the map of `intervention` in its own layer can be had: one for equal maps.

    Scores are products of Query and Key. A factor may stand at either, and with the mean over
    features of either they are sum(query) * sum(key) / head_dim, unless a rotation follows. Value
    plays no part.
    """
    if intervention is None or intervention.component == "value":
        return None
    if intervention.operation == "scale" or (
        intervention.over == "features" and not intervention.unrotates
    ):
        return replace(intervention, component="query")
    return intervention


def mean_distance(states: LayerStates) -> float:
    """D of the mean over heads (see `distance_to_uniform`), a block of rows at a time."""
    tokens, total = states.query.shape[1], 0.0
    for rows, weights in states.mean_rows():
        position = np.arange(rows.start, rows.stop)
        uniform = (np.arange(rows.stop) <= position[:, None]) / (position[:, None] + 1)
        total += np.abs(weights - uniform).sum()
    return total / (tokens * (tokens + 1) / 2)


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
            ("sink_strength", pa.list_(pa.float64())),  # F by head; null where something is altered
            ("query", tensor(query_shape)),
            ("key", tensor(key_shape)),
            ("cos", tensor(query_shape[1:])),
            ("sin", tensor(query_shape[1:])),
            ("pair_index", pa.list_(pa.int32())),
        ]
    )


def layer_states(table: pa.Table) -> list[tuple[Intervention | None, LayerStates]]:
    """The rows of an attention states table, each with the intervention of its forward pass."""
    tensors = ["query", "key", "cos", "sin"]
    query, key, cos, sin = (read_tensors(table, column) for column in tensors)
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
            if row["pair_index"] is None
            else Rotation(cos[index, :length], sin[index, :length], np.array(row["pair_index"])),
            stored_strength=None
            if row["sink_strength"] is None
            else np.array(row["sink_strength"]),
        )
        if not (np.isfinite(states.query).all() and np.isfinite(states.key).all()):
            raise not_finite(states.input, states.layer)
        found.append((intervention_of(row), states))
    return found


def intervention_of(row: Mapping) -> Intervention | None:
    """What was altered in the forward pass of a row of an attention states file."""
    if row["component"] is None:
        return None
    names = ("component", "operation", "over", "epsilon", "stage")
    return Intervention(**{name: row[name] for name in names})


def not_finite(index: int, layer: int) -> UserError:
    return UserError(
        f"attention states of input {index}, layer {layer} hold NaN or infinite values; try dtype: "
        "float32, or remove the file and run again"
    )


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


def strongest_layer(states: Sequence[LayerStates]) -> int:
    """The layer with the strongest sink: mean F over heads and inputs; ties go to the lower."""
    strength: dict[int, list[float]] = {}
    for state in states:
        strength.setdefault(state.layer, []).append(state.strength.mean())
    return max(sorted(strength), key=lambda layer: np.mean(strength[layer]))


def strongest_head(states: Sequence[LayerStates]) -> int:
    """The head with the strongest sink among one layer's states, mean F over inputs."""
    return int(np.mean([state.strength for state in states], axis=0).argmax())
