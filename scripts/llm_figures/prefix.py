"""Passes over sequences that begin alike: the shared prefix goes through the model once."""

import copy
from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from llm_figures.models import decoder, input_device


def shared_prefix(sequences: Sequence[Sequence[int]]) -> list[int]:
    """The longest common beginning, short of the last token of the shortest sequence."""
    longest = min(len(sequence) for sequence in sequences) - 1
    first = sequences[0]
    length = 0
    while length < longest and all(sequence[length] == first[length] for sequence in sequences):
        length += 1
    return list(first[:length])


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
        cache = copy.deepcopy(self._cache)
        if self.length:
            cache.batch_repeat_interleave(size)
        return cache
