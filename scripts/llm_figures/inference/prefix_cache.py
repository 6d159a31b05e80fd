"""Forward passes over sequences with a common prefix, which goes through the model once."""

import copy
from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from llm_figures.inference.batching import KERNEL_ROWS
from llm_figures.models.loading import decoder, input_device


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


class PrefixCache:
    """The key–value cache of a prefix, given to batches of sequences that continue it."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel, prefix: Sequence[int]):
        self.length = len(prefix)
        self._model = model
        self._cache = DynamicCache(config=model.config)
        if prefix:
            ids = torch.tensor([list(prefix)], device=input_device(model))
            decoder(model)(input_ids=ids, past_key_values=self._cache, use_cache=True)

    def for_batch(self, size: int) -> DynamicCache:
        """A cache of the prefix for `size` sequences, which generation extends."""
        return self._expand(size, DynamicCache(config=self._model.config))

    def for_one_pass(self, size: int) -> DynamicCache:
        """A cache of the prefix for a single pass, which keeps nothing of that pass."""
        return self._expand(size, _OnePassCache(config=self._model.config))

    def _expand(self, size: int, cache: DynamicCache) -> DynamicCache:
        cache.layers = copy.deepcopy(self._cache.layers)
        for layer in cache.layers if self.length else []:
            # Views: each layer's copies for the batch are made when the layer is reached.
            layer.keys = layer.keys.expand(size, -1, -1, -1)
            layer.values = layer.values.expand(size, -1, -1, -1)
        return cache


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
