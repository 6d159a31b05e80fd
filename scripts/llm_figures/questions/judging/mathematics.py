"""Mathematical expressions, compared by Math-Verify (sympy): 1 + x is x + 1, [1,4] is [1, 4]."""

import logging
from collections.abc import Iterator
from functools import lru_cache

import regex

from llm_figures.questions.judging.quantities import Quantity
from llm_figures.questions.judging.words import tokenise

_COMMAND = regex.compile(
    r"\\(?!text|mathrm|textbf|\$|%)[a-zA-Z]+|[\^√π∞≤≥≠∪∩±∈]|\d\s*[×÷·]\s*\d|(?<!\w)\d*pi(?!\w)|\bsqrt\s*\("
)
# An operator between terms: numbers, variables of one letter, brackets.
_TERM = r"(?:\d[\d.]*|(?<![^\W\d_])[a-zA-Z](?![^\W\d_])|[)\]}])"
_NEXT = r"(?:\d|[a-zA-Z](?![^\W\d_])|\()"
_OPERATION = regex.compile(
    rf"{_TERM}\s*[+*=<>]\s*[-\\(]?\s*{_NEXT}"  # x+1, 3*(4
    rf"|{_TERM}\s+-\s+{_NEXT}|(?<![\w-])[a-zA-Z]-(?:\d|[a-zA-Z](?![\w-]))"  # x - 1, x-1, x-y
    r"|(?<![\w.])\d{1,3}[a-rt-z](?![\w°])"  # 2x, not the 1990s
    r"|\d!|(?<!\w)[a-z]!|\|[a-z]\|"
)
_TUPLE = regex.compile(r"[(\[{]\s*[^,()\[\]{}]{1,20}(?:,[^,()\[\]{}]{1,20})+[)\]}]")
_LIST = regex.compile(r"\s*-?\d[\d./]*(?:\s*(?:,|and)\s*-?\d[\d./]*)+\s*")
_LETTERS = regex.compile(r"[^\W\d_]{2,}")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc log ln exp sqrt frac dfrac tfrac pi infty cup cap left right cdot "
    "times div pm leq geq le ge neq text mathrm in mathbb binom boxed alpha beta theta lambda "
    "emptyset mid circ pmatrix begin end ldots dots cis arcsin arccos arctan overline".split()
)
_SIGNS = {"π": "\\pi ", "×": "\\times ", "·": "\\cdot ", "÷": "/", "−": "-", "≤": "\\le ",
          "≥": "\\ge ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "±": "\\pm ",
          "²": "^2", "³": "^3"}  # fmt: skip
# Words that stand before an expression: "x is", "the result is".
_INTRODUCTION = regex.compile(
    r"^.*?(?:\b(?:is|are|equals?|be|to|=>)\b|[:：]|⇒|\\implies)\s*", regex.DOTALL
)
_LAST_WORD = regex.compile(r"\b[^\W\d_]{2,}\b[:,]?\s+(?=[^\s])(?!(?:or|and)\b)")
_JOINT = regex.compile(r"\s+(?:or|and)\s+|\s*,\s*")
_SEVERAL = regex.compile(r"\b(?:or|and|but|either)\b|\\text\{\s*(?:or|and)\s*\}")
_DENIED = regex.compile(
    r"\b(?:not|never|wrong|incorrect|false|cannot)\b|n['’]t\b|\\ne\b|\\neq\b|≠", regex.IGNORECASE
)
_UNIT = regex.compile(r"\\(?:text|mathrm)\s*\{\s*([^{}]*?)\s*\}\s*(\^\s*\{?\d\}?)?")
_ASSIGNMENT = regex.compile(r"\s*([a-zA-Z])\s*=([^=]+)")
_VARIABLE = regex.compile(r"(?<![a-zA-Z])([a-zA-Z])\s*=")
_LONGEST = 300
# What sympy evaluates in no time; a tower of powers would take longer than the universe.
_BIGGEST_EXPONENT = 200
_BIGGEST_FACTORIAL = 200
_BIGGEST_SUM_EXPONENT = 12
_QUIET = ("math_verify", "latex2sympy2_extended", "sympy")


def is_mathematical(text: str) -> bool:
    """Whether a gold answer is an expression rather than words, a number or a date."""
    if _count_words(text) > 1 or _is_quantity(text):
        return False
    if _LIST.fullmatch(text):
        return True
    return bool(_COMMAND.search(text) or _OPERATION.search(text) or _TUPLE.search(text))


def equal_expressions(exact: str, gold: str, whole: bool = False) -> bool:
    """Whether an exact answer states the expression `gold`, or is it as a `whole`.

    Its whole text is compared, or what stands in a box, between dollar signs, after words that
    introduce it, or after an equals sign. Expressions whose value sympy could not compute in
    reasonable time are compared as texts.
    """
    if bool(_DENIED.search(exact)) and not _DENIED.search(gold):
        return False
    plus_minus = ["\\pm" in _clean(text) for text in (exact, gold)]
    if plus_minus[0] and not plus_minus[1] and "," not in gold:
        return False
    own, others = _ASSIGNMENT.fullmatch(_clean(gold)), _VARIABLE.findall(exact)
    if own and others and own[1] not in others:
        return False
    if not _is_tame(gold):
        return _squeeze(exact) == _squeeze(gold)
    wanted = _parse(_clean(gold))
    candidates = [_clean(exact), *_join_parts([exact])] if whole else _candidates(exact)
    return bool(wanted) and any(
        _is_tame(candidate) and _is_alike(candidate, gold) and _verify(wanted, candidate)
        for candidate in candidates
    )


def _is_quantity(text: str) -> bool:
    tokens = tokenise(text, frozenset({"fractions", "thousands", "units", "dates"}))
    return len(tokens) == 1 and (isinstance(tokens[0].key, Quantity) or ":" in tokens[0].key)


def _is_tame(text: str) -> bool:
    """Whether sympy can evaluate an expression quickly: no towers of powers, no huge factorials."""
    if len(text) > _LONGEST or regex.search(r"!\s*!|\\(?:log|ln|exp)\b.*\^.*\^", text):
        return False
    plain = text.replace("**", "^").replace("{", "(").replace("}", ")").replace(" ", "")
    # a power of a power, or in an exponent
    if regex.search(r"\^\([^()]*\^|\^[^\W_]+\^|\^\([^()]*\([^()]*\^|\)\^\([^()]*\)\^", plain):
        return False
    for found in regex.finditer(r"(\)?)\^\(?-?([\d.]+)", plain):
        biggest = _BIGGEST_SUM_EXPONENT if found[1] else _BIGGEST_EXPONENT
        if len(found[2]) > 4 or float(found[2].rstrip(".") or 0) > biggest:
            return False
    factorials = regex.findall(r"(\d+)\)?!", plain) + regex.findall(r"binom\((\d+)", plain)
    if any(len(digits) > 3 or int(digits) > _BIGGEST_FACTORIAL for digits in factorials):
        return False
    return max(map(len, regex.findall(r"\d+", plain)), default=0) <= 50


def _is_alike(candidate: str, gold: str) -> bool:
    """Whether two expressions agree in what Math-Verify leaves out: variables, units, brackets."""
    assigned = [_ASSIGNMENT.fullmatch(text) for text in (candidate, _clean(gold))]
    if all(assigned) and assigned[0][1] != assigned[1][1]:
        return False
    units = [
        [
            (unit, power.strip("^{} "))
            for unit, power in _UNIT.findall(text)
            if unit not in ("", "or")
        ]
        for text in (candidate, gold)
    ]
    if all(units) and units[0] != units[1]:
        return False
    brackets = [
        regex.match(r"\\?([(\[{])(?=[^()\[\]{}]*,)", _clean(text)) for text in (candidate, gold)
    ]
    if all(brackets) and brackets[0][1] != brackets[1][1]:
        return False
    return not (_is_list(candidate) and _is_quantity(gold))


def _is_list(text: str) -> bool:
    return bool(_LIST.fullmatch(text)) and not _is_quantity(text)


def _candidates(exact: str) -> Iterator[str]:
    """The texts within an exact answer that may be its expression."""
    parts = [exact]
    parts += [match[1] for match in regex.finditer(r"\\boxed\{((?:[^{}]|\{(?1)\})*)\}", exact)][-1:]
    inline = regex.finditer(r"\$([^$]+)\$|\\\((.+?)\\\)", exact)
    parts += [match[1] for match in inline if match[1]][-1:]
    parts += [_INTRODUCTION.sub("", part, count=1) for part in parts]
    parts += [_LAST_WORD.split(part)[-1] for part in parts]
    joint = [part for part in parts if _JOINT.search(part)]
    if _SEVERAL.search(exact):
        # each of "x = 2 or x = 3" alone is not what is stated
        parts = [part for part in parts if _SEVERAL.search(part)]
    parts += _join_parts(joint)
    parts += [part.rsplit("=", 1)[1] for part in parts if "=" in part and "," not in part]
    # "37 chocolates"
    parts += [
        regex.sub(r"(?<=[\d)}π])\s+(?!(?:and|or|but)\b)[^\W\d_]{2,}[^\\=]*$", "", part)
        for part in parts
    ]
    seen = set()
    for part in map(_clean, parts):
        if part and part not in seen and _count_words(part) <= 1:
            seen.add(part)
            yield part


def _join_parts(parts: list[str]) -> list[str]:
    """The values of "x = 2 or x = 3", of one variable, as a list."""
    return [
        ", ".join(piece.rsplit("=", 1)[-1].strip() for piece in _JOINT.split(part))
        for part in parts
        if len({found[1] for found in _VARIABLE.finditer(part)}) < 2
    ]


def _count_words(text: str) -> int:
    """How many words that are not part of an expression."""
    text = regex.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", " ", text[:_LONGEST])
    return sum(word.casefold() not in _FUNCTIONS for word in _LETTERS.findall(text))


def _clean(text: str) -> str:
    text = regex.sub(r"√\s*(\w+|\([^()]*\))", r"\\sqrt{\1}", text)
    text = regex.sub(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b", "", text)
    text = regex.sub(r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = regex.sub(r"(?<![a-zA-Z\\])(pi|ln|log|sin|cos|tan|sqrt)(?![a-zA-Z])", r"\\\1 ", text)
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    text = text.strip().strip("$").strip().rstrip(".,;")
    return regex.sub(r"^\\[(\[]|\\[)\]]$", "", text).strip()


def _squeeze(text: str) -> str:
    return regex.sub(r"[\s{}]", "", _clean(text))


@lru_cache(4096)
def _parse(text: str) -> tuple:
    from math_verify import parse

    _be_quiet()
    try:
        # without the library's own time limits, which work in the main thread only
        found = parse(f"${text}$", parsing_timeout=None)
    except Exception:  # of any of the libraries that read LaTeX
        return ()
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
    try:
        return bool(found) and bool(verify(list(wanted), list(found), timeout_seconds=None))
    except Exception:  # of any of sympy's simplifications
        return False


@lru_cache(1)
def _be_quiet() -> None:
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
