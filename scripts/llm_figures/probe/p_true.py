"""P(true): the model is asked whether its own answer is true (Kadavath et al. 2022, section 3)."""

import math
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.core.errors import UserError
from llm_figures.inference.batching import (
    KERNEL_ROWS,
    batch_by_key,
    pad_batch,
    pad_sequence,
    padded_length,
    with_oom_backoff,
)
from llm_figures.inference.finite_outputs import check_logits
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.models.loading import context_length, input_device


def split_choices(
    tokenizer: PreTrainedTokenizerBase, true: str, false: str, key: str = "probe.p_true"
) -> tuple[list[int], int, int]:
    """The tokens with which two answers begin alike, and the first token in which each differs.

    key: of the config's table that names the answers, for messages.

    Raises:
        UserError: one answer is the beginning of the other.
    """
    texts = (true, false)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    for index, (left, right) in enumerate(zip(*ids, strict=False)):
        if left != right:
            return ids[0][:index], left, right
    raise UserError(
        f"config: {key}: {true!r} and {false!r} do not differ in a token of this model; "
        "choose other words for if_true and if_false"
    )


@torch.inference_mode()
def compute_p_true(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    true_token: int,
    false_token: int,
    *,
    batch_size: int,
    keys: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], list[float]]]:
    """Yield indices of prompts and P(true) / (P(true) + P(false)) of the next token, by batch.

    Batches are padded on the right, each prompt to a length that depends on its own alone, and its
    logits are read at its own last token. Batches are halved when CUDA runs out of memory.

    keys: the number of each prompt's question, for messages; by default the prompt's index.
    prefix: tokens with which every prompt begins, computed once; by default all that they share.

    Raises:
        UserError: logits that are not finite.
    """
    if not prompt_ids:
        return
    prefix = shared_prefix(prompt_ids) if prefix is None else prefix
    keys = range(len(prompt_ids)) if keys is None else keys
    cache = PrefixCache(model, prefix)
    start = len(cache.prefix)
    context, device = context_length(model), input_device(model)
    # A pass over a few hundred tokens is as fast for each as a larger one, and many prompts are
    # short, so little padding counts for more than full batches.
    widths = [padded_length(len(prompt), context, KERNEL_ROWS) for prompt in prompt_ids]

    def compute_batch(batch: list[int]) -> list[float]:
        width = widths[batch[0]]
        ids = torch.tensor(
            [pad_sequence(prompt_ids[index], width)[start:] for index in pad_batch(batch, device)],
            device=device,
        )
        # Counted from the end, of the padded length.
        last = [len(prompt_ids[index]) - 1 - width for index in batch]
        past = cache.for_one_pass(len(ids))
        logits = past.run(model, ids, logits_to_keep=-min(last)).logits
        logits = logits[range(len(batch)), last]
        check_logits(
            model,
            logits.float().logsumexp(dim=-1).tolist(),
            lambda row: f"where P(true) of the answer to question {keys[batch[row]]} is asked",
        )
        margins = (logits[:, true_token].float() - logits[:, false_token].float()).tolist()
        # One by one: torch's sigmoid rounds differently where a vector of eight is not full.
        return [1 / (1 + math.exp(min(-margin, 700))) for margin in margins]

    yield from with_oom_backoff(batch_by_key(widths, batch_size), compute_batch)
