"""Which characters of a text its tokens hold.

A token of a byte-level vocabulary may hold a space and the first byte of a letter; one of a
vocabulary with byte fallback may be a single byte. A token covers every character of which it holds
at least one byte, so two tokens may share a character.
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from llm_figures.inference.prefix_cache import common_length

# What decoding shows for bytes that are no character, or not yet a whole one.
REPLACEMENT = "\ufffd"

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Byte-level vocabularies write printable bytes as themselves and the others as letters from here.
_FIRST_SUBSTITUTE = 0x100


class TokenSpans(NamedTuple):
    """A decoded text, and the characters [start, end) of it that each token covers.

    A token without text, such as a space that decoding strips, has start = end.
    """

    text: str
    starts: list[int]
    ends: list[int]


def decode_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of `ids`, with special tokens, and with no space removed before punctuation.

    Decoders of vocabularies with byte fallback replace every byte of a run of which one is wrong or
    missing. Here the whole characters of such a run stay, as they do with byte-level decoders.
    """
    ids = list(ids)
    text = _decode(tokenizer, ids)
    if REPLACEMENT not in text:
        return text
    byte_of = _find_vocabulary(tokenizer).fallback
    runs = groupby(range(len(ids)), key=lambda index: ids[index] in byte_of)
    # From the last to the first, so that the places of the others stay.
    for run in reversed([list(indices) for is_bytes, indices in runs if is_bytes]):
        raw = bytes(byte_of[ids[index]] for index in run)
        start = len(_decode(tokenizer, ids[: run[0]]))
        end = start + len(raw)
        if text[start:end] == REPLACEMENT * len(raw):
            text = text[:start] + raw.decode(errors="replace") + text[end:]
    return text


def locate_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> TokenSpans:
    """The text of `ids`, and the characters of it that each of them covers.

    They come from the bytes of the ids, or where the vocabulary does not tell these from decoding
    the ids one after the other; never from tokenizing the text again.
    """
    text = decode_tokens(tokenizer, ids)
    spans = _spans_of_bytes(_token_bytes(tokenizer, ids), text)
    if spans is None:
        spans = list(_spans_of_prefixes(tokenizer, list(ids), text))
    return TokenSpans(text, [start for start, _ in spans], [end for _, end in spans])


def show_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Each token of a text as text; one that holds a part of a character shows all of it."""
    shown = [_decode(tokenizer, [token]) for token in ids]
    if not any(REPLACEMENT in text for text in shown):
        return shown
    text, starts, ends = locate_tokens(tokenizer, ids)
    return [
        text[start:end] if REPLACEMENT in alone and start < end else alone
        for alone, start, end in zip(shown, starts, ends, strict=True)
    ]


class _Vocabulary(NamedTuple):
    """letters: {letter: byte}, empty unless it is byte-level. fallback: {token id: its byte}."""

    letters: dict[str, int]
    fallback: dict[int, int]


@lru_cache(maxsize=4)
def _find_vocabulary(tokenizer: PreTrainedTokenizerBase) -> _Vocabulary:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kinds = None if backend is None else set(_decoder_kinds(backend.decoder))
    if kinds is not None and "ByteLevel" in kinds:
        return _Vocabulary(_byte_letters(), {})
    fallback = {}
    if kinds is None or "ByteFallback" in kinds:
        for token, index in tokenizer.get_vocab().items():
            if isinstance(token, str) and (match := _BYTE.fullmatch(token)):
                fallback[index] = int(match[1], 16)
    return _Vocabulary({}, fallback)


def _decoder_kinds(decoder) -> Iterator[str]:
    waiting = [] if decoder is None else [json.loads(decoder.__getstate__())]
    while waiting:
        one = waiting.pop()
        yield one["type"]
        waiting += one.get("decoders", [])


def _byte_letters() -> dict[str, int]:
    """{letter: byte} of byte-level vocabularies (Radford et al. 2019, section 2.2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(_FIRST_SUBSTITUTE + index): byte for index, byte in enumerate(others)
    }


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def _token_bytes(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[bytes]:
    """The bytes of each token by its entry in the vocabulary; a guess, to be checked."""
    letters, fallback = _find_vocabulary(tokenizer)
    pieces = []
    for index, token in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if index in fallback:
            pieces.append(bytes([fallback[index]]))
        elif not isinstance(token, str):  # bytes of other tokenizers, None outside the vocabulary
            pieces.append(token or b"")
        elif letters and all(letter in letters for letter in token):
            pieces.append(bytes(letters[letter] for letter in token))
        else:
            pieces.append((token if letters else token.replace("▁", " ")).encode())
    return pieces


def _spans_of_bytes(pieces: list[bytes], text: str) -> list[tuple[int, int]] | None:
    """The characters of each piece; None if the pieces together are not `text`."""
    decoded = b"".join(pieces).decode(errors="replace")
    stripped = 0  # many decoders drop the first space
    if decoded != text:
        if decoded != f" {text}":
            return None
        stripped = 1
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    spans = []
    whole = 0  # characters so far
    for piece in pieces:
        held = []
        for byte in piece:
            whole += len(decoder.decode(bytes([byte])))
            is_begun = bool(decoder.getstate()[0])
            held.append(whole if is_begun else whole - 1)
        spans.append((held[0], held[-1] + 1) if held else (whole, whole))
    return [(max(0, start - stripped), max(0, end - stripped)) for start, end in spans]


def _spans_of_prefixes(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str
) -> Iterator[tuple[int, int]]:
    """The characters that each token adds to the text of those before it.

    What the text so far has beyond its agreement with `text` stands for one begun character.
    """
    start = 0
    for count in range(1, len(ids) + 1):
        part = decode_tokens(tokenizer, ids[:count])
        whole = max(start, common_length(part, text))
        if count == len(ids):
            end = whole = len(text)
        else:
            end = min(whole + (len(part) > whole), len(text))
        yield start, end
        start = whole
