"""Passes over sequences that begin alike: the shared prefix goes through the model once."""

import copy
from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from llm_figures.inference.batching import KERNEL_ROWS
from llm_figures.models.loading import decoder, input_device


def shared_prefix(sequences: Sequence[Sequence[int]]) -> list[int]:
    """The longest common beginning, short of the last token of the shortest sequence.

    In whole fours of tokens (see `batches`).
    """
    longest = min(len(sequence) for sequence in sequences) - 1
    first = sequences[0]
    length = 0
    while length < longest and all(sequence[length] == first[length] for sequence in sequences):
        length += 1
    return list(first[: length - length % KERNEL_ROWS])


class PrefixCache:
    """The key–value cache of a prefix, handed out to batches of continuations."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel, prefix: Sequence[int]):
        self.length = len(prefix)
        self._model = model
        self._cache = DynamicCache(config=model.config)
        if prefix:
            ids = torch.tensor([list(prefix)], device=input_device(model))
            decoder(model)(input_ids=ids, past_key_values=self._cache, use_cache=True)

    def for_batch(self, size: int) -> DynamicCache:
        """A cache of the prefix for `size` sequences, free to be extended."""
        return self._for(size, DynamicCache(config=self._model.config))

    def for_one_pass(self, size: int) -> DynamicCache:
        """The same for a single pass, after which what it added is not needed."""
        return self._for(size, _OnePass(config=self._model.config))

    def _for(self, size: int, cache: DynamicCache) -> DynamicCache:
        cache.layers = copy.deepcopy(self._cache.layers)
        for layer in cache.layers if self.length else []:
            # Views: each layer's copies for the batch are made when the layer is reached.
            layer.keys = layer.keys.expand(size, -1, -1, -1)
            layer.values = layer.values.expand(size, -1, -1, -1)
        return cache


class _OnePass(DynamicCache):
    """A cache that keeps nothing of the pass: of a large batch the keys and values of all layers
    take more memory than all else.
    """

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        layer = self.layers[layer_idx]
        before = layer.keys, layer.values
        found = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if before[0] is not None:  # else there is no prefix, and a length is asked of what is there
            layer.keys, layer.values = before
        return found
