"""Exact answers: where in a generated answer the answer itself stands, and whether it is right.

The span is found by a procedure that sees the question's frame and the answer's text (and what the
model quotes from it), never the right answer or the label; correctness is judged afterwards, on the
span. Looking for right answers by their gold string and for wrong ones otherwise would write the
label into the positions.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from llm_figures.core.errors import UserError

# A full stop ends a sentence unless it stands after an initial or one of these.
_ABBREVIATIONS = "St|Mt|Ft|Dr|Mr|Mrs|Ms|No|Jr|Sr|vs"
_AFTER_ABBREVIATION = re.compile(rf"\b(?:{_ABBREVIATIONS})\.$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？।\n]")
# What stands before the first word, or before the first number with its sign and decimal point.
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
# An article stands before a word: the A of "Vitamin A" and of "A) Lima" is none.
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


def exact_answer(
    answer: str,
    frame: str | None = None,
    *,
    method: str = "auto",
    pattern: str | None = None,
    quote: str | None = None,
) -> tuple[int, int] | None:
    """Characters [start, end) of the exact answer within `answer`; None if there is none.

    See `find_exact_answer`, which also says why there is none.
    """
    return find_exact_answer(answer, frame, method=method, pattern=pattern, quote=quote)[0]


def find_exact_answer(
    answer: str,
    frame: str | None = None,
    *,
    method: str = "auto",
    pattern: str | None = None,
    quote: str | None = None,
) -> tuple[tuple[int, int] | None, str]:
    """The exact answer's characters [start, end) and "", or None and why there is none.

    method:
        frame: the answer must begin with `frame` (case and spacing aside); the span is what
            follows, to the end of the sentence.
        sentence: the first sentence.
        auto: `frame` where the question has one, else `sentence`.
        line: the first line that holds a word.
        regex: the first match of `pattern`: its first group if that took part, else all of it.
        model: where `quote`, what the model itself quoted from its answer, stands in the answer:
            as it is, else with case ignored; as whole words, else anywhere.

    Surrounding quotes, punctuation and articles are left out, but for `regex` and `model`, which
    lose surrounding white space and a quote's own quotation marks and final stop.

    Raises:
        ValueError: an unknown method.
    """
    if not answer.strip():
        return None, "the answer is empty"
    match "frame" if method == "auto" and frame else method:
        case "frame":
            return _after_frame(answer, frame)
        case "auto" | "sentence":
            start = _BEFORE_WORDS.match(answer)
            span = start and _trimmed(answer, start.end(), _sentence_end(answer, start.end()))
            return span, "" if span else "the answer holds no word"
        case "line":
            lines = (line.span() for line in re.finditer(r".+", answer))
            span = next((span for line in lines if (span := _trimmed(answer, *line))), None)
            return span, "" if span else "the answer holds no word"
        case "regex":
            return _of_pattern(answer, pattern)
        case "model":
            return _of_quote(answer, quote)
    raise ValueError(f"exact answers: unknown method {method!r}")


def check_pattern(pattern: str | None) -> None:
    """That the config's `exact_answer.pattern` serves the method regex.

    Raises:
        UserError: it is missing, or no regular expression.
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

    starts, ends: the characters [start, end) that each token covers; a token that covers none
    overlaps nothing.
    """
    return [
        index
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        if max(start, span[0]) < min(end, span[1])
    ]


def is_correct(exact: str, aliases: Sequence[str]) -> bool:
    """Whether any alias stands in `exact` as whole words (see `normalised`).

    Scripts without spaces have no such words: there an alias counts wherever it stands.
    """
    words = normalised(exact)
    return any(
        # An alias without words, "+" or an emoji, counts where it stands.
        _contains(words, part) if (part := normalised(alias)) else _stands(alias, exact)
        for alias in aliases
    )


def normalised(text: str) -> list[str | Decimal]:
    """The words of `text` without case, accents, punctuation and articles; numbers by value.

    A comma between groups of three digits groups them ("3,000"); any other separates two numbers
    ("1,5" is 1 and 5). A stop before digits is the decimal point; more than one make a list
    ("24.12.1914"). A minus sign stands directly before a number, after a space or an opening
    bracket. Ordinals, decades and digits within a word ("7th", "1990s", "H2O") are words. Of
    scripts without spaces every character is a word. Fractions, exponents and number words are not
    evaluated.
    """
    plain = _ARTICLE.sub("", _folded(text))
    tokens: list[str | Decimal] = []
    end = 0
    for number in _NUMBER.finditer(plain):
        tokens += _words(plain[end : number.start()])
        digits = number[0].replace(",", "")
        tokens += map(Decimal, digits.split(".") if digits.count(".") > 1 else [digits])
        end = number.end()
    return tokens + _words(plain[end:])


def _after_frame(answer: str, frame: str | None) -> tuple[tuple[int, int] | None, str]:
    if not frame:
        return None, "the question has no frame"
    words = r"\s*" + r"\s+".join(re.escape(word) for word in frame.split()) + r"(?!\w)"
    match = re.match(words, answer, flags=re.IGNORECASE)
    if match is None:
        return None, "the answer does not begin with its frame"
    span = _trimmed(answer, match.end(), _sentence_end(answer, match.end()))
    return span, "" if span else "nothing follows the frame"


def _of_pattern(answer: str, pattern: str) -> tuple[tuple[int, int] | None, str]:
    match = re.search(pattern, answer)
    if match is None:
        return None, "the pattern does not match"
    start, end = match.span(1 if match.re.groups and match[1] is not None else 0)
    found = answer[start:end]
    if not found.strip():
        return None, "the pattern matches no text"
    return (end - len(found.lstrip()), start + len(found.rstrip())), ""


def _of_quote(answer: str, quote: str | None) -> tuple[tuple[int, int] | None, str]:
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


def _trimmed(answer: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without spaces, punctuation and leading articles; None if nothing is left.

    A number keeps its sign: -5 is another answer than 5.
    """
    first = _BEFORE_WORDS.match(answer, start, end)
    if first and (article := _LEADING_ARTICLE.match(answer, first.end(), end)):
        first = _BEFORE_WORDS.match(answer, article.end(), end)
    if first is None:
        return None
    # The last stop of "Washington D.C." goes, too: whole words decide, not stops.
    last = max(index for index in range(first.end(), end) if answer[index].isalnum()) + 1
    while last < end and _is_mark(answer[last]):  # vowel signs end many words of Indian scripts
        last += 1
    return first.end(), last


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", _RAISED.sub(" ", text)).casefold()
    plain = "".join(char for char in plain if not _is_accent(char))
    return unicodedata.normalize("NFC", plain).translate(_STROKES).replace("−", "-")


def _is_accent(char: str) -> bool:
    """Whether `char` is an accent or an optional vowel point.

    Combining classes below 10 and from 84 to 199 hold what tells words apart: kana's voicing marks,
    vowel killers and vowel signs of Indian and Thai scripts.
    """
    combining = unicodedata.combining(char)
    return 10 <= combining < 84 or combining >= 200


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _words(text: str) -> list[str]:
    text = re.sub(r"['’‘ʻʼ`]|(?<!\d)\.|\.(?!\d)", "", text)
    text = _UNSPACED_CHARACTER.sub(r" \g<0> ", text)
    return "".join(char if char.isalnum() or _is_mark(char) else " " for char in text).split()


def _stands(alias: str, exact: str) -> bool:
    return bool(alias.strip()) and alias.strip() in exact


def _contains(words: list[str | Decimal], part: list[str | Decimal]) -> bool:
    width = len(part)
    return width > 0 and any(
        words[index : index + width] == part for index in range(len(words) - width + 1)
    )
