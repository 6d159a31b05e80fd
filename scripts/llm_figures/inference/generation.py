"""Generated answers: many prompts at a time, their common prefix computed once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.inference.batching import halve_batch
from llm_figures.inference.finite_outputs import check_logits
from llm_figures.inference.options import Sampling
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.inference.rows import EqualRows, Rows, settle
from llm_figures.inference.token_spans import decode_tokens, locate_tokens

GREEDY = Sampling(temperature=0)
# New prompts enter when so large a part of the batch is free.
FREE_SHARE = 1 / 4
# The stop token of an answer that has none.
NO_STOP = -1


@dataclass(frozen=True)
class Generation:
    """A generated answer.

    index: of its prompt.
    prompt_ids, answer_ids: token ids; the stop string is not part of the answer.
    stop_id: the token after these that ended the answer: that of the end of text, or the first of a
        stop string. `NO_STOP` where the answer was cut, where its last token holds the stop string,
        and where it was not generated here.
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
    stop_id: int = NO_STOP


@dataclass
class _Answer:
    """An answer in the making. index: of its prompt; numbers: what its samples follow from."""

    index: int
    numbers: np.random.Generator
    ids: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)


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
    """Yield answers, about `batch_size` at a time, in an order that depends on no batch.

    An answer ends before any string of `stop` that follows its leading white space, at the model's
    end of text, or after `max_new_tokens`. `batch_size` prompts are continued at a time; the next
    ones take the places of those that are answered. For models whose cache does not allow that, the
    prompts of a batch have one length. Batches are halved when CUDA runs out of memory.

    keys: one number per prompt, its question's, which with the seed of `sampling` determines what
        is sampled, whatever the batch; by default the prompt's index.
    prefix: tokens with which every prompt begins, computed once; by default all that they share.

    Raises:
        UserError: logits that are not finite.
    """
    if not prompt_ids:
        return
    keys = range(len(prompt_ids)) if keys is None else keys
    cache = PrefixCache(model, shared_prefix(prompt_ids) if prefix is None else prefix)
    end_ids = find_end_ids(model, tokenizer)
    is_finished = make_stop_check(tokenizer, end_ids, stop)
    open_batch = partial(
        _Batch,
        model,
        begin=lambda index: _Answer(index, np.random.default_rng([sampling.seed, keys[index]])),
        choose=lambda logits, rows: choose_tokens(logits, sampling, [row.numbers for row in rows]),
        is_finished=lambda ids: len(ids) == max_new_tokens or is_finished(ids),
        name=lambda answer: f"in the answer to question {keys[answer.index]}",
    )
    ready: list[Generation] = []
    for mixed, waiting in divide_by_cache(cache, prompt_ids, max_new_tokens):
        answers = _answer_all(cache, prompt_ids, waiting, mixed, batch_size, open_batch)
        for answer in _put_in_order(answers, waiting):
            prompt = list(prompt_ids[answer.index])
            ready.append(
                cut_at_stop(tokenizer, answer.index, prompt, answer.ids, answer.logs, end_ids, stop)
            )
            if len(ready) >= batch_size:
                yield ready
                ready = []
    if ready:
        yield ready


def _put_in_order(answers: Iterator[_Answer], order: Sequence[int]) -> Iterator[_Answer]:
    """The answers in this order of their indices; few wait, for prompts are begun in it, too."""
    done: dict[int, _Answer] = {}
    following = iter(order)
    due = next(following, None)
    for answer in answers:
        done[answer.index] = answer
        while due in done:
            yield done.pop(due)
            due = next(following, None)


def divide_by_cache(
    cache: PrefixCache, prompt_ids: Sequence[Sequence[int]], max_new_tokens: int
) -> list[tuple[bool, list[int]]]:
    """Whether prompts of unequal length share a batch, and the indices of those for which it holds.

    They are in order of length. It follows from each prompt alone.
    """
    order = sorted(
        range(len(prompt_ids)), key=lambda index: (len(prompt_ids[index]), prompt_ids[index])
    )
    mixing = [cache.mixes(len(prompt_ids[index]) + max_new_tokens) for index in order]
    return [
        (mixed, [index for index, mixes in zip(order, mixing, strict=True) if mixes is mixed])
        for mixed in (True, False)
        if mixed in mixing
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


def _answer_all(
    cache: PrefixCache,
    prompt_ids: Sequence[Sequence[int]],
    waiting: list[int],
    mixed: bool,
    batch_size: int,
    open_batch: Callable[[Rows | EqualRows], "_Batch"],
) -> Iterator[_Answer]:
    """Yield the answers to the prompts that wait, in order of length, as they are finished.

    mixed: whether prompts of unequal length share a batch.

    Raises:
        UserError: logits that are not finite.
    """
    start = len(cache.prefix)
    batch = open_batch(cache.open_rows(mixed))
    while waiting or batch.answers:
        free = batch_size - len(batch.answers)
        entering: list[int] = []
        if not batch.answers or (mixed and free >= batch_size * FREE_SHARE):
            entering = waiting[:free]
        if not mixed:
            lengths = [len(prompt_ids[index]) for index in entering]
            entering = entering[: lengths.count(min(lengths, default=0))]
        waiting = waiting[len(entering) :]
        try:
            batch.enter(entering, [prompt_ids[index][start:] for index in entering])
            finished = batch.step()
        except torch.OutOfMemoryError:
            # Halved outside: here the exception still holds the pass and its tensors.
            finished = None
        if finished is None:
            begun = [answer.index for answer in batch.answers]
            batch = open_batch(cache.open_rows(mixed))
            batch_size = halve_batch(len(begun), batch_size)
            waiting = sorted([*begun, *waiting], key=lambda index: len(prompt_ids[index]))
            continue
        yield from finished


class _Batch:
    """Answers that are continued together.

    begin: from a prompt's index to its answer. choose: from logits [rows, vocabulary] and the
    rows' answers to their next tokens [rows, 1]. name: the answer's name in messages.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Rows | EqualRows,
        *,
        begin: Callable[[int], _Answer],
        choose: Callable[[torch.Tensor, list[_Answer]], torch.Tensor],
        is_finished: Callable[[list[int]], bool],
        name: Callable[[_Answer], str],
    ):
        self.answers: list[_Answer] = []
        self._tokens: list[int] = []  # the next input of each
        self._model, self._rows = model, rows
        self._begin, self._choose, self._is_finished, self._name = begin, choose, is_finished, name

    def enter(self, indices: Sequence[int], suffixes: Sequence[Sequence[int]]) -> None:
        """Begin the answers to further prompts; suffixes: what follows the prefix in each."""
        if not indices:
            return
        self.answers += map(self._begin, indices)
        self._tokens += [suffix[-1] for suffix in suffixes]
        self._rows.add([suffix[:-1] for suffix in suffixes])

    def step(self) -> list[_Answer]:
        """Give every answer its next token; the finished ones leave."""
        answers = self.answers
        output = self._rows.run(self._model, self._tokens, logits_to_keep=1)
        logits = output.logits[: len(answers), -1]
        ids = self._choose(logits, answers)
        logs = logits.gather(-1, ids)[:, 0].float() - logits.float().logsumexp(dim=-1)
        logs = logs.tolist()
        check_logits(self._model, logs, lambda at: self._name(answers[at]))
        for answer, token, log in zip(answers, ids[:, 0].tolist(), logs, strict=True):
            answer.ids.append(token)
            answer.logs.append(log)
        ended = [self._is_finished(answer.ids) for answer in answers]
        going = [at for at, over in enumerate(ended) if not over]
        if len(going) < len(answers):
            going = [going[at] for at in settle(going)]
            self._rows.select(going)
            self.answers = [answers[at] for at in going]
        self._tokens = [answer.ids[-1] for answer in self.answers]
        return [answer for answer, over in zip(answers, ended, strict=True) if over]


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
        return bool(stop) and find_stop(decode_tokens(tokenizer, ids), stop) is not None

    return is_finished


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """The character at which a text ends: the first stop string after its leading white space.

    Models trained on chats like to begin with a new line, which would leave nothing of the answer.
    None if there is none.
    """
    begins = len(text) - len(text.lstrip())
    found = (text.find(string, begins) for string in stop)
    return min((at for at in found if at >= 0), default=None)


def cut_at_stop(tokenizer, index, prompt_ids, ids, logs, end_ids, stop) -> Generation:
    """The answer up to its stop, with the characters of each token.

    A token that carries text before the stop stays; its text is cut.
    """
    ended = bool(ids) and ids[-1] in end_ids
    text, starts, ends = locate_tokens(tokenizer, ids[:-1] if ended else ids)
    stopped = find_stop(text, stop)
    kept = len(starts)
    if stopped is not None:
        text = text[:stopped]
        kept = sum(start < len(text) for start in starts)
    return Generation(
        index=index,
        prompt_ids=prompt_ids,
        answer_ids=ids[:kept],
        text=text,
        starts=starts[:kept],
        ends=[min(end, len(text)) for end in ends[:kept]],
        log_probabilities=logs[:kept],
        cut=not ended and stopped is None,
        stop_id=ids[kept] if kept < len(ids) else NO_STOP,
    )
