"""Generated answers: prompts batched by length, their common prefix computed once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.inference.batching import batch_by_key, pad_batch, with_oom_backoff
from llm_figures.inference.finite_outputs import check_logits
from llm_figures.inference.options import Sampling
from llm_figures.inference.prefix_cache import Continuation, PrefixCache, shared_prefix
from llm_figures.inference.token_spans import decode_tokens, locate_tokens
from llm_figures.models.loading import input_device

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True)
class Generation:
    """A generated answer.

    index: of its prompt.
    prompt_ids, answer_ids: token ids; the stop string is not part of the answer.
    text: the answer's text; starts, ends: the characters [start, end) of it that each answer token
        covers (see `token_spans`).
    log_probabilities: natural logarithm of the model's probability of each answer token, before
        any temperature.
    cut: whether the limit of new tokens ended the answer, not the model or a stop string.
    """

    index: int
    prompt_ids: list[int]
    answer_ids: list[int]
    text: str
    starts: list[int]
    ends: list[int]
    log_probabilities: list[float]
    cut: bool


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    *,
    stop: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling = GREEDY,
    keys: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
) -> Iterator[list[Generation]]:
    """Yield answers batch by batch; the prompts of a batch have one length, so none is padded.

    An answer ends before any string of `stop`, at the model's end of text, or after
    `max_new_tokens`. Batches are halved when CUDA runs out of memory.

    keys: one number per prompt, its question's, which with the seed of `sampling` determines what
        is sampled, whatever the batch; by default the prompt's index.
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
    end_ids = find_end_ids(model, tokenizer)
    is_finished = make_stop_check(tokenizer, end_ids, stop)
    device = input_device(model)

    def continue_batch(batch: list[int]) -> list[tuple[list[int], list[float]]]:
        suffixes = torch.tensor(
            [prompt_ids[index][start:] for index in pad_batch(batch, device)], device=device
        )
        generators = [np.random.default_rng([sampling.seed, keys[index]]) for index in batch]
        return _continue(
            model,
            suffixes,
            cache.for_batch(len(suffixes)),
            len(batch),
            lambda logits, rows: choose_tokens(logits, sampling, [generators[r] for r in rows]),
            is_finished,
            max_new_tokens,
            lambda row: f"in the answer to question {keys[batch[row]]}",
        )

    for batch, answers in with_oom_backoff(batch_by_length(prompt_ids, batch_size), continue_batch):
        yield [
            cut_at_stop(tokenizer, index, list(prompt_ids[index]), ids, logs, end_ids, stop)
            for index, (ids, logs) in zip(batch, answers, strict=True)
        ]


def choose_tokens(
    logits: torch.Tensor, sampling: Sampling, generators: Sequence[np.random.Generator]
) -> torch.Tensor:
    """Next tokens [batch, 1] for logits [batch, vocabulary]; generators: one per row."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    probabilities = torch.softmax(logits.cpu().double() / sampling.temperature, dim=-1)
    likeliest, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    total = likeliest.cumsum(dim=-1)
    # The nucleus: the fewest of the likeliest tokens whose probabilities reach top_p.
    mass = torch.where(total - likeliest < sampling.top_p, total, 0).amax(dim=-1, keepdim=True)
    draws = torch.tensor([[one.random()] for one in generators], dtype=torch.float64) * mass
    chosen = torch.searchsorted(total, draws, right=True).clamp_max(total.shape[-1] - 1)
    return tokens.gather(-1, chosen).to(logits.device)


def batch_by_length(sequences: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Indices of `sequences` in batches of at most `batch_size`, each of one length.

    Sequences that begin alike are neighbours: their answers tend to have one length, too.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    batches = batch_by_key([len(sequences[index]) for index in order], batch_size)
    return [[order[at] for at in batch] for batch in batches]


def _continue(
    model: PreTrainedModel,
    suffixes: torch.Tensor,
    past: Continuation,
    count: int,
    choose: Callable[[torch.Tensor, list[int]], torch.Tensor],
    is_finished: Callable[[list[int]], bool],
    max_new_tokens: int,
    name: Callable[[int], str],
) -> list[tuple[list[int], list[float]]]:
    """Continue the first `count` of `suffixes` [batch, tokens], which continue `past`.

    The other suffixes only fill the batch up. Finished sequences leave it, so that the others do
    not wait for them.

    name: from a row to the answer's name in messages.

    Returns the new tokens of each, and their log-probabilities.

    Raises:
        UserError: logits that are not finite.
    """
    answers: list[tuple[list[int], list[float]]] = [([], []) for _ in range(count)]
    running = list(range(count))
    ids = suffixes
    for _ in range(max_new_tokens):
        logits = past.run(model, ids, logits_to_keep=1).logits[: len(running), -1]
        ids = choose(logits, running)
        logs = logits.gather(-1, ids)[:, 0].float() - logits.float().logsumexp(dim=-1)
        logs = logs.tolist()
        check_logits(model, logs, lambda at, rows=running: name(rows[at]))
        for row, token, log in zip(running, ids[:, 0].tolist(), logs, strict=True):
            answers[row][0].append(token)
            answers[row][1].append(log)
        keep = [at for at, row in enumerate(running) if not is_finished(answers[row][0])]
        if not keep:
            break
        # On the CPU: layers may be on several devices.
        rows = torch.tensor(pad_batch(keep, ids.device))
        if len(keep) < len(running):
            past.select(rows)
            running = [running[at] for at in keep]
        ids = ids[rows]
    return answers


def find_end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a text."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return {end for end in [*ends, tokenizer.eos_token_id] if end is not None}


def make_stop_check(
    tokenizer: PreTrainedTokenizerBase, end_ids: set[int], stop: Sequence[str]
) -> Callable[[list[int]], bool]:
    """Whether an answer so far, as token ids, is finished by its last token or a stop string."""

    def is_finished(ids: list[int]) -> bool:
        if ids[-1] in end_ids:
            return True
        text = decode_tokens(tokenizer, ids) if stop else ""
        return any(string in text for string in stop)

    return is_finished


def cut_at_stop(tokenizer, index, prompt_ids, ids, logs, end_ids, stop) -> Generation:
    """The answer up to its stop, with the characters of each token.

    A token that carries text before the stop stays; its text is cut.
    """
    ended = bool(ids) and ids[-1] in end_ids
    if ended:
        ids = ids[:-1]
    text, starts, ends = locate_tokens(tokenizer, ids)
    cuts = [cut for string in stop if (cut := text.find(string)) >= 0]
    if cuts:
        text = text[: min(cuts)]
        ids = ids[: sum(start < len(text) for start in starts)]
    return Generation(
        index=index,
        prompt_ids=prompt_ids,
        answer_ids=ids,
        text=text,
        starts=starts[: len(ids)],
        ends=[min(end, len(text)) for end in ends[: len(ids)]],
        log_probabilities=logs[: len(ids)],
        cut=not (ended or cuts),
    )
