"""Attention weights from cached queries and keys, and measures of them, in NumPy.

An intervention in one layer needs only that layer's cached states, neither a model nor torch.
Interventions are computed in float64, weights in the data type of the states, usually float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.rope import Rotation
from llm_figures.core.errors import UserError

# Weights of a long text are computed in blocks of so many bytes, which fit the cache of one core.
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class LayerStates:
    """One layer's queries and keys of one text, as its attention kernel sees them.

    input: the text's number, counted from 1. layer: counted from 0.
    query: [heads, tokens, head_dim], after rotary embedding and any query norm.
    key: [key-value heads, tokens, head_dim], likewise; not repeated for grouped-query attention.
    scaling: factor on query·key, usually head_dim ** -0.5.
    window: number of positions that a token attends to, itself included; None is no limit.
    softcap: scores s become softcap * tanh(s / softcap) (Gemma 2); None leaves them.
    sinks: [heads] or [heads, tokens (query)], logits of an extra column that only takes weight away
        (GPT-OSS), or None.
    tokens: the text's tokens, as strings.
    rotation: how query and key were rotated, the identity in a layer without rotary embedding; None
        if it cannot be observed.
    stored_strength: [heads], the sink strength F of every head if it was computed before.
    bias: [1 or heads, tokens, tokens], added to the capped scores, -inf where a key is hidden: a
        mask other than a causal one with `window`, with any position bias; None without.
    value_norm: [key-value heads, tokens], L2 norms of the clean values, or None if they are not
        known, as in a pass with an intervention or a file of an earlier version.
    model_layers: the number of the model's layers; in a hybrid only some have attention.
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
    bias: np.ndarray | None = None
    value_norm: np.ndarray | None = None
    model_layers: int | None = None

    def load(self) -> "LayerStates":
        """These states themselves; see `qk_store.StoredStates`."""
        return self

    @property
    def heads(self) -> int:
        return len(self.query)

    @property
    def rotated(self) -> bool:
        """Whether the rotation of query and key is known."""
        return self.rotation is not None

    @property
    def strength(self) -> np.ndarray:
        """The sink strength F of every head, [heads]; see `sink_strength`."""
        if self.stored_strength is not None:
            return self.stored_strength
        first = np.empty(self.query.shape[:2], self.query.dtype)
        for heads, rows, weights in self.iterate_blocks():
            first[heads, rows] = weights[..., 0]
        return sink_strength(first[..., None])

    def intervene(self, intervention: Intervention | None) -> "LayerStates":
        """The states with an intervention; one on Value does not change its own layer's map.

        An intervention before rotary embedding undoes the rotation first and rotates again.

        Raises:
            UserError: an intervention before rotary embedding if the rotation is unknown.
        """
        if intervention is None or intervention.component == "value":
            return self
        clean = getattr(self, intervention.component)
        states = clean.astype(np.float64)
        if not intervention.unrotates:
            changed = intervention(states)
        elif self.rotation is None:
            raise UserError(f"stage: before_rotary: {explain_unknown_rotation(self.layer)}")
        else:
            changed = self.rotation.apply(intervention(self.rotation.undo(states)))
        changed = changed.astype(clean.dtype)
        return replace(self, stored_strength=None, **{intervention.component: changed})

    def select_head(self, head: int) -> "LayerStates":
        """The states of one query head, with the key-value head that it reads."""
        group = len(self.query) // len(self.key)
        return replace(
            self,
            query=self.query[head : head + 1],
            key=self.key[head // group : head // group + 1],
            value_norm=None
            if self.value_norm is None
            else self.value_norm[head // group : head // group + 1],
            sinks=None if self.sinks is None else self.sinks[head : head + 1],
            bias=self.bias
            if self.bias is None or len(self.bias) == 1
            else self.bias[head : head + 1],
            stored_strength=None
            if self.stored_strength is None
            else self.stored_strength[head : head + 1],
        )

    def compute_weights(self) -> np.ndarray:
        """Causal attention weights [heads, tokens (query), tokens (key)]; rows sum to 1.

        softmax(query · keyᵀ · scaling) (Vaswani et al. 2017, eq. 1), with the layer's window,
        soft cap, bias and sinks. With sinks, rows sum to 1 minus the weight of the sink, whatever
        the model's own eager attention returns.
        """
        return self.compute_rows(slice(0, self.query.shape[1]))

    def compute_rows(self, rows: slice) -> np.ndarray:
        """The weights of the queries `rows`: [heads, rows, keys up to the last of these rows]."""
        return self._compute_weights(slice(0, self.heads), rows)

    def iterate_blocks(self, size: int | None = None) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Yield (heads, rows, their weights [heads, rows, tokens (key)]) of the whole map.

        A block has the keys up to its last row; later keys have no weight. The map of a short text
        is one block, equal to `compute_weights`.

        size: limit of a block in bytes, `BLOCK_BYTES` by default; a block has at least one row.
        """
        size = BLOCK_BYTES if size is None else size
        tokens, number = self.query.shape[1], self.query.itemsize
        heads_per_block = max(1, size // (tokens * tokens * number))
        rows = max(1, min(tokens, size // (tokens * number)))
        for row in range(0, tokens, rows):
            block = slice(row, min(row + rows, tokens))
            for head in range(0, self.heads, heads_per_block):
                heads = slice(head, min(head + heads_per_block, self.heads))
                yield heads, block, self._compute_weights(heads, block)

    def iterate_mean_rows(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, their weights averaged over heads [rows, tokens (key)]), in order."""
        for heads, rows, weights in self.iterate_blocks():
            part = weights[0] if len(weights) == 1 else weights.sum(axis=0)
            if heads.start == 0:
                total = part
            else:
                total += part
            if heads.stop == self.heads:
                total /= self.heads
                yield rows, total

    def _compute_weights(self, heads: slice, rows: slice) -> np.ndarray:
        """Weights of the queries `rows` of `heads` on the keys up to the last of these rows."""
        group = self.heads // len(self.key)
        key_heads = np.arange(heads.start, heads.stop) // group
        key = self.key[key_heads[0] : key_heads[-1] + 1, : rows.stop]
        if len(key) > 1:
            key = key[key_heads - key_heads[0]]
        # A Python float leaves float32 states in float32.
        query = self.query[heads, rows] * float(self.scaling)
        scores = query @ key.transpose(0, 2, 1)
        if self.softcap is not None:
            scores = self.softcap * np.tanh(scores / self.softcap)
        if self.bias is not None:
            scores += self.bias[heads if len(self.bias) > 1 else slice(0, 1), rows, : rows.stop]
        else:
            # Without a window, the keys before the block are visible to all of its queries.
            first = 0 if self.window is not None else rows.start
            distance = np.arange(rows.start, rows.stop)[:, None] - np.arange(first, rows.stop)
            hidden = distance < 0
            if self.window is not None:
                hidden |= distance >= self.window
            np.copyto(scores[..., first:], -np.inf, where=hidden)
        if self.sinks is not None:
            sinks = self.sinks if self.sinks.ndim == 2 else self.sinks[:, None]
            sinks = sinks[heads, rows if sinks.shape[1] > 1 else slice(0, 1), None]
            column = np.broadcast_to(sinks.astype(scores.dtype), (*scores.shape[:2], 1))
            scores = np.concatenate([scores, column], axis=-1)
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores, out=scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        return weights[..., : rows.stop]


def bin_edges(tokens: int, bins: int | None) -> np.ndarray:
    """The first token of each of a text's bins, then the number of tokens: [bins + 1].

    A text of at most `bins` tokens has one bin per token, and so has any text if `bins` is None. In
    a longer text the first token has its own bin, and the others share bins whose sizes differ by
    at most one.
    """
    if bins is None or tokens <= bins:
        return np.arange(tokens + 1)
    return np.concatenate([[0], 1 + np.arange(bins) * (tokens - 1) // (bins - 1)])


@dataclass(frozen=True)
class BinnedMap:
    """The map of a long text between bins of its tokens.

    weights: [bins (query), bins (key)], see `compute_mean_map`.
    counts: [bins], the number of tokens in each; the first bin holds only the first token.
    """

    weights: np.ndarray
    counts: np.ndarray

    @property
    def tokens(self) -> int:
        return int(self.counts.sum())


def compute_mean_map(states: LayerStates, edges: np.ndarray) -> np.ndarray:
    """The weights averaged over heads, between bins of tokens: [bins (query), bins (key)].

    A cell is the total weight on the keys of its bin, averaged over the queries of its bin, so that
    rows still sum to 1. With one bin per token it is the map of the tokens themselves.

    edges: see `bin_edges`.
    """
    bins, tokens = len(edges) - 1, states.query.shape[1]
    bin_of = np.repeat(np.arange(bins), np.diff(edges))
    means = np.zeros((bins, bins), states.query.dtype if bins == tokens else np.float64)
    for rows, weights in states.iterate_mean_rows():
        if bins == tokens:
            means[rows, : rows.stop] = weights
            continue
        starts = edges[:-1][edges[:-1] < rows.stop]
        weights = np.add.reduceat(weights, starts, axis=1, dtype=np.float64)
        np.add.at(means[:, : weights.shape[1]], bin_of[rows], weights)
    if bins == tokens:
        return means
    return means / np.diff(edges)[:, None]


def find_masked(states: LayerStates, edges: np.ndarray) -> np.ndarray:
    """Whether no query of a cell may attend to any of its keys: [bins (query), bins (key)].

    edges: see `bin_edges`.
    """
    first, last = edges[:-1], edges[1:] - 1
    if states.bias is not None:
        visible = np.tril((states.bias > -np.inf).any(axis=0))
        for axis in (0, 1):
            visible = np.logical_or.reduceat(visible, first, axis=axis)
        return ~visible
    masked = last[:, None] < first
    if states.window is not None:
        masked |= first[:, None] - last >= states.window
    return masked


def find_equivalent(intervention: Intervention | None) -> Intervention | None:
    """One representative of all interventions that give the same map in their own layer.

    Scores are products of Query and Key, so scaling either gives the same. With the mean over
    features of either they are sum(query) * sum(key) / head_dim, unless a rotation follows. Value
    does not enter the map.
    """
    if intervention is None or intervention.component == "value":
        return None
    if intervention.operation == "scale" or (
        intervention.over == "features" and not intervention.unrotates
    ):
        return replace(intervention, component="query")
    return intervention


def mean_distance(states: LayerStates) -> float:
    """D (see `distance_to_uniform`) of the weights averaged over heads, computed in blocks."""
    tokens, total = states.query.shape[1], 0.0
    for rows, weights in states.iterate_mean_rows():
        position = np.arange(rows.start, rows.stop)
        uniform = (np.arange(rows.stop) <= position[:, None]) / (position[:, None] + 1)
        total += np.abs(weights - uniform).sum()
    return total / (tokens * (tokens + 1) / 2)


def explain_unknown_rotation(layer: int) -> str:
    """Why an intervention before rotary embedding is refused in a layer, and what to do."""
    return (
        f"the rotary embedding of layer {layer} is not of a form that can be undone (a norm "
        "follows it, or query and key are rotated apart, for example); take after_rotary"
    )


def sink_strength(weights: np.ndarray) -> np.ndarray:
    """F: the weight on the first token, averaged over all later queries; [..., T, T] -> [...].

    The first query is left out, since causality gives it a weight of 1 in any model.
    """
    return weights[..., 1:, 0].mean(axis=-1)


def key_importance(weights: np.ndarray) -> np.ndarray:
    """α: the weight on every key, averaged over the queries from it on; [..., T, T] -> [..., T].

    α_k = Σ_{i=k..T} A_ik / (T − k + 1), positions counted from 1 (Gu et al. 2025, arXiv 2410.10781,
    section 3.2). Unlike F it has the first query, whose weight on the first key is 1.
    """
    tokens = weights.shape[-1]
    return weights.sum(axis=-2, dtype=np.float64) / np.arange(tokens, 0, -1)


def uniform_causal(tokens: int) -> np.ndarray:
    """U: the causal map of equal scores, [T, T]; row i, counted from 1, holds i times 1/i."""
    return np.tril(np.ones((tokens, tokens))) / np.arange(1, tokens + 1)[:, None]


def distance_to_uniform(weights: np.ndarray) -> np.ndarray:
    """D: the mean of |A − U| over the lower triangle; [..., T, T] -> [...]."""
    tokens = weights.shape[-1]
    lower = np.tril_indices(tokens)
    return np.abs(weights - uniform_causal(tokens))[..., lower[0], lower[1]].mean(axis=-1)


def find_strongest_layer(states: Sequence[LayerStates]) -> int:
    """The layer of the largest F, averaged over heads and texts; the lowest of equal ones."""
    strength: dict[int, list[float]] = {}
    for state in states:
        strength.setdefault(state.layer, []).append(state.strength.mean())
    return max(sorted(strength), key=lambda layer: np.mean(strength[layer]))


def find_strongest_head(states: Sequence[LayerStates]) -> int:
    """The head of the largest F, averaged over texts, from the states of one layer."""
    return int(np.mean([state.strength for state in states], axis=0).argmax())
