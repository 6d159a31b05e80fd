"""Several sampled answers to every prompt, with what they have in common computed once.

The samples of a prompt form a tree: as long as they agree, they are one row of a batch, and a row
is divided where its samples choose different tokens. The tokens that all prompts begin with go
through the model once, the rest of a prompt once for all its samples, and the beginning that its
answers share once as well.

Every sample has its own sequence of random numbers, which follows from the seed, the question and
the number of the sample. So neither the other rows of a batch nor its size change an answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.inference.batching import batch_by_key, with_oom_backoff
from llm_figures.inference.finite_outputs import check_logits
from llm_figures.inference.generation import (
    Generation,
    cut_at_stop,
    divide_by_cache,
    find_end_ids,
    make_stop_check,
)
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.inference.rows import EqualRows, Rows, settle

# Prompts of the first batch are so many times fewer than its rows may become.
FIRST_SHARE = 4


@dataclass(frozen=True)
class Sample:
    """One sampled answer. number: of the sample, from 0, among those of its prompt."""

    number: int
    answer: Generation


@dataclass
class _Row:
    """A row of a batch: the tokens that some samples of one prompt have in common so far.

    samples: [(index of the prompt, number of the sample)].
    """

    samples: list[tuple[int, int]]
    ids: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)


@torch.inference_mode()
def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    *,
    count: int,
    temperature: float,
    seed: int,
    stop: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    keys: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
) -> Iterator[list[Sample]]:
    """Yield `count` sampled answers to every prompt, batch by batch.

    Answers end as in `generation.generate`. The probabilities of a token are the softmax of the
    logits / temperature; the log-probabilities of the answers are the model's own, before any
    temperature.

    batch_size: the most rows in memory at once; where a batch of prompts divides into more, some of
        its samples wait for a later batch. keys: one number per prompt, its question's, from which
        its random numbers follow; by default the prompt's index. prefix: tokens with which every
        prompt begins; by default all that they share.

    Raises:
        UserError: logits that are not finite.
    """
    if not prompt_ids:
        return
    keys = range(len(prompt_ids)) if keys is None else keys
    cache = PrefixCache(model, shared_prefix(prompt_ids) if prefix is None else prefix)
    shared = len(cache.prefix)
    end_ids = find_end_ids(model, tokenizer)
    is_finished = make_stop_check(tokenizer, end_ids, stop)

    def sample_batch(batch: list[tuple[int, int]], mixed: bool) -> tuple[list[_Row], list, int]:
        samples_of: dict[int, list[tuple[int, int]]] = {}
        for prompt, number in batch:
            samples_of.setdefault(prompt, []).append((prompt, number))
        draws = {
            sample: draw_numbers(seed, keys[sample[0]], sample[1], max_new_tokens)
            for sample in batch
        }
        return _grow(
            model,
            cache.open_rows(mixed),
            [prompt_ids[prompt][shared:] for prompt in samples_of],
            [_Row(samples) for samples in samples_of.values()],
            draws,
            temperature,
            is_finished,
            max_new_tokens,
            most_rows=max(batch_size, len(samples_of)),
            name=lambda row: f"in a sampled answer to question {keys[row.samples[0][0]]}",
        )

    at_once = max(1, batch_size // FIRST_SHARE)
    groups = []
    for mixed, indices in divide_by_cache(cache, prompt_ids, max_new_tokens):
        lengths = [0 if mixed else len(prompt_ids[index]) for index in indices]
        parts = batch_by_key(lengths, len(indices))
        groups += [(mixed, [indices[at] for at in part]) for part in parts]
    for mixed, prompts in groups:
        waiting = [(prompt, number) for prompt in prompts for number in range(count)]
        while waiting:
            batch = _take_prompts(waiting, at_once)
            waiting = waiting[len(batch) :]
            compute = partial(sample_batch, mixed=mixed)
            for part, (rows, postponed, most) in with_oom_backoff([batch], compute):
                waiting = [*postponed, *waiting]
                begun = len({prompt for prompt, _ in part})
                at_once = min(max(1, begun * batch_size // most), batch_size)
                yield [
                    Sample(
                        number,
                        cut_at_stop(
                            tokenizer, prompt, list(prompt_ids[prompt]), row.ids, row.logs,
                            end_ids, stop,
                        ),
                    )
                    for row in rows
                    for prompt, number in row.samples
                ]  # fmt: skip


def draw_numbers(seed: int, key: int, number: int, count: int) -> np.ndarray:
    """[count]: the random numbers in [0, 1) of one sample of one question, one per new token."""
    return np.random.default_rng([seed, key, number]).random(count)


def choose_by_draws(
    logits: torch.Tensor, temperature: float, draws: Sequence[Sequence[float]]
) -> list[list[int]]:
    """The tokens that random numbers choose, for each row of logits [rows, vocabulary].

    draws: for each row, numbers in [0, 1). Each chooses the token at which the cumulative
    probability, in the order of the vocabulary, first exceeds it.
    """
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    total = probabilities.cpu().double().cumsum(dim=-1)
    widest = max(map(len, draws))
    padded = [[*row, *[0.0] * (widest - len(row))] for row in draws]
    numbers = torch.tensor(padded, dtype=torch.float64) * total[:, -1:]
    chosen = torch.searchsorted(total, numbers, right=True)
    # the last with any probability, should a product be rounded up to the total
    chosen = chosen.minimum(torch.searchsorted(total, total[:, -1:].contiguous()))
    return [tokens[: len(row)] for tokens, row in zip(chosen.tolist(), draws, strict=True)]


def _take_prompts(waiting: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """The samples of the first `count` prompts that wait."""
    first = set(list(dict.fromkeys(prompt for prompt, _ in waiting))[:count])
    taken = next((at for at, (prompt, _) in enumerate(waiting) if prompt not in first), None)
    return waiting[:taken]


def _grow(
    model: PreTrainedModel,
    cache_rows: Rows | EqualRows,
    suffixes: Sequence[Sequence[int]],
    rows: list[_Row],
    draws: dict[tuple[int, int], np.ndarray],
    temperature: float,
    is_finished: Callable[[list[int]], bool],
    max_new_tokens: int,
    *,
    most_rows: int,
    name: Callable[[_Row], str],
) -> tuple[list[_Row], list[tuple[int, int]], int]:
    """Continue `rows`, each of which begins with one of `suffixes`, until all are finished.

    Returns the finished rows, the samples of those that found no room, and the most rows that there
    were, or would have been.
    """
    finished: list[_Row] = []
    postponed: list[tuple[int, int]] = []
    most = len(rows)
    cache_rows.add([suffix[:-1] for suffix in suffixes])
    last_ids = [suffix[-1] for suffix in suffixes]
    for step in range(max_new_tokens):
        logits = cache_rows.run(model, last_ids, logits_to_keep=1).logits[: len(rows), -1]
        tokens = choose_by_draws(
            logits, temperature, [[draws[sample][step] for sample in row.samples] for row in rows]
        )
        grown = [child for at, row in enumerate(rows) for child in _divide(row, tokens[at], at)]
        parents = torch.tensor([at for at, _ in grown], device=logits.device)
        chosen = torch.tensor([row.ids[-1] for _, row in grown], device=logits.device)
        norms = logits.float().logsumexp(dim=-1)[parents]
        values = (logits[parents, chosen].float() - norms).tolist()
        check_logits(model, values, lambda at, grown=grown: name(grown[at][1]))
        for (_, row), value in zip(grown, values, strict=True):
            row.logs.append(value)
        last = step == max_new_tokens - 1
        going = []
        for at, row in grown:
            if last or is_finished(row.ids):
                finished.append(row)
            else:
                going.append((at, row))
        most = max(most, len(going))
        postponed += [sample for _, row in going[most_rows:] for sample in row.samples]
        going = going[:most_rows]
        if not going:
            break
        going = [going[index] for index in settle([at for at, _ in going])]
        cache_rows.select([at for at, _ in going])
        rows = [row for _, row in going]
        last_ids = [row.ids[-1] for row in rows]
    return finished, sorted(postponed), most


def _divide(row: _Row, tokens: Sequence[int], at: int) -> Iterator[tuple[int, _Row]]:
    """The rows that a row becomes when its samples choose `tokens`, each with the place `at`."""
    samples_of: dict[int, list[tuple[int, int]]] = {}
    for sample, token in zip(row.samples, tokens, strict=True):
        samples_of.setdefault(token, []).append(sample)
    for token, samples in samples_of.items():
        yield at, _Row(samples, [*row.ids, token], list(row.logs))
