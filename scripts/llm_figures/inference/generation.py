"""Answers to many questions: batched by length, the shared prompt computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.inference.batching import filled, of_one_key, with_oom_backoff
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.models.loading import input_device


@dataclass(frozen=True)
class Generation:
    """An answer as it was generated.

    index: which prompt it answers.
    prompt_ids, answer_ids: token ids; the stop is not part of the answer.
    text: the answer's text; starts, ends: the characters [start, end) of each answer token.
    log_probabilities: natural log of what the model gave each answer token, before any temperature.
    """

    index: int
    prompt_ids: list[int]
    answer_ids: list[int]
    text: str
    starts: list[int]
    ends: list[int]
    log_probabilities: list[float]


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    temperature: 0 takes the likeliest token; above 0 samples from the softmax of logits /
    temperature, cut to the likeliest tokens that together have probability `top_p` (Holtzman et
    al. 2020, nucleus sampling).
    seed: with a prompt's key it fixes that prompt's draws, whatever the batch it is in.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def choose(self, logits: torch.Tensor, draws: Sequence[np.random.Generator]) -> torch.Tensor:
        """Next tokens [batch, 1] for logits [batch, vocabulary]; draws: one generator per row."""
        if self.temperature == 0:
            return logits.argmax(dim=-1, keepdim=True)
        probabilities = torch.softmax(logits.cpu().double() / self.temperature, dim=-1)
        likeliest, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        total = likeliest.cumsum(dim=-1)
        # The nucleus is the shortest head that reaches top_p.
        mass = torch.where(total - likeliest < self.top_p, total, 0).amax(dim=-1, keepdim=True)
        at = torch.tensor([[draw.random()] for draw in draws], dtype=torch.float64) * mass
        chosen = torch.searchsorted(total, at, right=True).clamp_max(total.shape[-1] - 1)
        return tokens.gather(-1, chosen).to(logits.device)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    *,
    stop: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    decoding: Decoding = Decoding(),
    keys: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
) -> Iterator[list[Generation]]:
    """Yield answers batch by batch; batches hold prompts of equal length, so no padding.

    An answer ends before any string of `stop`, at the model's end of text, or after
    `max_new_tokens`. Where CUDA runs out of memory, batches are halved. keys: one number per
    prompt, for sampling (see `Decoding`); by default its place in `prompt_ids`. prefix: tokens with
    which every prompt begins, computed once; by default all that they share.
    """
    if not prompt_ids:
        return
    prefix = shared_prefix(prompt_ids) if prefix is None else prefix
    cache = PrefixCache(model, prefix)
    ends = _end_ids(model, tokenizer)
    place = input_device(model)

    def finished(ids: list[int]) -> bool:
        if ids[-1] in ends:
            return True
        text = tokenizer.decode(ids) if stop else ""
        return any(string in text for string in stop)

    def answers(batch: list[int]) -> list[tuple[list[int], list[float]]]:
        suffixes = torch.tensor(
            [prompt_ids[index][len(prefix) :] for index in filled(batch, place)], device=place
        )
        draws = [
            np.random.default_rng([decoding.seed, keys[index] if keys is not None else index])
            for index in batch
        ]
        return _continuations(
            model,
            suffixes,
            cache.for_batch(len(suffixes)),
            len(batch),
            lambda logits, rows: decoding.choose(logits, [draws[row] for row in rows]),
            finished,
            max_new_tokens,
        )

    for batch, said in with_oom_backoff(equal_lengths(prompt_ids, batch_size), answers):
        yield [
            _generation(tokenizer, index, list(prompt_ids[index]), ids, logs, ends, stop)
            for index, (ids, logs) in zip(batch, said, strict=True)
        ]


def equal_lengths(sequences: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Indices of `sequences` in batches of at most `batch_size`, each of one length.

    Sequences that begin alike are neighbours: their answers tend to be of one length, too.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    batches = of_one_key([len(sequences[index]) for index in order], batch_size)
    return [[order[at] for at in batch] for batch in batches]


def _continuations(
    model, suffixes, cache, count, choose, is_finished, max_new_tokens
) -> list[tuple[list[int], list[float]]]:
    """Tokens that follow each of the first `count` of `suffixes` [batch, tokens] on top of `cache`,
    and their log probabilities; the others fill the batch up.

    Finished sequences leave the batch, so the rest does not wait on their account.
    """
    answers: list[tuple[list[int], list[float]]] = [([], []) for _ in range(count)]
    running = list(range(count))
    ids = suffixes
    for _ in range(max_new_tokens):
        logits = model(
            input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[: len(running), -1]
        ids = choose(logits, running)
        logs = logits.gather(-1, ids)[:, 0].float() - logits.float().logsumexp(dim=-1)
        for row, token, log in zip(running, ids[:, 0].tolist(), logs.tolist(), strict=True):
            answers[row][0].append(token)
            answers[row][1].append(log)
        keep = [at for at, row in enumerate(running) if not is_finished(answers[row][0])]
        if not keep:
            break
        rows = torch.tensor(
            filled(keep, ids.device)
        )  # on the CPU: layers may be on several devices
        if len(keep) < len(running):
            cache.batch_select_indices(rows)
            running = [running[at] for at in keep]
        ids = ids[rows]
    return answers


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return {end for end in [*ends, tokenizer.eos_token_id] if end is not None}


def _generation(tokenizer, index, prompt_ids, ids, logs, ends, stop) -> Generation:
    """Cut an answer at its stop and find the characters of each token.

    The offsets come from decoding the ids that were generated, never from tokenizing the text
    again. A token that carries text before the stop stays; its text is cut.
    """
    if ids and ids[-1] in ends:
        ids = ids[:-1]
    text = tokenizer.decode(ids)
    offsets = [len(_common(tokenizer.decode(ids[:count]), text)) for count in range(len(ids) + 1)]
    offsets[-1] = len(text)
    cuts = [cut for string in stop if (cut := text.find(string)) >= 0]
    text = text[: min(cuts, default=len(text))]
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
        log_probabilities=logs[: len(spans)],
    )


def _common(left: str, right: str) -> str:
    """Common beginning; a token may end inside a character that the next one completes."""
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return left[:length]
