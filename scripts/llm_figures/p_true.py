"""P(true): the model asked whether its own answer is true (Kadavath et al. 2022, section 3)."""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.errors import UserError
from llm_figures.generation import equal_lengths
from llm_figures.prefix import PrefixCache, shared_prefix


def choice_tokens(tokenizer: PreTrainedTokenizerBase, choices: Sequence[str]) -> list[int]:
    """The first token of each choice.

    Raises:
        UserError: choices that begin with the same token cannot be told apart.
    """
    tokens = [
        next(iter(tokenizer(choice, add_special_tokens=False)["input_ids"]), None)
        for choice in choices
    ]
    if None in tokens or len(set(tokens)) < len(tokens):
        shown = " and ".join(map(repr, choices))
        raise UserError(
            f"config: probe.p_true: {shown} begin with the same token for this model; "
            "choose other words for if_true and if_false"
        )
    return tokens


@torch.inference_mode()
def p_true(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    true_token: int,
    false_token: int,
    *,
    batch_size: int,
) -> Iterator[tuple[list[int], list[float]]]:
    """Yield indices of prompts and P(true) / (P(true) + P(false)) of the next token, by batch."""
    if not prompt_ids:
        return
    prefix = shared_prefix(prompt_ids)
    cache = PrefixCache(model, prefix)
    for batch in equal_lengths(prompt_ids, batch_size):
        ids = torch.tensor(
            [prompt_ids[index][len(prefix) :] for index in batch], device=model.device
        )
        logits = model(
            input_ids=ids,
            past_key_values=cache.for_batch(len(batch)),
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        share = torch.sigmoid(logits[:, true_token].float() - logits[:, false_token].float())
        yield batch, share.tolist()
