"""Forward passes over sequences with a common prefix, which goes through the model once."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from llm_figures.core.job import log
from llm_figures.inference.batching import KERNEL_ROWS
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
        try:
            if self.prefix:
                _run(model, self.prefix, past_key_values=self._cache, use_cache=True)
            self._reliable = True
            difference, rounding = self._measure_difference()
            reason = f"with it hidden states differ by {difference:.2g}"
            tolerance = max(TOLERANCE.get(model.dtype, LOW_PRECISION), 2 * rounding)
            self._reliable = difference <= tolerance
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            self._reliable = False
        if not self._reliable:
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

    def _measure_difference(self) -> tuple[float, float]:
        """The difference of hidden states with and without the cache, and that of their rounding.

        They are those of some tokens after the prefix, which two equal sequences run in three
        passes. Rounding is what further tokens change, which causal attention does not see. Both
        are relative to the states' norm.
        """
        ids = [*self.prefix, *range(1, TRIED + 1)][: context_length(self._model)]
        expected = _run(self._model, ids, use_cache=False)[:, -TRIED:].float()
        rest = torch.tensor([ids[len(self.prefix) :]] * 2, device=input_device(self._model))
        past, found = self.for_batch(2), []
        for part in rest.split([TRIED - 2, 1, 1] if len(rest[0]) == TRIED else len(rest[0]), dim=1):
            found.append(past.run(decoder(self._model), part)[0])
            past.select(torch.tensor([1, 0]))
        longer = [*ids, *ids[-3:]][: context_length(self._model)]
        again = _run(self._model, longer, use_cache=False)[:, : len(ids)].float()
        expected, again = (states[:, -len(rest[0]) :] for states in (expected, again))
        found = torch.cat(found, dim=1).float()
        return tuple(
            float((states - expected).norm() / expected.norm()) for states in (found, again)
        )

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
