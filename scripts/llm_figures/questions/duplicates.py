"""Duplicate questions: those that differ only in spelling, and those that ask nearly the same.

The first are never split between training and test set. The second are only reported.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Pairs of questions of at least this similarity are near-duplicates. Of the pairs in
# tests/unit/questions/test_duplicates.py it finds most that ask the same, and none that do not; of
# the built-in facts and of sums it finds none.
SIMILARITY = 0.8
# Questions whose pairs are found at a time, which bounds the memory.
BLOCK = 256
# Similarities are rounded to it.
ROUNDING = 1e-6
# Pairs that are compared at a time, which bounds the memory, too.
PAIRS = 200_000
# A word of more than this share of the questions says nothing of a single one …
COMMON_WORD = 0.6
# … where there are as many questions.
FEWEST_QUESTIONS = 50
# English words that say nothing of what a question asks. Those that do (who, when, not) stay.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to for by from with as is are was were be been being do does did has "
        "have had what which that this these those there it its your our s me tell name give "
        "please can could would you i and or",
    )
)
_SAME_WORDS = {"whom": "who", "whose": "who"}
# Two questions that differ in one of these differ in what they ask.
_NUMBER_OR_SIGN = re.compile(r"\d+(?:\.\d+)?|[-+*/^=<>%!#:]")
_DECISIVE_WORD = re.compile(
    r"\b(?:not?|never|nor|without|except|second|third|fourth|fifth|last)\b|n['’]t\b"
)
_WORD = re.compile(r"[^\W_]+")

# Signs that are read as others between numbers, and LaTeX commands that stand for signs or layout.
_LATEX = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:left|right|displaystyle|text|mathrm|mathbf|mathit|quad)(?![A-Za-z])"), ""),
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), " × "),
    (re.compile(r"\\div(?![A-Za-z])"), " ÷ "),
    (re.compile(r"\\leq?(?![A-Za-z])"), " ≤ "),
    (re.compile(r"\\geq?(?![A-Za-z])"), " ≥ "),
    (re.compile(r"\\pm(?![A-Za-z])"), " ± "),
    (re.compile(r"\\[,;:! ()\[\]]"), ""),
)
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴-⁹⁺⁻]+")
_MARKS_OF_TRADE = re.compile("[™®©℠]")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i", "ё": "е"})
# 1,000 and 1 000 and 1'000 for 1000, and .5 for 0.5.
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:[,_'’]\d{3})+|(?: \d{3})+)(?![\d,])")
_NO_ZERO = re.compile(r"(?<![\w.])\.(?=\d)")
_DASHES = "-‐‑‒–−"
_LONG_DASHES = "—―"
_TIMES = "*×⋅·∙x"
_OVER = "/÷∕⁄"
_OPEN, _CLOSE = "([{", ")]}"
# A number, a bracket or a letter of its own such as x: what a sign of arithmetic stands between.
_OPERAND = r"(?:\d|[()\[\]{}]|(?<![^\W\d_])[^\W\d_](?![^\W\d_]))"
_FORMULA = re.compile(rf"[=^≤≥≠√∑∫±]|{_OPERAND}\s*[+*×⋅·÷/<>]\s*{_OPERAND}")


def normalise_question(question: str) -> str:
    """What is left of a question without case, spacing, punctuation and accents; equal for
    questions that differ in these alone.

    What changes the meaning stays: digits and where one number ends and the next begins, decimal
    points, signs of arithmetic, C++ and C#. A hyphen between words is spelling, one before a number
    is a minus, one between a single letter and a number (B-12, x-3) is a minus only in a formula.
    In doubt two spellings are the same: a wrong merge only keeps two questions on one side of a
    split, a wrong separation lets one leak into the test set.

    A question without letters and digits keeps its punctuation.
    """
    text = _plain_characters(question)
    found = _Signs(text).keep()
    return found or "".join(question.split())


def _plain_characters(question: str) -> str:
    """One character for each that is written in several ways, without accents."""
    text = question
    for pattern, sign in _LATEX:
        text = pattern.sub(sign, text)
    text = _MARKS_OF_TRADE.sub("", text.replace("**", "^"))
    # 10² is not 102, and 1½ is not 11/2.
    text = _SUPERSCRIPTS.sub(lambda found: f"^{found[0]}", text)
    text = "".join(
        f" {char}" if "⁄" in unicodedata.normalize("NFKC", char) else char for char in text
    )
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _without_accents(text).translate(_LETTERS)
    text = "".join(_plain_character(char) for char in text)
    text = _NO_ZERO.sub("0.", " ".join(text.split()))
    return _THOUSANDS.sub(lambda found: found[1] + re.sub(r"\D", "", found[2]), text)


@cache
def _plain_character(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf" or char == "ـ" or "\ufe00" <= char <= "\ufe0f":
        return ""  # zero-width characters, and the stroke that stretches Arabic words
    if category == "Nd":
        return str(unicodedata.decimal(char))
    return " " if char.isspace() else char


def _without_accents(text: str) -> str:
    """`text` without the marks on letters of scripts in which they are often left out.

    Marks of other scripts are vowels or make another letter (की, が, й).
    """
    kept = []
    base = ""
    for char in unicodedata.normalize("NFD", text):
        if unicodedata.category(char) != "Mn":
            base = char
        elif _drops_accents(base) or char == "\u0301":  # the stress of a Cyrillic vowel
            continue
        kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


@cache
def _drops_accents(char: str) -> bool:
    scripts = ("LATIN", "GREEK", "HEBREW", "ARABIC")
    return unicodedata.name(char, "").startswith(scripts) if char else False


@cache
def _is_unspaced(char: str) -> bool:
    """Whether a letter belongs to a script without spaces between words."""
    scripts = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    return unicodedata.name(char, "").startswith(scripts)


class _Signs:
    """Which characters of a plain text are kept."""

    def __init__(self, text: str):
        self._text = text
        self._formula = _FORMULA.search(text) is not None
        self._brackets = _find_kept_brackets(text)

    def keep(self) -> str:
        kept: list[str] = []
        gap = False  # whether something was dropped since the last kept character
        for at, char in enumerate(self._text):
            sign = self._keep_character(at, char)
            if sign and sign[0].isdigit() and gap and kept and kept[-1][-1].isdigit():
                kept.append(" ")
            gap = not sign
            if sign:
                kept.append(sign)
        return "".join(kept)

    def _keep_character(self, at: int, char: str) -> str:
        """What stands for a character in the key; empty if it is dropped."""
        if char.isspace():
            return ""
        if char.isalnum() and char != "x":
            return char
        text = self._text
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        left, right = text[:at].rstrip()[-1:], text[at + 1 :].lstrip()[:1]
        digits = left.isdigit() and right.isdigit()
        if char in _OPEN + _CLOSE:
            return self._brackets.get(at, "")
        if char in _DASHES:
            return "-" if self._is_minus(at, char) else ""
        if char in _LONG_DASHES:
            return "-" if digits else ""
        if char in _TIMES and (char != "x" or (digits and self._is_sign_x(at))):
            return "*" if self._between_operands(at) else ""
        if char in _OVER:
            return "/" if self._between_operands(at) else ""
        match char:
            case ".":
                return char if before.isdigit() and after.isdigit() else ""
            case ":":
                return char if digits else ""
            case "%":
                return char if left.isdigit() or left in ")]}" else ""
            case "#":
                return char if before.isalpha() else ""
            case "!":
                factorial = (before.isdigit() or before == ")") and right and right in "+-−*/^=)?×÷"
                return char if factorial else ""
            case "&":
                return "and"
            case "^":
                return char
            case "$" | "|" | "~" | "`":
                return ""
        if unicodedata.category(char)[0] in "PZC" or unicodedata.category(char) == "Sk":
            return ""
        return char

    def _is_minus(self, at: int, char: str) -> bool:
        text = self._text
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        left = text[:at].rstrip()
        if not self._is_operand(at + 1, 1):
            return False
        if not left or not (left[-1].isalnum() or left[-1] in _CLOSE + "%!"):
            return True  # at the beginning, after a sign or a colon: of a negative number
        if self._is_operand(at - 1, -1):
            return True
        if left[-1].isalpha() and _word_length(text, len(left) - 1) > 1:
            # "is -5" and "is - 5" have a negative number; "Covid-19" and "Apollo – 11" do not.
            spaced = before.isspace() or _is_unspaced(left[-1])
            return spaced and (not after.isspace() or char in "-−") and self._is_number(at + 1)
        return False

    def _is_number(self, at: int) -> bool:
        return self._text[at:].lstrip()[:1].isdigit()

    def _between_operands(self, at: int) -> bool:
        return self._is_operand(at - 1, -1) and self._is_operand(at + 1, 1)

    def _is_operand(self, at: int, step: int) -> bool:
        """Whether the next character that is no space, from `at` in a direction, is of an operand.

        A letter of its own is one in a formula, or as a factor (2x).
        """
        text = self._text
        while 0 <= at < len(text) and text[at].isspace():
            at += step
        if not 0 <= at < len(text):
            return False
        char = text[at]
        if char.isdigit():
            return True
        if step > 0 and (char in _OPEN + "\\√€£¥" or char in _DASHES):
            return char not in _DASHES or self._is_operand(at + 1, 1)
        if step < 0 and char in _CLOSE + "%!":
            return True
        if char.isalpha() and not _is_unspaced(char) and _word_length(text, at) == 1:
            return self._formula or (step < 0 and text[at - 1 : at].isdigit())
        return False

    def _is_sign_x(self, at: int) -> bool:
        """Whether an x between digits is a word of its own or joined to both: 3 x 4, 3x4."""
        return self._text[at - 1 : at].isspace() == self._text[at + 1 : at + 2].isspace()


def _word_length(text: str, at: int) -> int:
    """The number of letters of the word that has the letter at `at`."""
    start, end = at, at + 1
    while start and text[start - 1].isalpha():
        start -= 1
    while end < len(text) and text[end].isalpha():
        end += 1
    return end - start


def _find_kept_brackets(text: str) -> dict[int, str]:
    """Places of brackets that change the value of a formula, with the bracket that stands there.

    Those hold a sign of arithmetic, and a number, a bracket or a sign stands next to them.
    """
    kept: dict[int, str] = {}
    opened: list[int] = []
    signs = set("+*/^" + _DASHES + "×÷⋅·")
    for at, char in enumerate(text):
        if char in _OPEN:
            opened.append(at)
        elif char in _CLOSE and opened:
            start = opened.pop()
            before, after = text[:start].rstrip()[-1:], text[at + 1 :].lstrip()[:1]
            beside = before.isdigit() or before in signs | set(_CLOSE) or after in signs
            if beside and signs & set(text[start:at]):
                kept |= {start: "(", at: ")"}
    return kept


def find_near_duplicates(questions: pd.DataFrame) -> pd.DataFrame:
    """Pairs of questions in different split groups that seem to ask the same.

    questions: columns question_id, question, split_group.

    Returns question_id, other_id (the larger one), similarity, by question_id: for every question
    with a near-duplicate the most similar one, each pair once.

    The similarity is the smaller of two cosines between the words of two questions: weighted by
    TF-IDF, by which questions of one template differ in what they are about, and unweighted, by
    which questions about one thing differ in what they ask. Numbers, signs, negations and ordinals
    must be the same, in the same order. Synonyms (wrote, author) are not seen.
    """
    texts = questions["question"].tolist()
    words = _find_words(texts)
    found: dict[tuple[int, int], float] = {}
    if any(words):
        ids = questions["question_id"].to_numpy()
        for one, other, similarity in _find_nearest(
            words,
            questions["split_group"].to_numpy(),
            pd.factorize(pd.Series([_find_decisive(text) for text in texts]))[0],
        ):
            found[tuple(sorted((int(ids[one]), int(ids[other]))))] = similarity
    rows = [(*pair, similarity) for pair, similarity in sorted(found.items())]
    types = {"question_id": "int64", "other_id": "int64", "similarity": "float64"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def _find_nearest(
    words: list[list[str]], split_groups: np.ndarray, decisive: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Every question with a near-duplicate in another split group: (it, the nearest, similarity).

    decisive: [questions], equal where near-duplicates may be.

    Two sets of words with the cosine s share s² of the words of either, so that each has a shared
    one among its rarest words (the prefix filter of Chaudhuri et al. 2006). Only pairs with such a
    word in common are compared: all pairs would be 5 thousand million of 100,000 questions.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    weighted, plain = (
        TfidfVectorizer(analyzer=list, use_idf=weighted, binary=True).fit_transform(words)
        for weighted in (True, False)
    )
    rare = _keep_rarest(plain)
    for members in pd.Series(range(len(words))).groupby(decisive).indices.values():
        if len(members) == 1:
            continue
        own = rare[members]
        for start in range(0, len(members), BLOCK):
            pairs = (own[start : start + BLOCK] @ own.T).tocoo()
            rows, columns = members[pairs.row + start], members[pairs.col]
            other = split_groups[rows] != split_groups[columns]
            rows, columns = rows[other], columns[other]
            values = np.concatenate(
                [
                    np.minimum(*(_multiply(matrix, *pair) for matrix in (weighted, plain)))
                    for at in range(0, max(1, len(rows)), PAIRS)
                    for pair in [(rows[at : at + PAIRS], columns[at : at + PAIRS])]
                ]
            ).round(6)  # the same products in another order are equal
            kept = values >= SIMILARITY
            rows, columns, values = rows[kept], columns[kept], values[kept]
            order = np.lexsort((columns, -values, rows))
            _, first = np.unique(rows[order], return_index=True)
            for at in order[first]:
                yield int(rows[at]), int(columns[at]), float(values[at])


def _multiply(words: "csr_matrix", rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[pairs]: the products of pairs of rows."""
    return np.asarray(words[rows].multiply(words[others]).sum(axis=1)).ravel()


def _keep_rarest(words: "csr_matrix") -> "csr_matrix":
    """The words of each question of which a near-duplicate must share one.

    words: [questions, words], without zeros.
    """
    from scipy.sparse import csr_matrix

    frequency = words.getnnz(axis=0)
    counts = np.diff(words.indptr)
    question = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((words.indices, frequency[words.indices], question))
    rank = np.arange(len(order)) - words.indptr[question]
    least = np.ceil((SIMILARITY - ROUNDING) ** 2 * counts)  # words that a near-duplicate shares
    kept = order[rank <= (counts - least)[question]]
    ones = np.ones(len(kept), np.int32)
    return csr_matrix((ones, (question[kept], words.indices[kept])), shape=words.shape)


def _find_words(texts: list[str]) -> list[list[str]]:
    """The words of each text that say what it asks; pairs of characters in unspaced scripts."""
    words = [
        [word for part in _WORD.findall(_plain_characters(text)) for word in _split_part(part)]
        for text in texts
    ]
    if len(words) < FEWEST_QUESTIONS:
        return words
    counts = Counter(word for text in words for word in set(text))
    common = {word for word, count in counts.items() if count > COMMON_WORD * len(words)}
    return [[word for word in text if word not in common] for text in words]


def _split_part(part: str) -> list[str]:
    if any(map(_is_unspaced, part)):
        return [part[at : at + 2] for at in range(max(1, len(part) - 1))]
    word = _SAME_WORDS.get(part, part)
    if word in _FUNCTION_WORDS:
        return []
    plural = len(word) > 3 and word.endswith("s") and not word.endswith("ss")
    return [word[:-1] if plural else word]


def _find_decisive(text: str) -> str:
    """The numbers and signs of a text in their order, and the words that negate or count."""
    numbers = _NUMBER_OR_SIGN.findall(normalise_question(text))
    return " ".join([*numbers, *_DECISIVE_WORD.findall(_plain_characters(text))])
