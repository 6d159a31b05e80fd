"""A token covers every character of which it holds at least one byte."""

import numpy as np
import pandas as pd
import pytest

import tiny
from llm_figures.inference.generation import NO_STOP, cut_at_stop
from llm_figures.inference.token_spans import (
    REPLACEMENT,
    _spans_of_prefixes,
    decode_tokens,
    locate_tokens,
    show_tokens,
)
from llm_figures.probe.token_positions import locate_named_tokens
from llm_figures.questions.answers import judge_answers
from llm_figures.questions.options import ExactAnswer, Judge

# Words whose letters share their first byte: " " and that byte become one token.
SHARED_BYTE = [
    *(f" {letter}{letter}" for letter in "АБВГДЕЖЗИКЛМНОП"),
    *(f" {letter}" for letter in "北京世界中国人大东西南京"),
    *(f" {letter}" for letter in "กขคงจฉชญ"),
    *(f" {letter}" for letter in "कखगघचछजझ"),
    *(f" {letter}" for letter in "😀😁😂🤣😃😄"),
]
ANSWERS = [
    " Москва",
    " 北京",
    " 😀!",
    " กรุงเทพ",
    " दिल्ली",
    " Łódź",
    " Paris",
    "\nМосква",
    " a\ufffdb",
]


@pytest.fixture(scope="module", params=["byte-level", "byte fallback"])
def tokenizer(request):
    if request.param == "byte-level":
        return tiny.tokenizer(SHARED_BYTE)
    return tiny.byte_fallback_tokenizer()


@pytest.fixture(scope="module")
def byte_level():
    return tiny.tokenizer(SHARED_BYTE)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def token_bytes(tokenizer, ids):
    """The bytes of each token, from a decoder of its own for each kind of vocabulary."""
    found = []
    for token in tokenizer.convert_ids_to_tokens(ids):
        if token.startswith("<0x"):
            found.append(bytes([int(token[3:5], 16)]))
        elif "▁" in tokenizer.get_vocab():
            found.append(token.replace("▁", " ").encode())
        else:
            # Latin-1 letters stand for themselves, the others for control bytes and the space.
            letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
            others = [byte for byte in range(256) if byte not in letters]
            found.append(
                bytes(
                    ord(letter) if ord(letter) < 256 else others[ord(letter) - 256]
                    for letter in token
                )
            )
    return found


@pytest.mark.parametrize("text", ANSWERS, ids=ascii)
def test_a_token_covers_the_characters_of_its_bytes(tokenizer, text):
    ids = encode(tokenizer, text)
    found = locate_tokens(tokenizer, ids)
    pieces = token_bytes(tokenizer, ids)
    raw = b"".join(pieces)
    # "byte fallback" drops the first space
    dropped = len(raw) - len(found.text.encode())
    assert raw[dropped:].decode() == found.text
    character = np.repeat(
        np.arange(len(found.text)), [len(char.encode()) for char in found.text]
    ).tolist()
    at = -dropped
    for piece, start, end in zip(pieces, found.starts, found.ends, strict=True):
        held = [character[byte] for byte in range(at, at + len(piece)) if byte >= 0]
        assert (start, end) == ((held[0], held[-1] + 1) if held else (0, 0))
        at += len(piece)


@pytest.mark.parametrize(
    ("text", "span"),
    [(" Москва", (1, 7)), (" это Москва.", (5, 11)), (" 北京", (1, 3)), (" 😀", (1, 2))],
    ids=ascii,
)
def test_the_first_token_holds_the_first_byte_of_the_exact_answer(byte_level, text, span):
    ids = encode(byte_level, text)
    answer = cut_at_stop(byte_level, 0, [1], ids, [0.0] * len(ids), set(), ["\n"])
    assert answer.text == text
    assert answer.answer_ids == ids
    pieces = token_bytes(byte_level, ids)
    before = len(text[: span[0]].encode())  # bytes
    ends = np.cumsum([len(piece) for piece in pieces])
    first = int(np.argmax(ends > before))
    assert ends[first] - len(pieces[first]) < before < ends[first]  # a space and half a character
    positions = locate_named_tokens(1, answer.starts, answer.ends, span)
    assert positions["exact_answer_first"] == 1 + first
    assert positions.get("exact_answer_before_first") == (first or None)
    last = int(np.argmax(ends >= len(text[: span[1]].encode())))
    assert positions["exact_answer_last"] == 1 + last


def test_the_log_probability_of_an_exact_answer_is_that_of_all_its_tokens(byte_level):
    ids = encode(byte_level, " Москва")
    logs = [-float(2**index) for index in range(len(ids))]
    answer = cut_at_stop(byte_level, 0, [1], ids, logs, set(), [])
    judged = judge_answers(
        pd.DataFrame({"question_id": [0], "question": ["?"], "aliases": [["Москва"]]}),
        pd.DataFrame(
            {
                "question_id": [0],
                "answer": [answer.text],
                "token_starts": [answer.starts],
                "token_ends": [answer.ends],
                "token_log_probabilities": [answer.log_probabilities],
            }
        ),
        ExactAnswer(method="line"),
        Judge(),
    )
    assert judged["exact_answer"].tolist() == ["Москва"]
    # the first token holds the space, too
    assert judged["exact_answer_log_probability"].item() == pytest.approx(np.mean(logs))


def test_two_tokens_share_a_character_and_neighbours_meet(tokenizer):
    found = locate_tokens(tokenizer, encode(tokenizer, "x北y"))
    assert found.text == "x北y"
    covering = [
        index
        for index, (start, end) in enumerate(zip(found.starts, found.ends, strict=True))
        if start <= 1 < end
    ]
    assert len(covering) >= 2
    assert found.starts[covering[0]] <= 1
    assert found.ends[covering[-1]] >= 2


def test_a_replacement_character_of_the_text_is_a_character(tokenizer):
    ids = encode(tokenizer, f"a{REPLACEMENT}b")
    found = locate_tokens(tokenizer, ids)
    assert found.text == f"a{REPLACEMENT}b"
    held = sorted(set(zip(found.starts, found.ends, strict=True)))
    assert held[-3:] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("cut", [1, 2])
def test_a_half_character_spoils_none_before_it(tokenizer, cut):
    """A decoder with byte fallback writes five signs for five of the six bytes of two letters."""
    ids = encode(tokenizer, "a齒齊")[:-cut]  # each byte is a token
    found = locate_tokens(tokenizer, ids)
    assert found.text == f"a齒{REPLACEMENT}"
    assert found.ends[-1] == 3
    assert decode_tokens(tokenizer, ids) == found.text


def test_a_stop_is_found_behind_half_a_character():
    """A new line that ends a run of bytes that are no character still ends the answer."""
    tokenizer = tiny.byte_fallback_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["▁", "a", "<0xE5>", "<0x8C>", "<0x0A>"])
    assert "\n" not in tokenizer.decode(ids)
    assert decode_tokens(tokenizer, ids) == f"a{REPLACEMENT}\n"
    answer = cut_at_stop(tokenizer, 0, [1], ids, [0.0] * 5, set(), ["\n"])
    assert answer.text == f"a{REPLACEMENT}"
    assert answer.answer_ids == ids[:-1]
    assert answer.stop_id == ids[-1]
    assert not answer.cut


@pytest.mark.parametrize(
    ("text", "stop", "ends", "kept", "stopped"),
    [
        ("ab\n", ["\n"], False, 2, True),
        ("ab\n\n", ["\n\n"], False, 2, True),  # the first of its tokens
        ("ab", ["\n"], False, 2, False),  # cut by the limit
        ("abc", ["\n"], True, 2, True),  # c is the end of text
        ("ab\n", [], False, 3, False),
    ],
)
def test_the_token_that_ended_an_answer_is_kept_beside_it(
    byte_level, text, stop, ends, kept, stopped
):
    ids = [encode(byte_level, sign)[0] for sign in text]
    end_ids = {ids[-1]} if ends else set()
    answer = cut_at_stop(byte_level, 0, [1], ids, [0.0] * len(ids), end_ids, stop)
    assert answer.answer_ids == ids[:kept]
    assert answer.stop_id == (ids[kept] if stopped else NO_STOP)
    assert answer.cut is (not stopped)


def test_a_stop_within_the_last_token_has_no_token_of_its_own():
    tokenizer = tiny.tokenizer()
    texts = ((number, tokenizer.decode([number])) for number in range(tokenizer.vocab_size))
    number, text = next((number, text) for number, text in texts if len(text.strip()) > 2)
    at = len(text) - 1
    answer = cut_at_stop(tokenizer, 0, [1], [number], [0.0], set(), [text[at:]])
    assert (answer.text, answer.answer_ids, answer.stop_id) == (text[:at], [number], NO_STOP)
    assert not answer.cut


def test_a_stop_cuts_inside_a_token(byte_level):
    ids = encode(byte_level, " ББx")
    answer = cut_at_stop(byte_level, 0, [1], ids, [0.0] * len(ids), set(), ["Б"])
    assert answer.text == " "
    (first,) = answer.answer_ids  # it holds a byte of the stop, too
    assert answer.stop_id == ids[1]
    assert token_bytes(byte_level, [first])[0].startswith(b" ")
    assert (answer.starts, answer.ends) == ([0], [1])


def test_where_bytes_are_not_known_prefixes_tell(tokenizer):
    """Tokenizers of other kinds give text alone; the spans are the same."""
    for text in (*ANSWERS[:7], "x北y", "a b"):
        ids = encode(tokenizer, text)
        found = locate_tokens(tokenizer, ids)
        assert list(_spans_of_prefixes(tokenizer, ids, found.text)) == list(
            zip(found.starts, found.ends, strict=True)
        )


def test_special_tokens_and_ids_outside_the_vocabulary(tokenizer):
    end = tokenizer.eos_token_id
    ids = [*encode(tokenizer, "ab"), end, 5000]
    found = locate_tokens(tokenizer, ids)
    assert found.text.removesuffix("<end>") == "ab"
    assert found.text[found.starts[-2] : found.ends[-2]] == "<end>"
    assert found.starts[-1] == found.ends[-1] == len(found.text)
    assert locate_tokens(tokenizer, []) == ("", [], [])


def test_labels_of_tokens_show_whole_characters(byte_level):
    ids = encode(byte_level, " Москва is")
    labels = show_tokens(byte_level, ids)
    assert not any(REPLACEMENT in label for label in labels)
    assert labels[0] == " М"
    plain = encode(byte_level, " is")
    assert show_tokens(byte_level, plain) == [byte_level.decode([token]) for token in plain]
