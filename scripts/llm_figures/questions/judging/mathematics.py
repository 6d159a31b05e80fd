"""Mathematical expressions, compared by Math-Verify (sympy): 1 + x is x + 1, [1,4] is [1, 4]."""

import logging
from functools import lru_cache

import regex

from llm_figures.questions.judging.quantities import Quantity
from llm_figures.questions.judging.words import tokenise

_LATEX = regex.compile(r"\\(?!text|mathrm|textbf|\$|%)[a-zA-Z]+|[\^√π∞≤≥≠∪∩±∈]|\d\s*[×÷·]\s*\d")
# An operator between terms: numbers, variables of one letter, brackets.
_TERM = r"(?:\d[\d.]*|(?<![^\W\d_])[a-zA-Z](?![^\W\d_])|[)\]}])"
_NEXT = r"(?:\d|[a-zA-Z](?![^\W\d_])|\()"
_OPERATION = regex.compile(
    rf"{_TERM}\s*[+*=<>]\s*[-\\(]?\s*{_NEXT}"  # x+1, 3*(4
    rf"|{_TERM}\s+-\s+{_NEXT}|(?<![\w-])[a-zA-Z]-\d"  # x - 1, x-1
    r"|(?<![\w.])\d{1,3}[a-rt-z](?![\w°])"  # 2x, not the 1990s
)
_TUPLE = regex.compile(r"[(\[{]\s*[^,()\[\]{}]{1,20}(?:,[^,()\[\]{}]{1,20})+[)\]}]")
_LIST = regex.compile(r"\s*-?\d[\d./]*(?:\s*(?:,|and)\s*-?\d[\d./]*)+\s*")
_TERMS_ONLY = regex.compile(r"[^\W\d_]{2,}")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc log ln exp sqrt frac dfrac tfrac pi infty cup cap left right cdot "
    "times div pm leq geq le ge neq text mathrm in mathbb binom boxed alpha beta theta lambda "
    "emptyset mid circ pmatrix begin end ldots dots cis arcsin arccos arctan overline".split()
)
# Words that stand before an expression: "x is", "the result is".
_INTRODUCTION = regex.compile(
    r"^.*?(?:\b(?:is|are|equals?|be|to|=>)\b|[:：]|⇒|\\implies)\s*", regex.DOTALL
)
_SIGNS = {"π": "\\pi ", "×": "\\times ", "·": "\\cdot ", "÷": "/", "−": "-", "≤": "\\le ",
          "≥": "\\ge ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "±": "\\pm ",
          "²": "^2", "³": "^3"}  # fmt: skip
_LAST_WORD = regex.compile(r"\b[^\W\d_]{2,}\b[:,]?\s+(?=[^\s])(?!(?:or|and)\b)")
_JOINT = regex.compile(r"\s+(?:or|and)\s+|\s*,\s*")
_QUIET = ("math_verify", "latex2sympy2_extended", "sympy")


def is_mathematical(text: str) -> bool:
    """Whether a gold answer is an expression rather than words, a number or a date."""
    if _words_in(text) > 1 or _is_quantity(text):
        return False
    if _LIST.fullmatch(text):
        return True
    return bool(_LATEX.search(text) or _OPERATION.search(text) or _TUPLE.search(text))


def _is_quantity(text: str) -> bool:
    tokens = tokenise(text, frozenset({"fractions", "thousands", "units", "dates"}))
    return len(tokens) == 1 and (isinstance(tokens[0].key, Quantity) or ":" in tokens[0].key)


def equal_expressions(exact: str, gold: str, whole: bool = False) -> bool:
    """Whether an exact answer states the expression `gold`, or is it as a `whole`.

    Its whole text is compared, or what stands in a box, between dollar signs, after words that
    introduce it, or after an equals sign.
    """
    wanted = _parse(_clean(gold))
    candidates = [_clean(exact)] if whole else _candidates(exact)
    return bool(wanted) and any(_verify(wanted, candidate) for candidate in candidates)


def _candidates(exact: str):
    seen = set()
    parts = [exact]
    parts += [match[1] for match in regex.finditer(r"\\boxed\{((?:[^{}]|\{(?1)\})*)\}", exact)][-1:]
    parts += [
        match[1] for match in regex.finditer(r"\$([^$]+)\$|\\\((.+?)\\\)", exact) if match[1]
    ][-1:]
    parts += [_INTRODUCTION.sub("", part, count=1) for part in parts]
    parts += [part.rsplit("=", 1)[1] for part in parts if "=" in part]
    # "37 chocolates"
    parts += [_LAST_WORD.split(part)[-1] for part in parts]
    parts += [
        ", ".join(piece.rsplit("=", 1)[-1].strip() for piece in _JOINT.split(part))
        for part in parts
        if _JOINT.search(part)
    ]
    parts += [regex.sub(r"(?<=[\d)}π])\s+[^\W\d_]{2,}[^\\=]*$", "", part) for part in parts]
    for part in parts:
        part = _clean(part)
        if part and part not in seen and _words_in(part) <= 1:
            seen.add(part)
            yield part


def _words_in(text: str) -> int:
    """How many words that are not part of an expression."""
    text = regex.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", " ", text)
    return sum(word.casefold() not in _FUNCTIONS for word in _TERMS_ONLY.findall(text))


def _clean(text: str) -> str:
    text = regex.sub(r"√\s*(\w+|\([^()]*\))", r"\\sqrt{\1}", text)
    text = regex.sub(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b", "", text)
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    text = text.strip().strip("$").strip().rstrip(".,;")
    return regex.sub(r"^\\[(\[]|\\[)\]]$", "", text).strip()


@lru_cache(4096)
def _parse(text: str) -> tuple:
    from math_verify import parse

    if len(text) > 300:
        return ()
    _be_quiet()
    # without the library's own time limits, which work in the main thread only
    found = parse(f"${text}$", parsing_timeout=None)
    # x >= 2 is the interval from 2
    return (*found, *(set_ for one in found if (set_ := _as_set(one)) is not None))


def _as_set(expression):
    from sympy import And, Ge, Gt, Le, Lt

    try:
        return expression.as_set() if isinstance(expression, And | Ge | Gt | Le | Lt) else None
    except Exception:  # of any of sympy's solvers
        return None


def _verify(wanted: tuple, candidate: str) -> bool:
    from math_verify import verify

    found = _parse(candidate)
    return bool(found) and verify(list(wanted), list(found), timeout_seconds=None)


@lru_cache(1)
def _be_quiet() -> None:
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
