"""Forward passes over sequences with a common prefix, which goes through the model once."""

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from llm_figures.core.job import log
from llm_figures.inference.batching import KERNEL_ROWS
from llm_figures.inference.rows import EqualRows, Rows, find_reach
from llm_figures.models.loading import context_length, decoder, input_device

# Tokens after the prefix with which a cache is tried.
TRIED = 8
# Largest difference of hidden states with and without a cache, relative to their norm; more where
# states differ by half of it between passes that differ in nothing but their rounding.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
LOW_PRECISION = 0.02


def shared_prefix(sequences: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix that leaves each sequence at least its last token.

    Its length is a multiple of `KERNEL_ROWS` (see `batching`).
    """
    # What the first and the last in lexical order share, all share.
    first, last = min(map(list, sequences)), max(map(list, sequences))
    length = min(common_length(first, last), min(map(len, sequences)) - 1)
    return first[: length - length % KERNEL_ROWS]


def common_length(left: Sequence, right: Sequence) -> int:
    """The length of the common prefix of two sequences, or texts."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


def has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether a model keeps nothing but keys and values, through which gradients flow."""
    layers = DynamicCache(config=model.config).layers
    return all(
        isinstance(layer, DynamicLayer) and not isinstance(layer, LinearAttentionCacheLayerMixin)
        for layer in layers
    )


class PrefixCache:
    """What a model keeps of a prefix, given to batches of sequences that continue it.

    prefix: the tokens whose passes are kept; none where the model's cache is not reliable.

    Before it is used, the cache is tried: passes that continue others through it must give what one
    pass over all tokens gives. Where they do not, every pass runs over whole sequences.
    """

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel, prefix: Sequence[int]):
        self._model = model
        self.prefix = list(prefix)
        self._cache = DynamicCache(config=model.config)
        # The tokens with which caches are tried.
        ids = [*self.prefix, *range(1, TRIED + 1)][: context_length(model)]
        self._tried = ids[len(self.prefix) :]

        def try_cache() -> float:
            if self.prefix:
                _run(model, self.prefix, past_key_values=self._cache, use_cache=True)
            expected = _run(model, ids, use_cache=False)
            self._reliable = True
            self._expected = expected[0, len(self.prefix) :].float()
            return self._measure_difference()

        reason = self._find_fault(try_cache)
        self._reliable = not reason
        if reason:
            log.info(
                "models of type %s are run over whole sequences, without a cache of earlier tokens "
                "(%s)",
                model.config.model_type,
                reason,
            )
            self.prefix = []

    def for_batch(self, size: int) -> "Continuation":
        """The prefix for `size` sequences, which further passes extend."""
        return self._continue(size, DynamicCache)

    def for_one_pass(self, size: int) -> "Continuation":
        """The prefix for a single pass, of which nothing is kept."""
        return self._continue(size, _OnePassCache)

    def mixes(self, length: int) -> bool:
        """Whether sequences of up to `length` tokens share a batch with shorter ones."""
        return length <= self._reach

    def open_rows(self, mixed: bool) -> Rows | EqualRows:
        """No rows yet, each of which is to continue the prefix. mixed: in any length."""
        if mixed:
            return Rows(self._model, self.prefix, self._cache.layers)
        return EqualRows(self._model, self.for_batch)

    @cached_property
    def _reach(self) -> int:
        """The longest sequence that can be one of `Rows`; 0 where these give other states."""
        reach = find_reach(self._model) if self._reliable else 0
        if reach < len(self.prefix) + TRIED or len(self._tried) < TRIED:
            return 0
        reason = self._find_fault(self._measure_difference_of_rows)
        if not reason:
            return reach
        log.info(
            "models of type %s continue only sequences of one length in a batch (%s)",
            self._model.config.model_type,
            reason,
        )
        return 0

    def _find_fault(self, measure: Callable[[], float]) -> str:
        """Why a cache is not reliable; "" if the difference that `measure` returns is small."""
        try:
            difference = measure()
            tolerance = TOLERANCE.get(self._model.dtype, LOW_PRECISION)
            if difference <= tolerance or difference <= 2 * self._rounding:
                return ""
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (
            RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError
        ) as error:  # fmt: skip
            return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        return f"with it hidden states differ by {difference:.2g}"

    def _measure_difference(self) -> float:
        """The difference of the tried tokens' hidden states with and without the cache.

        Two equal sequences are run in three passes. The difference is relative to the states' norm.
        """
        rest = torch.tensor([self._tried] * 2, device=input_device(self._model))
        past, found = self.for_batch(2), []
        for part in rest.split([TRIED - 2, 1, 1] if len(rest[0]) == TRIED else len(rest[0]), dim=1):
            found.append(past.run(decoder(self._model), part)[0])
            past.select(torch.tensor([1, 0]))
        return _differ(torch.cat(found, dim=1).float(), self._expected)

    @torch.inference_mode()
    def _measure_difference_of_rows(self) -> float:
        """The same of two beginnings of the tried tokens, of unequal length."""
        rows, found, expected = self.open_rows(mixed=True), [], []

        def run(*places: int) -> None:
            states = rows.run(decoder(self._model), [self._tried[place] for place in places])[0]
            found.append(states[: len(places), 0].float())
            expected.append(self._expected[list(places)])

        rows.add([self._tried[:3], self._tried[:1]])
        run(3, 1)
        rows.select([1, 0, 1])
        run(2, 4, 2)
        return _differ(torch.cat(found), torch.cat(expected))

    @cached_property
    def _rounding(self) -> float:
        """The difference that further tokens make, which causal attention does not see."""
        ids = [*self.prefix, *self._tried]
        longer = [*ids, *ids[-3:]][: context_length(self._model)]
        again = _run(self._model, longer, use_cache=False)[0, len(self.prefix) : len(ids)]
        return _differ(again.float(), self._expected)

    def _continue(self, size: int, kind: type[DynamicCache]) -> "Continuation":
        if not self._reliable:
            return Continuation(None)
        cache = kind(config=self._model.config)
        cache.layers = copy.deepcopy(self._cache.layers)
        for layer in cache.layers if self.prefix else []:
            _map_states(layer, 1, partial(_expand, size))
        return Continuation(cache)


class Continuation:
    """Passes of a batch of sequences, each of which continues the one before."""

    def __init__(self, cache: DynamicCache | None):
        self._cache = cache
        self._ids: torch.Tensor | None = None  # so far, where there is no cache

    def run(self, module: torch.nn.Module, ids: torch.Tensor, **options):
        """Run a model, or its decoder, over the next tokens [batch, tokens]."""
        if self._cache is not None:
            return module(input_ids=ids, past_key_values=self._cache, use_cache=True, **options)
        self._ids = ids if self._ids is None else torch.cat([self._ids, ids], dim=1)
        return module(input_ids=self._ids, use_cache=False, **options)

    def select(self, rows: torch.Tensor) -> None:
        """Go on with some sequences of the batch."""
        if self._cache is None:
            self._ids = self._ids[rows]
            return
        for layer in self._cache.layers:
            _map_states(layer, None, lambda name, states: states[rows])


class _OnePassCache(DynamicCache):
    """Drops the keys and values of the pass itself: with a large batch, those of all layers would
    take more memory than everything else.
    """

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        layer = self.layers[layer_idx]
        prefix = layer.keys, layer.values
        states = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if prefix[0] is not None:  # without a prefix, later layers ask for the length of this one
            layer.keys, layer.values = prefix
        return states


def _expand(size: int, name: str, states: torch.Tensor) -> torch.Tensor:
    # Views of keys and values: a layer's copies for the batch are made when it is reached. Other
    # states are written in place.
    expanded = states.expand(size, *states.shape[1:])
    return expanded if name in ("keys", "values") else expanded.clone()


def _map_states(layer, batch: int | None, function: Callable) -> None:
    """Replace the states of one layer's cache by function(name, states).

    They are tensors [batch, …] of two axes at least (keys, values, keys of an indexer), by
    themselves or in a dict (convolutions and recurrent states of linear attention). batch: their
    first axis; None for any.
    """

    def change(name, value):
        if isinstance(value, dict):
            return {key: change(name, one) for key, one in value.items()}
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            return value
        return value if batch not in (None, value.shape[0]) else function(name, value)

    for name, value in vars(layer).items():
        setattr(layer, name, change(name, value))


def _run(model: PreTrainedModel, ids: Sequence[int], **options) -> torch.Tensor:
    """The last hidden states of one sequence."""
    ids = torch.tensor([list(ids)], device=input_device(model))
    return decoder(model)(input_ids=ids, **options)[0]


def _differ(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
