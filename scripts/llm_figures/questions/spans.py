"""Exact answers: their spans within generated answers.

A span is located without using the gold answer or the label, from the question's frame and the
answer's text (and the model's own quote from it) alone; correctness is judged afterwards, on the
span (`judging.judges`). Locating right answers by their gold string and wrong ones in another way
would leak the label into the positions.
"""

import re
import unicodedata
from collections.abc import Sequence

from llm_figures.core.errors import UserError
from llm_figures.questions.options import ExactAnswer
from llm_figures.questions.sentences import find_sentence_end
from llm_figures.questions.writing_systems import UNSPACED

# "A" before a verb, a capital or a conjunction is the letter of a choice: "A is right".
_LEADING_ARTICLE = re.compile(
    r"(?:(?:[Tt]he|THE|[Aa]n|AN|a)\s+|A\s+(?=[a-z]))"
    r"(?!(?:is|was|and|or|because|since|as|has|would|seems|must|should|can|will|looks|only|rather|"
    r"of\s+course|major|minor|flat|sharp|positive|negative)\b)"
)
# Brackets and marks are looked for within so many characters.
_REACH = 200
_QUOTES = " \t\n\r\"'`“”„‘’«»「」『』"
_BRACKETS = {"(": ")", "[": "]", "{": "}", "|": "|", "（": "）", "⟨": "⟩"}
_FINAL_ANSWER = re.compile(
    r"""
    \#{4}
    | (?<!\bthis\s) (?<!\bthat\s) (?<!\byour\s)
      \b answer (?:\s+ (?:to|of|for) \s+ [^.:\n]{1,60}? )? (?:\s+ (?:is|was|must \s be|will \s be
      |should \s be|would \s be) \b | ['’]s \b | \s* [*_]* \s* [:=] )
    | (?:答案|答え|正解) \s* (?:应该|應該)? (?:是|为|為|は|选|選)? \s* (?:[:：]|(?<=[是为為は选選]))
    | (?:정답|답) (?:은|:|：)
    | \b ответ \b \s* [:—–-]
    | \b (?:antwort|réponse|respuesta|resposta|risposta) \b (?:\s+ [^.:\n]{1,40}?)? (?:\s+
      (?:ist|lautet|est|es|é|è)\b | \s* :)
    | (?:الجواب|الإجابة) \s* (?:هو|هي|:)
    | उत्तर \s* (?:है|:)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Of "The answer is: \\[ x \\]", and of "**Answer:** $$x$$".
_DISPLAY = re.compile(r"[\s*_:]*(?:\\\[|\\\(|\$\$)?\s*")
# With more "answer is" than this, the last ones are tried.
_MOST_MARKERS = 20
_BOX = re.compile(r"\\f?boxed\s*\{")
# Why an answer of nothing but white space has no exact answer.
EMPTY = "the answer is empty"


def find_exact_answer(
    answer: str, frame: str | None, options: ExactAnswer, quote: str | None = None
) -> tuple[tuple[int, int] | None, str]:
    """Locate the exact answer within `answer`.

    frame: the beginning of the answer that its question asks for; None if it has none.
    options: its `method` is one of

        frame: what follows the frame, to the end of the sentence; the answer must begin with the
            frame (case and spacing aside).
        sentence: the first sentence.
        auto: frame if the question has one, else sentence.
        line: the first line that holds a word.
        boxed: the content of the last \\boxed{...}, with balanced braces.
        final_answer: what follows the last "answer is", "Answer:" or "####" (or its like in some
            other languages), to the end of the sentence; the content of a box there.
        regex: the first match of `pattern`: its first group if that took part, else all of it.
        model: where `quote`, which the model was asked to quote from its answer, occurs in the
            answer: as it is, else with case ignored; as whole words, else anywhere.

    frame, sentence, line and final_answer leave out surrounding quotation marks, punctuation,
    emphasis and articles, but keep signs, brackets in pairs and LaTeX. boxed and regex leave out
    surrounding white space, model also the quotation marks and final stop of a quote.

    Returns the characters [start, end) and "", or None and why there is no exact answer.
    """
    if not answer.strip():
        return None, EMPTY
    method = options.method
    if method == "auto":
        method = "frame" if frame else "sentence"
    match method:
        case "frame":
            return _find_after_frame(answer, frame)
        case "sentence":
            start = _skip_marks(answer, 0, len(answer)) % len(answer)
            span = _trim(answer, start, find_sentence_end(answer, start))
            return span, "" if span else "the answer holds no word"
        case "line":
            lines = (line.span() for line in re.finditer(r".+", answer))
            span = next((span for line in lines if (span := _trim(answer, *line))), None)
            return span, "" if span else "the answer holds no word"
        case "boxed":
            return _find_box(answer)
        case "final_answer":
            return _find_final_answer(answer)
        case "regex":
            return _find_pattern(answer, options.pattern)
        case "model":
            return _find_quote(answer, quote)


def check_pattern(pattern: str | None) -> None:
    """Check `exact_answer.pattern` for the method regex.

    Raises:
        UserError: it is missing, or not a regular expression.
    """
    if not pattern:
        raise UserError("config: exact_answer.pattern: method regex needs one; give it")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"config: exact_answer.pattern: {pattern!r} is not a regular expression ({error}); "
            "correct it"
        ) from None


def overlapping(starts: Sequence[int], ends: Sequence[int], span: tuple[int, int]) -> list[int]:
    """Indices of the tokens that share a character with `span`.

    starts, ends: the characters [start, end) of each token; a token without any overlaps nothing.
    """
    return [
        index
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        if max(start, span[0]) < min(end, span[1])
    ]


def _find_after_frame(answer: str, frame: str | None) -> tuple[tuple[int, int] | None, str]:
    if not frame:
        return None, "the question has no frame"
    words = r"\s*" + r"\s+".join(re.escape(word) for word in frame.split())
    # scripts written without spaces have no word boundary there
    if not re.search(f"[{UNSPACED}]$", frame.strip()):
        words += r"(?!\w)"
    match = re.match(words, answer, flags=re.IGNORECASE)
    if match is None:
        return None, "the answer does not begin with its frame"
    span = _trim(answer, match.end(), find_sentence_end(answer, match.end()))
    return span, "" if span else "nothing follows the frame"


def _find_box(answer: str, start: int = 0) -> tuple[tuple[int, int] | None, str]:
    boxes = list(_BOX.finditer(answer, start))
    if not boxes:
        return None, "the answer has no \\boxed{...}"
    inside, depth = boxes[-1].end(), 1
    # an escaped brace is part of the text
    for brace in re.finditer(r"\\.|[{}]", answer[inside:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            span = _strip(answer, inside, inside + brace.start())
            return span, "" if span else "the last box is empty"
    return None, "the last box is not closed"


def _find_final_answer(answer: str) -> tuple[tuple[int, int] | None, str]:
    for match in reversed(list(_FINAL_ANSWER.finditer(answer))[-_MOST_MARKERS:]):
        opening = _DISPLAY.match(answer, match.end()).end()
        start = _skip_marks(answer, opening, min(len(answer), opening + _REACH))
        end = find_sentence_end(answer, start)
        box = _BOX.search(answer, match.end(), max(end, opening + len(r"\\fboxed {")))
        if box:
            return _find_box(answer, box.start())
        if span := _trim(answer, start, end):
            return span, ""
    return None, 'the answer has no "answer is", "Answer:" or "####" with text after it'


def _find_pattern(answer: str, pattern: str) -> tuple[tuple[int, int] | None, str]:
    match = re.search(pattern, answer)
    if match is None:
        return None, "the pattern does not match"
    span = _strip(answer, *match.span(1 if match.re.groups and match[1] is not None else 0))
    return span, "" if span else "the pattern matches no text"


def _find_quote(answer: str, quote: str | None) -> tuple[tuple[int, int] | None, str]:
    quote = re.escape((quote or "").lstrip(_QUOTES).rstrip(_QUOTES + ".。"))
    if not quote:
        return None, "the model quoted nothing"
    for flags in (0, re.IGNORECASE):
        for words in (rf"(?<!\w){quote}(?!\w)", quote):
            if match := re.search(words, answer, flags):
                return match.span(), ""
    return None, "the model's quote is not in its answer"


def _strip(answer: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without surrounding white space; None if nothing is left."""
    text = answer[start:end]
    if not text.strip():
        return None
    return end - len(text.lstrip()), start + len(text.rstrip())


def _trim(answer: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without surrounding spaces, punctuation and a leading article; None without a word.

    Signs, units, brackets in pairs and LaTeX stay: -5 and 5 are different answers.
    """
    whole = _strip(answer, start, end)
    start = _skip_marks(answer, start, end)
    if article := _LEADING_ARTICLE.match(answer, start, end):
        start = _skip_marks(answer, article.end(), end)
    # Even the last stop of "Washington D.C." goes: judges compare words.
    while end > start and not _belongs_at_end(answer, start, end):
        end -= 1
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if answer.startswith(opening, start) and answer.find(
            closing, start + len(opening), end
        ) == end - len(closing):
            return _trim(answer, start + len(opening), end - len(closing))
    if start == end and whole and not any(map(str.isalnum, answer[slice(*whole)])):
        # "+", or an emoji
        start, end = whole
    text = answer[start:end]
    if not any(char.isalnum() or unicodedata.category(char) in ("Sm", "So") for char in text):
        return None
    return start, end


def _skip_marks(answer: str, start: int, end: int) -> int:
    while start < end and not _belongs_at_start(answer, start, end):
        start += 1
    return start


def _belongs_at_start(answer: str, at: int, end: int) -> bool:
    char, after = answer[at], answer[at + 1 : min(end, at + 20)]
    if char.isalnum():
        return True
    if char in "-−–" or (unicodedata.category(char) == "Sm" and char != "|"):
        if char not in "-−–+":
            return True
        # a sign, not the hyphen of a range or of a list item
        before = answer[at - 1] if at else " "
        if char == "–":
            return before.isspace() and bool(re.match(r"\d", after))
        return not before.isalnum() and bool(re.match(r"[\d.\\($∞√π]|[^\W\d_](?![^\W_])", after))
    if char == ".":
        return bool(re.match(r"\d", after)) and not (at and answer[at - 1] in ".\\")
    if char in _BRACKETS:
        return _find_closing(answer, at, end) is not None
    if char == "\\":
        return bool(re.match(r"[a-zA-Z]+|[{(\[$]", after))
    return unicodedata.category(char) == "Sc"


def _belongs_at_end(answer: str, start: int, end: int) -> bool:
    char, before = answer[end - 1], answer[max(start, end - 6) : end - 1]
    if char == "|":
        return answer.count("|", max(start, end - _REACH), end) % 2 == 0
    if char in _BRACKETS.values():
        return _find_opening(answer, start, end - 1) is not None
    if char == "%":
        return bool(re.search(r"\d\s?\\?$", before))
    if char in "°!#'′″" and before:  # "C#", "f'"
        return before[-1].isdigit() or (char == "#" and before[-1] in "CF")
    if char in "+-−":  # "C++", "A+", "Na+", "O-"
        return bool(re.search(r"(?:^|[\s(])(?:[A-Z][a-z]?[A-Z]?\d?|C\+)$", before))
    category = unicodedata.category(char)
    # vowel signs end many words of Indian scripts; variation selectors follow an emoji
    if category.startswith("M"):
        return bool(before) and category != "Me" and not "\ufe00" <= char <= "\ufe0f"
    return char.isalnum() or category == "Sc" or char in "∞"


def _find_closing(answer: str, at: int, end: int) -> int | None:
    """The index of the bracket that closes the one at `at`, near it and before `end`."""
    opening = answer[at]
    end = min(end, at + _REACH)
    if opening == "|":
        found = answer.find("|", at + 1, end)
        return None if found < 0 else found
    # (1, 4] is an interval
    openings, closings = ("([", ")]") if opening in "([" else (opening, _BRACKETS[opening])
    depth = 0
    for index in range(at, end):
        depth += (answer[index] in openings) - (answer[index] in closings)
        if depth == 0:
            return index
    return None


def _find_opening(answer: str, start: int, at: int) -> int | None:
    """The index of the bracket that the one at `at` closes, near it and not before `start`."""
    closing = answer[at]
    if closing in ")]":
        openings, closings = "([", ")]"
    else:
        closings = closing
        openings = next(opening for opening, other in _BRACKETS.items() if other == closing)
    depth = 0
    for index in range(at, max(start, at - _REACH) - 1, -1):
        depth += (answer[index] in closings) - (answer[index] in openings)
        if depth == 0:
            return index
    return None
