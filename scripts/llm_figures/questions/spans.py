"""Exact answers: their spans within generated answers, and whether they are right.

A span is located without using the gold answer or the label, from the question's frame and the
answer's text (and the model's own quote from it) alone; correctness is judged afterwards, on the
span. Locating right answers by their gold string and wrong ones in another way would leak the label
into the positions.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from llm_figures.core.errors import UserError
from llm_figures.questions.options import ExactAnswer

# A full stop ends a sentence unless it follows an initial or one of these.
_ABBREVIATIONS = "St|Mt|Ft|Dr|Mr|Mrs|Ms|No|Jr|Sr|vs"
_AFTER_ABBREVIATION = re.compile(rf"\b(?:{_ABBREVIATIONS})\.$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？।\n]")
# Everything before the first word, or before the first number with its sign and decimal point.
_BEFORE_WORDS = re.compile(r"[\W_]*?(?=(?<![\w.−-])[-−]?\.?\d|[^\W_])")
_LEADING_ARTICLE = re.compile(r"(?:the|an|a)\s+", re.IGNORECASE)
_QUOTES = " \t\n\r\"'`“”„‘’«»「」『』"

# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
)
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
# Letters that differ from a plain one by a stroke or a dot, which Unicode does not decompose.
_STROKES = str.maketrans({**dict(zip("łøđħŧı", "lodhti", strict=True)), "æ": "ae", "œ": "oe"})
# "10²" is not 102, "3½" not 31/2; "H₂O" stays one word.
_RAISED = re.compile(r"(?<=\d)(?=[\u00b2\u00b3\u00b9\u2070-\u208e\u00bc-\u00be\u2150-\u215e])")
# An article precedes a word: the A of "Vitamin A" and of "A) Lima" is none.
_ARTICLE = re.compile(r"\b(?:the|an|a)\s+(?=[^\w\s(]*\w)")
_NUMBER = re.compile(
    rf"""
    (?<![^\W_{_UNSPACED}])(?<!\d\.)              # not within a word: H2O, v2.0
    (?:(?<![^\s(\[{{"'“‘«=:,;<>≈~*_^$€£])-)?     # a sign, not the hyphen of 1914-1918
    (?>\d{{1,3}}(?:,\d{{3}})+(?!,?\d)|\d+|(?<!\.)(?=\.\d))
    (?>(?:\.\d+)*)
    (?!(?:st|nd|rd|th|s)\b)                      # 7th and 1990s are words
    """,
    re.VERBOSE,
)


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
        regex: the first match of `pattern`: its first group if that took part, else all of it.
        model: where `quote`, which the model was asked to quote from its answer, occurs in the
            answer: as it is, else with case ignored; as whole words, else anywhere.

    frame, sentence and line leave out surrounding quotation marks, punctuation and articles; regex
    and model surrounding white space, and model also the quotation marks and final stop of a quote.

    Returns the characters [start, end) and "", or None and why there is no exact answer.
    """
    if not answer.strip():
        return None, "the answer is empty"
    method = options.method
    if method == "auto":
        method = "frame" if frame else "sentence"
    match method:
        case "frame":
            return _find_after_frame(answer, frame)
        case "sentence":
            start = _BEFORE_WORDS.match(answer)
            span = start and _trim(answer, start.end(), _sentence_end(answer, start.end()))
            return span, "" if span else "the answer holds no word"
        case "line":
            lines = (line.span() for line in re.finditer(r".+", answer))
            span = next((span for line in lines if (span := _trim(answer, *line))), None)
            return span, "" if span else "the answer holds no word"
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


def is_correct(exact: str, aliases: Sequence[str]) -> bool:
    """Whether any alias occurs in `exact` as whole words (see `normalise`).

    In scripts without spaces, every character is a word.
    """
    words = normalise(exact)
    return any(
        # An alias without words, such as "+" or an emoji, may occur anywhere.
        _contains(words, part) if (part := normalise(alias)) else _occurs(alias, exact)
        for alias in aliases
    )


def normalise(text: str) -> list[str | Decimal]:
    """The words of `text` without case, accents, punctuation and articles; numbers by value.

    A comma between groups of three digits joins them ("3,000"); any other separates two numbers
    ("1,5" is 1 and 5). A stop before digits is a decimal point; several separate numbers
    ("24.12.1914"). A minus sign directly precedes a number and follows a space or an opening
    bracket. Ordinals, decades and digits within a word ("7th", "1990s", "H2O") are words. In
    scripts without spaces, every character is a word. Fractions, exponents and number words are not
    evaluated.
    """
    plain = _ARTICLE.sub("", _fold(text))
    tokens: list[str | Decimal] = []
    end = 0
    for number in _NUMBER.finditer(plain):
        tokens += _words(plain[end : number.start()])
        digits = number[0].replace(",", "")
        tokens += map(Decimal, digits.split(".") if digits.count(".") > 1 else [digits])
        end = number.end()
    return tokens + _words(plain[end:])


def _find_after_frame(answer: str, frame: str | None) -> tuple[tuple[int, int] | None, str]:
    if not frame:
        return None, "the question has no frame"
    words = r"\s*" + r"\s+".join(re.escape(word) for word in frame.split()) + r"(?!\w)"
    match = re.match(words, answer, flags=re.IGNORECASE)
    if match is None:
        return None, "the answer does not begin with its frame"
    span = _trim(answer, match.end(), _sentence_end(answer, match.end()))
    return span, "" if span else "nothing follows the frame"


def _find_pattern(answer: str, pattern: str) -> tuple[tuple[int, int] | None, str]:
    match = re.search(pattern, answer)
    if match is None:
        return None, "the pattern does not match"
    start, end = match.span(1 if match.re.groups and match[1] is not None else 0)
    text = answer[start:end]
    if not text.strip():
        return None, "the pattern matches no text"
    return (end - len(text.lstrip()), start + len(text.rstrip())), ""


def _find_quote(answer: str, quote: str | None) -> tuple[tuple[int, int] | None, str]:
    quote = re.escape((quote or "").lstrip(_QUOTES).rstrip(_QUOTES + ".。"))
    if not quote:
        return None, "the model quoted nothing"
    for flags in (0, re.IGNORECASE):
        for words in (rf"(?<!\w){quote}(?!\w)", quote):
            if match := re.search(words, answer, flags):
                return match.span(), ""
    return None, "the model's quote is not in its answer"


def _sentence_end(answer: str, start: int) -> int:
    for match in _SENTENCE_END.finditer(answer, start):
        end = match.start()
        before = answer[start : end + 1]
        # "George W. Bush", "D.C."; but "C." alone is the symbol of carbon
        initial = re.search(r"\w.*[\s.][A-Z]\.$", before)
        last = not answer[end + 1 :].strip()
        if answer[end] == "." and not last and (initial or _AFTER_ABBREVIATION.search(before)):
            continue
        return end
    return len(answer)


def _trim(answer: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without spaces, punctuation and leading articles; None if nothing is left.

    A number keeps its sign: -5 and 5 are different answers.
    """
    first = _BEFORE_WORDS.match(answer, start, end)
    if first and (article := _LEADING_ARTICLE.match(answer, first.end(), end)):
        first = _BEFORE_WORDS.match(answer, article.end(), end)
    if first is None:
        return None
    # Even the last stop of "Washington D.C." goes: `is_correct` compares words.
    last = max(index for index in range(first.end(), end) if answer[index].isalnum()) + 1
    while last < end and _is_mark(answer[last]):  # vowel signs end many words of Indian scripts
        last += 1
    return first.end(), last


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", _RAISED.sub(" ", text)).casefold()
    plain = "".join(char for char in plain if not _is_accent(char))
    return unicodedata.normalize("NFC", plain).translate(_STROKES).replace("−", "-")


def _is_accent(char: str) -> bool:
    """Whether `char` is an accent or an optional vowel point.

    Combining classes below 10 and from 84 to 199 distinguish words: the voicing marks of kana, the
    vowel signs and vowel killers of Indian and Thai scripts.
    """
    combining = unicodedata.combining(char)
    return 10 <= combining < 84 or combining >= 200


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _words(text: str) -> list[str]:
    text = re.sub(r"['’‘ʻʼ`]|(?<!\d)\.|\.(?!\d)", "", text)
    text = _UNSPACED_CHARACTER.sub(r" \g<0> ", text)
    return "".join(char if char.isalnum() or _is_mark(char) else " " for char in text).split()


def _occurs(alias: str, exact: str) -> bool:
    return bool(alias.strip()) and alias.strip() in exact


def _contains(words: list[str | Decimal], part: list[str | Decimal]) -> bool:
    width = len(part)
    return any(words[index : index + width] == part for index in range(len(words) - width + 1))
