"""Answers that a dataset brings along: their tokens, and the model's probabilities of these."""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.inference.batching import (
    LENGTH_STEP,
    batch_by_key,
    pad_batch,
    pad_sequence,
    padded_length,
    round_up,
    with_oom_backoff,
)
from llm_figures.inference.finite_outputs import check_logits
from llm_figures.inference.prefix_cache import PrefixCache, shared_prefix
from llm_figures.inference.token_spans import TokenSpans, locate_tokens
from llm_figures.models.loading import context_length, input_device

# Tokens of an answer whose logits are in memory at once.
PIECE = 32

# Scripts without spaces between words, beside the wide characters of East Asia.
_UNSPACED = ("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ")


def tokenize_response(
    tokenizer: PreTrainedTokenizerBase, style: str, prompt: str, response: str
) -> tuple[list[int], TokenSpans | None]:
    """Token ids of a response that follows a prompt, and their characters.

    The response is tokenized once, by itself. A space comes before it where one would be generated
    (see `add_space`). Names of special tokens in it stay text.

    style: of the prompt. prompt: its text, as from `prompts.render_questions`. response: not blank.

    The characters are None if decoding the tokens does not give the response.
    """
    text = add_space(style, prompt, response)
    if not _begins_with_space(tokenizer):
        tries = [_encode(tokenizer, text)]
        expected = {text}
    elif text.startswith(" ") or (style == "chat" and not prompt[-1:].isspace()):
        # The tokenizer itself puts this space, unless there is one; some decoders drop it.
        text = text.removeprefix(" ")
        tries = [_encode(tokenizer, text), _encode(tokenizer, f" {text}")]
        expected = {text, f" {text}"}
    else:
        tries = [_encode_inside_line(tokenizer, text)]
        expected = {text}
    for ids in tries:
        spans = locate_tokens(tokenizer, ids)
        if spans.text in expected:
            return ids, spans
    return tries[0], None


def add_space(style: str, prompt: str, response: str) -> str:
    """`response` with the space that separates it from the prompt, where there is to be one.

    There is none in a chat, beside white space, after an opening bracket or quote, before closing
    punctuation, and beside a character of a script that is written without spaces.
    """
    if style == "chat" or not prompt:
        return response
    before, after = prompt[-1], response[0]
    is_open = unicodedata.category(before) in ("Ps", "Pi") or (
        before in "\"'" and (len(prompt) == 1 or prompt[-2].isspace())
    )
    is_closing = unicodedata.category(after) in ("Pe", "Pf") or after in ".,;:!?%…"
    if before.isspace() or after.isspace() or is_open or is_closing:
        return response
    if _is_unspaced(before) or _is_unspaced(after):
        return response
    return f" {response}"


def _is_unspaced(char: str) -> bool:
    name = unicodedata.name(char, "")
    if name.startswith("HANGUL") or unicodedata.category(char).startswith("S"):
        return False  # Korean has spaces, and so have emoji
    return unicodedata.east_asian_width(char) in ("W", "F") or name.startswith(_UNSPACED)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@lru_cache(maxsize=4)
def _begins_with_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a space before a text, as before every word in it."""
    return _encode(tokenizer, "a a") == _encode(tokenizer, "a") * 2


def _encode_inside_line(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that does not begin a word, without the tokenizer's own space."""
    line = _encode(tokenizer, "\n")
    ids = _encode(tokenizer, f"\n{text}")
    return ids[len(line) :] if ids[: len(line)] == line else _encode(tokenizer, text)


@torch.inference_mode()
def compute_log_probabilities(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    answer_ids: Sequence[Sequence[int]],
    *,
    batch_size: int,
    keys: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], list[list[float]]]]:
    """Yield indices of answers and natural log-probabilities of their tokens, batch by batch.

    They are those that generation reports for the same tokens. All tokens of a sequence go through
    the model at once, but for pieces that keep the logits small. The prompts of a batch have about
    one length, and sequences are padded on the right. Where pieces begin and end depends on a
    sequence's own lengths alone. Batches are halved when CUDA runs out of memory.

    prompt_ids, answer_ids: none is empty, and both together fit the model's context.
    keys: the number of each answer's question, for messages; by default the answer's index.
    prefix: tokens with which every prompt begins, computed once; by default all that they share.

    Raises:
        UserError: logits that are not finite.
    """
    if not prompt_ids:
        return
    prefix = shared_prefix(prompt_ids) if prefix is None else prefix
    keys = range(len(prompt_ids)) if keys is None else keys
    cache = PrefixCache(model, prefix)
    shared = len(cache.prefix)
    context, device = context_length(model), input_device(model)
    # Of each sequence: up to where a prompt of the batch may end at the earliest, and its width.
    places = [
        (
            max(round_up(len(prompt), LENGTH_STEP) - LENGTH_STEP, shared),
            padded_length(len(prompt) + len(answer), context),
        )
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]

    def compute_batch(batch: list[int]) -> list[list[float]]:
        first, width = places[batch[0]]
        ids = torch.tensor(
            [
                pad_sequence([*prompt_ids[index], *answer_ids[index]], width)[shared:]
                for index in pad_batch(batch, device)
            ],
            device=device,
        )
        past = cache.for_batch(len(ids))
        logs: list[list[float]] = [[] for _ in batch]
        # A token is predicted at the one before it, and none at the last.
        first, last, begun = first - shared, width - shared - 1, 0
        for start in range(first, last, PIECE):
            end = min(start + PIECE, last)
            logits = past.run(model, ids[:, begun:end], logits_to_keep=end - start).logits
            targets = ids[:, start + 1 : end + 1, None].to(logits.device)
            for row in range(len(batch)):
                scores = logits[row].float()
                logs[row] += (
                    scores.gather(-1, targets[row])[:, 0] - scores.logsumexp(dim=-1)
                ).tolist()
            begun = end
        for row, index in enumerate(batch):
            before = len(prompt_ids[index]) - 1 - shared - first
            logs[row] = logs[row][before : before + len(answer_ids[index])]
            name = f"in the answer to question {keys[index]}"
            check_logits(model, logs[row], lambda _, name=name: name)
        return logs

    yield from with_oom_backoff(batch_by_key(places, batch_size), compute_batch)
