"""Greedy answers to many questions: batched by length, the shared prompt computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.errors import UserError
from llm_figures.prefix import PrefixCache, shared_prefix


@dataclass(frozen=True)
class Generation:
    """An answer as it was generated.

    index: which prompt it answers.
    prompt_ids, answer_ids: token ids; the stop is not part of the answer.
    text: the answer's text; starts, ends: the characters [start, end) of each answer token.
    """

    index: int
    prompt_ids: list[int]
    answer_ids: list[int]
    text: str
    starts: list[int]
    ends: list[int]


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    longest: int | None,
    max_new_tokens: int,
) -> list[list[int]]:
    """Token ids of every prompt, with the special tokens the tokenizer itself adds.

    Raises:
        UserError: a prompt and its answer are longer than the model's context (`longest`).
    """
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for index, prompt in enumerate(ids):
        if longest and len(prompt) + max_new_tokens > longest:
            raise UserError(
                f"dataset: the prompt of question {index + 1} has {len(prompt)} tokens and its "
                f"answer up to {max_new_tokens}; the model takes {longest}: "
                f"{prompts[index][-80:]!r}; shorten or remove it"
            )
    return ids


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    *,
    stop: str,
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[list[Generation]]:
    """Yield greedy answers batch by batch; batches hold prompts of equal length, so no padding.

    An answer ends before `stop`, at the end-of-sequence token, or after `max_new_tokens`.
    """
    if not prompt_ids:
        return
    prefix = shared_prefix(prompt_ids)
    cache = PrefixCache(model, prefix)
    ends = _end_ids(model, tokenizer)
    for batch in equal_lengths(prompt_ids, batch_size):
        suffixes = torch.tensor(
            [prompt_ids[index][len(prefix) :] for index in batch], device=model.device
        )
        answers = _greedy(
            model,
            suffixes,
            cache.for_batch(len(batch)),
            lambda ids: ids[-1] in ends or stop in tokenizer.decode(ids),
            max_new_tokens,
        )
        yield [
            _generation(tokenizer, index, list(prompt_ids[index]), ids, ends, stop)
            for index, ids in zip(batch, answers, strict=True)
        ]


def equal_lengths(sequences: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Indices of `sequences` in batches of at most `batch_size`, each of one length.

    Sequences that begin alike are neighbours: their answers tend to be of one length, too.
    """
    lengths: dict[int, list[int]] = {}
    for index in sorted(range(len(sequences)), key=lambda index: sequences[index]):
        lengths.setdefault(len(sequences[index]), []).append(index)
    return [
        indices[start : start + batch_size]
        for _, indices in sorted(lengths.items())
        for start in range(0, len(indices), batch_size)
    ]


def _greedy(model, suffixes, cache, is_finished, max_new_tokens) -> list[list[int]]:
    """Greedy continuations of `suffixes` [batch, tokens] on top of `cache`.

    Finished sequences leave the batch, so the rest does not wait on their account.
    """
    answers: list[list[int]] = [[] for _ in suffixes]
    running = list(range(len(suffixes)))
    ids = suffixes
    for _ in range(max_new_tokens):
        logits = model(
            input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits
        ids = logits[:, -1].argmax(dim=-1, keepdim=True)
        for row, token in zip(running, ids[:, 0].tolist(), strict=True):
            answers[row].append(token)
        keep = [at for at, row in enumerate(running) if not is_finished(answers[row])]
        if not keep:
            break
        if len(keep) < len(running):
            rows = torch.tensor(keep, device=ids.device)
            cache.batch_select_indices(rows)
            ids = ids[rows]
            running = [running[at] for at in keep]
    return answers


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return {end for end in [*ends, tokenizer.eos_token_id] if end is not None}


def _generation(tokenizer, index, prompt_ids, ids, ends, stop) -> Generation:
    """Cut an answer at its stop and find the characters of each token.

    The offsets come from decoding the ids that were generated, never from tokenizing the text
    again. A token that carries text before the stop stays; its text is cut.
    """
    if ids and ids[-1] in ends:
        ids = ids[:-1]
    text = tokenizer.decode(ids)
    offsets = [len(_common(tokenizer.decode(ids[:count]), text)) for count in range(len(ids) + 1)]
    offsets[-1] = len(text)
    if (cut := text.find(stop)) >= 0:
        text = text[:cut]
    # A token that ends inside a character covers the character it begins.
    spans = [
        (start, min(max(end, start + 1), len(text)))
        for start, end in pairwise(offsets)
        if start < len(text)
    ]
    return Generation(
        index=index,
        prompt_ids=prompt_ids,
        answer_ids=ids[: len(spans)],
        text=text,
        starts=[start for start, _ in spans],
        ends=[end for _, end in spans],
    )


def _common(left: str, right: str) -> str:
    """Common beginning; a token may end inside a character that the next one completes."""
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return left[:length]
