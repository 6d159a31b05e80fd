"""P(true): the model asked whether its own answer is true (Kadavath et al. 2022, section 3)."""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.batches import halved_on_demand
from llm_figures.errors import UserError
from llm_figures.generation import equal_lengths
from llm_figures.models import input_device
from llm_figures.prefix import PrefixCache, shared_prefix


def choice_tokens(
    tokenizer: PreTrainedTokenizerBase, true: str, false: str
) -> tuple[list[int], int, int]:
    """Where two answers part: the tokens they begin with alike, and the next one of each.

    Raises:
        UserError: one is the beginning of the other.
    """
    texts = (true, false)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    for at, (left, right) in enumerate(zip(*ids, strict=False)):
        if left != right:
            return ids[0][:at], left, right
    raise UserError(
        f"config: probe.p_true: {true!r} and {false!r} do not part for this model; choose other "
        "words for if_true and if_false"
    )


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

    def shares(batch: list[int]) -> list[float]:
        ids = torch.tensor(
            [prompt_ids[index][len(prefix) :] for index in batch], device=input_device(model)
        )
        logits = model(
            input_ids=ids,
            past_key_values=cache.for_batch(len(batch)),
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return torch.sigmoid(
            logits[:, true_token].float() - logits[:, false_token].float()
        ).tolist()

    yield from halved_on_demand(equal_lengths(prompt_ids, batch_size), shares)
