"""Exact answers: where in a generated answer the answer itself stands, and whether it is right.

The span is found by a procedure that sees the question's frame and the answer's text, never the
right answer or the label; correctness is judged afterwards, on the span. Looking for right answers
by their gold string and for wrong ones otherwise would write the label into the positions.
"""

import re
import unicodedata
from collections.abc import Sequence

# A full stop ends a sentence unless it stands after an initial or one of these.
_ABBREVIATIONS = "St|Mt|Ft|Dr|Mr|Mrs|Ms|No|Jr|Sr|vs"
_AFTER_ABBREVIATION = re.compile(rf"\b(?:{_ABBREVIATIONS})\.$")
_ARTICLES = {"a", "an", "the"}


def exact_answer(answer: str, frame: str | None = None) -> tuple[int, int] | None:
    """Characters [start, end) of the exact answer within `answer`; None if there is none.

    With a `frame` the answer must begin with it (case and spacing aside) and the span is what
    follows, to the end of the sentence. Without one the span is the first sentence. Surrounding
    quotes, punctuation and articles are left out.
    """
    start = 0
    if frame:
        pattern = r"\s*" + r"\s+".join(re.escape(word) for word in frame.split()) + r"(?!\w)"
        match = re.match(pattern, answer, flags=re.IGNORECASE)
        if match is None:
            return None
        start = match.end()
    end = _sentence_end(answer, start)
    return _trimmed(answer, start, end)


def is_correct(exact: str, aliases: Sequence[str]) -> bool:
    """Whether any alias stands in `exact` as whole words.

    Case, accents, punctuation and articles do not count.
    """
    words = normalised(exact)
    return any(_contains(words, normalised(alias)) for alias in aliases)


def normalised(text: str) -> list[str]:
    """The words of `text` without case, accents, punctuation and articles."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    plain = re.sub(r"['’ʻʼ`.]", "", plain)
    return [word for word in re.findall(r"\w+", plain) if word not in _ARTICLES]


def _sentence_end(answer: str, start: int) -> int:
    for match in re.finditer(r"[.!?](?=\s|$)|\n", answer[start:]):
        end = start + match.start()
        before = answer[start : end + 1]
        # "George W. Bush", "D.C."; but "C." alone is the symbol of carbon
        initial = re.search(r"\w.*[\s.][A-Z]\.$", before)
        last = not answer[end + 1 :].strip()
        if answer[end] == "." and not last and (initial or _AFTER_ABBREVIATION.search(before)):
            continue
        return end
    return len(answer)


def _trimmed(answer: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without spaces, punctuation and leading articles; None if nothing is left."""
    leading = re.match(r"[\W_]*(?:(?:the|an|a)\s+)?[\W_]*", answer[start:end], re.IGNORECASE)
    start += leading.end()
    # The last stop of "Washington D.C." goes, too: whole words decide, not stops.
    trailing = re.search(r"[\W_]*$", answer[start:end])
    end = start + trailing.start()
    return (start, end) if end > start else None


def _contains(words: list[str], part: list[str]) -> bool:
    width = len(part)
    return width > 0 and any(
        words[index : index + width] == part for index in range(len(words) - width + 1)
    )
