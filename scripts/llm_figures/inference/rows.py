"""Sequences side by side in a batch, each continued token by token.

`Rows` holds sequences of any length. What they all begin with is kept once, not per row. Each row
has room for the keys and values of its own tokens, which are written in place. A row that becomes
free is taken by another sequence. Attention to the prefix is one matrix product for all rows
(Juravsky et al. 2024, https://arxiv.org/abs/2402.05099). Attention within a row goes block by block
of keys, and a block that the row has not reached adds exact zeros. So no bit of a row depends on
the other rows, their number or their lengths.

`EqualRows` holds sequences of equal length, for models that keep other states than keys and values
or have an attention of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from llm_figures.inference.batching import (
    KERNEL_ROWS,
    pad_batch,
    pad_sequence,
    padded_length,
)
from llm_figures.models.loading import context_length, decoder, input_device

ATTENTION = "llm_figures_rows"
# Keys of the first and of the largest blocks.
SMALLEST, LARGEST = 32, 512
# Rotary embeddings whose frequencies follow from the longest sequence of the batch.
CHANGING_ROPES = ("dynamic", "longrope")
# What attention functions are given in some families and `attend_rows` does not know.
UNKNOWN = ("position_bias", "s_aux", "cache", "head_mask")


def find_reach(model: PreTrainedModel) -> int:
    """The length up to which sequences can be rows of unequal length, by the model's config.

    It is 0 for models that keep other states than keys and values, and the window where a layer has
    one: within it, attention is that of a layer without.
    """
    config = model.config.get_text_config(decoder=True)
    if any(rope in str(getattr(config, "rope_parameters", "")) for rope in CHANGING_ROPES):
        return 0
    reach = 2**62
    for layer in DynamicCache(config=model.config).layers:
        if type(layer) is DynamicSlidingWindowLayer:
            reach = min(reach, layer.sliding_window)
        elif type(layer) is not DynamicLayer:
            return 0
    return reach


class Rows:
    """Sequences of any length that continue a common prefix."""

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int], layers: Sequence):
        """layers: the cache of the prefix, one entry per layer."""
        self._model, self._device = model, input_device(model)
        self._places = _Places(len(prefix))
        self._cache = Cache(layers=[_RowsLayer(layer, self._places) for layer in layers])
        self._lengths: list[int] = []  # tokens of each row whose keys and values are kept

    def add(self, sequences: Sequence[Sequence[int]]) -> None:
        """Add rows; each sequence is what follows the prefix, its last token excepted.

        Sequences of about one length go through the model together, padded at their end to a
        length that depends on their own alone.
        """
        context = context_length(self._model)
        room = context and context - self._places.prefix
        widths = [len(one) and padded_length(len(one), room, KERNEL_ROWS) for one in sequences]
        first = len(self._lengths)
        for width in sorted({*widths} - {0}):
            at = [row for row, own in enumerate(widths) if own == width]
            ids = [pad_sequence(sequences[row], width) for row in at]
            self._places.fill([first + row for row in at])
            decoder(self._model)(
                input_ids=torch.tensor(pad_batch(ids, self._device), device=self._device),
                past_key_values=self._cache,
                use_cache=True,
            )
        self._lengths += map(len, sequences)

    def run(self, module: torch.nn.Module, tokens: Sequence[int], **options):
        """Run a model, or its decoder, over the next token of each row.

        The batch of the output may have further rows, without meaning.
        """
        self._places.write(pad_batch(self._lengths, self._device))
        ids = torch.tensor(pad_batch(tokens, self._device), device=self._device)
        positions = self._places.columns.to(self._device) + self._places.prefix
        with _attention_of_rows(self._model):
            output = module(
                input_ids=ids[:, None],
                position_ids=positions[:, None],
                past_key_values=self._cache,
                use_cache=True,
                **options,
            )
        self._lengths = [length + 1 for length in self._lengths]
        return output

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one may be named several times."""
        moves = [(row, at) for at, row in enumerate(rows) if at != row]
        self._lengths = [self._lengths[row] for row in rows]
        if moves:
            sources, targets = zip(*moves, strict=True)
            width = max(self._lengths)
            for layer in self._cache.layers:
                layer.move(sources, targets, width)


class EqualRows:
    """Sequences of one length, which are all added at once; otherwise as `Rows`.

    start: from a number of rows to their `prefix_cache.Continuation`.
    """

    def __init__(self, model: PreTrainedModel, start: Callable):
        self._start, self._device = start, input_device(model)

    def add(self, sequences: Sequence[Sequence[int]]) -> None:
        ids = pad_batch([list(one) for one in sequences], self._device)
        # They wait for the first token, so that a prompt is one pass.
        self._waiting = torch.tensor(ids, device=self._device, dtype=torch.long)
        self._past = self._start(len(ids))

    def run(self, module: torch.nn.Module, tokens: Sequence[int], **options):
        ids = torch.tensor(pad_batch(tokens, self._device), device=self._device)[:, None]
        ids, self._waiting = torch.cat([self._waiting, ids], dim=1), ids[:, :0]
        return self._past.run(module, ids, **options)

    def select(self, rows: Sequence[int]) -> None:
        keep = pad_batch(rows, self._device) if rows else []
        if rows and keep != list(range(len(self._waiting))):
            # On the CPU: layers may be on several devices.
            self._past.select(torch.tensor(keep))
            self._waiting = self._waiting[keep]


def settle(sources: Sequence[int]) -> list[int]:
    """An order of `sources` in which as many rows as possible stay where they are."""
    order: list[int | None] = [None] * len(sources)
    moving = []
    for index, row in enumerate(sources):
        if row < len(order) and order[row] is None:
            order[row] = index
        else:
            moving.append(index)
    rest = iter(moving)
    return [next(rest) if index is None else index for index in order]


class _Places:
    """Where all layers write the tokens of a pass, and what attention sees of them.

    prefix: its number of tokens. A row's own tokens are in the columns 0, 1, … after it.
    """

    def __init__(self, prefix: int):
        self.prefix = prefix
        self.filled: list[int] | None = None  # rows that a pass over several tokens fills
        self.columns = torch.empty(0, dtype=torch.long)  # of the next token of each row

    def fill(self, rows: list[int]) -> None:
        self.filled = rows

    def write(self, columns: Sequence[int]) -> None:
        self.filled = None
        self.columns = torch.tensor(columns)
        *_, (_, self.width) = _blocks(max(columns) + 1)
        unreached = torch.arange(self.width) > self.columns[:, None]
        self._unreached = {torch.device("cpu"): unreached[:, None, None]}

    def unreached(self, device: torch.device) -> Tensor:
        """[rows, 1, 1, columns]: whether a column is after a row's last token."""
        if device not in self._unreached:
            self._unreached[device] = self._unreached[torch.device("cpu")].to(device)
        return self._unreached[device]


class _RowsLayer(CacheLayerMixin):
    """Keys and values of one layer: the prefix's [1, heads, tokens, size] and the rows' own
    [rows, heads, columns, size].
    """

    is_sliding = False

    def __init__(self, layer: DynamicLayer, places: _Places):
        super().__init__()
        self.places = places
        self._prefix = (layer.keys, layer.values) if places.prefix else None
        self._shared: tuple[Tensor, Tensor] | None = None

    def shared(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the prefix in the precision of attention, [heads, tokens, size]."""
        if self._shared is None:
            self._shared = tuple(_widen(states[0]) for states in self._prefix)
        return self._shared

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        new = key_states, value_states
        if (rows := self.places.filled) is not None:
            self._reserve(max(rows) + 1, key_states.shape[2], new)
            for own, states in zip((self.keys, self.values), new, strict=True):
                own[rows, :, : states.shape[2]] = states[: len(rows)]
            if self._prefix is None:
                return new
            return tuple(
                torch.cat([prefix.expand(len(states), -1, -1, -1), states], dim=2)
                for prefix, states in zip(self._prefix, new, strict=True)
            )
        columns, width = self.places.columns.to(key_states.device), self.places.width
        self._reserve(len(columns), width, new)
        rows = torch.arange(len(columns), device=key_states.device)
        for own, states in zip((self.keys, self.values), new, strict=True):
            own[rows, :, columns] = states[:, :, 0]
        keys, values = (own[: len(columns), :, :width] for own in (self.keys, self.values))
        keys.rows_layer = self  # for attend_rows
        return keys, values

    def move(self, sources: Sequence[int], targets: Sequence[int], width: int) -> None:
        """Copy the first columns of some rows to others."""
        if not self.is_initialized:
            return
        self._reserve(max(targets) + 1, width, (self.keys, self.values))
        for own in (self.keys, self.values):
            own[list(targets), :, :width] = own[list(sources), :, :width]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return self.places.prefix

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.places.prefix + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def _reserve(self, rows: int, columns: int, like: tuple[Tensor, Tensor]) -> None:
        """Make room for so many rows and columns, whose states are `like` these."""
        have = self.keys.shape if self.is_initialized else (0, 0, 0)
        if rows <= have[0] and columns <= have[2]:
            return
        *_, (_, columns) = _blocks(max(columns, have[2]))
        grown = []
        for own, states in zip((self.keys, self.values), like, strict=True):
            heads, size = states.shape[1], states.shape[3]
            # zeros: what was never written is multiplied by zero, which NaN would survive
            new = states.new_zeros(max(rows, have[0]), heads, columns, size)
            if own is not None:
                new[: have[0], :, : have[2]] = own
            grown.append(new)
        self.keys, self.values = grown
        self.is_initialized = True


def attend_rows(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **options,
) -> tuple[Tensor, None]:
    """Attention of one new token of each row, in float32 at least.

    query: [rows, heads, 1, size].
    key, value: [rows, key-value heads, columns, size], those of the rows' own tokens.
    Returns [rows, 1, heads, size].

    Raises:
        NotImplementedError: an option that it does not know, or keys of another kind.
    """
    given = [name for name in UNKNOWN if options.get(name) is not None]
    if given or dropout or attention_mask is not None:
        raise NotImplementedError(f"attention with {', '.join(given) or 'a mask or dropout'}")
    layer = getattr(key, "rows_layer", None)
    if layer is None:
        raise NotImplementedError("attention to other keys than the cache gives")
    rows, heads, _, size = query.shape
    shared = key.shape[1]  # key-value heads
    scaling = size**-0.5 if scaling is None else scaling
    query = (_widen(query) * scaling).reshape(rows, shared, heads // shared, size)

    def score(query: Tensor, keys: Tensor) -> Tensor:
        scores = query @ keys.transpose(-1, -2)
        return scores if softcap is None else (scores / softcap).tanh() * softcap

    unreached = layer.places.unreached(query.device)
    parts = [
        (
            score(query, _widen(key[:, :, start:end])).masked_fill_(
                unreached[..., start:end], -torch.inf
            ),
            _widen(value[:, :, start:end]),
        )
        for start, end in _blocks(key.shape[2])
    ]
    if layer.places.prefix:
        keys, values = layer.shared()
        # All rows and the heads of a group are the rows of one product: [groups, rows × heads, …]
        flat = query.transpose(0, 1).reshape(shared, -1, size)
        scores = score(flat, keys).reshape(shared, rows, heads // shared, -1).transpose(0, 1)
        parts.append((scores, values))
    highest = torch.stack([scores.amax(dim=-1, keepdim=True) for scores, _ in parts]).amax(dim=0)
    total = output = 0
    for scores, values in parts:
        weights = (scores - highest).exp_()
        total = total + weights.sum(dim=-1, keepdim=True)
        if values.ndim == 3:
            flat = weights.transpose(0, 1).reshape(shared, -1, weights.shape[-1]) @ values
            product = flat.reshape(shared, rows, heads // shared, -1).transpose(0, 1)
        else:
            product = weights @ values
        output = output + product
    output = (output / total).to(value.dtype)  # [rows, groups, heads, size]
    return output.reshape(rows, 1, heads, -1), None


AttentionInterface.register(ATTENTION, attend_rows)


@contextmanager
def _attention_of_rows(model: PreTrainedModel) -> Iterator[None]:
    config = decoder(model).config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def _blocks(columns: int) -> list[tuple[int, int]]:
    """Blocks [start, end) of at least so many columns: 32, 32, 64, 128, 256, then 512 each."""
    blocks, start, size = [], 0, SMALLEST
    while start < columns:
        blocks.append((start, start + size))
        start += size
        size = min(max(start, SMALLEST), LARGEST)
    return blocks


def _widen(states: Tensor) -> Tensor:
    return states if states.dtype is torch.float64 else states.float()
