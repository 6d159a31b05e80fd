"""Cells of files of questions: numbers and dates as text, and lists and objects written as text."""

import ast
import io
import json
import re
import struct
import tokenize
import warnings
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

# Beyond these powers of ten a number stays in scientific notation.
SMALLEST, LARGEST = -10, 24
# Digits that a double has when it was widened from a float of fewer bits.
WIDENED = 15
SHOWN = 70  # characters of a cell in a message

# Calls in what Python and NumPy print, which only code could read back.
_PRINTED = re.compile(
    r"\b(?:(?:np|numpy)\.\w+|array|list|dtype|Timestamp|Decimal|datetime[.\w]*)\("
)
_NUMPY_NUMBERS = re.compile(r"\[\s*[-+\d.e]+(?:\s+[-+\d.e]+)+\s*\]")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


class NotTextError(Exception):
    """A value that is neither text nor a number; the message says what it is.

    field: a field of it, if it is an object.
    """

    def __init__(self, what: str, field: str | None = None):
        super().__init__(what)
        self.field = field

    def describe(self, column: str) -> str:
        """What the column holds, and what to do."""
        if self.field is None:
            return f"column {column!r} holds {self}, not text or a number"
        return f"column {column!r} holds {self}; name a field, as in {column}.{self.field}"


def read_text(value: Any) -> str | None:
    """A value as the text that a person would write; None if there is none.

    Numbers have no padding zeros, dates are ISO dates, and times have no seconds of zero.

    Raises:
        NotTextError: a list, an object, bytes, and what else has no text of its own.
    """
    match value:
        case None:
            return None
        case str():
            return value.strip() or None
        case bool():
            return str(value).lower()
        case int() | UUID():
            return str(value)
        case float() | Decimal():
            return None if value != value else _format_number(value)
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime():
            return f"{value.date().isoformat()} {_format_time(value.time())}"
        case date():
            return value.isoformat()
        case time():
            return _format_time(value)
        case timedelta():
            return _format_duration(value)
        case dict() if value:
            raise NotTextError("an object", best_field(value))
        case dict():
            raise NotTextError("an object")
        case bytes():
            raise NotTextError("bytes")
    raise NotTextError(f"a {type(value).__name__}")


def shorten_float(value: float, code: str) -> float:
    """The double whose shortest text is that of a float of fewer bits.

    value: a float that fits. code: its kind, as `struct` has it: "f" of 32 bits, "e" of 16.
    """
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if _fits(short, value, code):
            return short
    return value


def parse_list(text: str) -> list | None:
    """The items of a list written as JSON, or as a list, tuple or set of Python; else None."""
    value = _parse(text, "[({")
    return list(value) if isinstance(value, list | tuple) or value == {} else None


def parse_object(text: str) -> dict | None:
    """The object written as JSON, or as a dictionary of Python; else None."""
    value = _parse(text, "{")
    return value if isinstance(value, dict) else None


def best_field(fields: dict) -> str:
    """The field of an object that most likely holds answers: a list of texts, or else a text."""
    lists = [
        key
        for key, value in fields.items()
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    ]
    texts = [key for key, value in fields.items() if isinstance(value, str)]
    return str([*lists, *texts, *fields][0])


def is_printed(text: str) -> bool:
    """Whether text is what NumPy, or Python for its objects, prints: nothing reads it back.

    NumPy separates the items of an array by spaces: "['a' 'b']", which Python would join to "ab".
    """
    text = text.strip()
    if not text.startswith((*_BRACKETS, "array(", "np.")):
        return False
    return bool(
        _PRINTED.search(text) or _NUMPY_NUMBERS.fullmatch(text) or _has_adjacent_strings(text)
    )


def in_brackets(text: str) -> bool:
    """Whether text is enclosed in square brackets or braces, as lists and objects are."""
    text = text.strip()
    return len(text) > 1 and text[0] in "[{" and text[-1] == _BRACKETS[text[0]]


def split_outside_brackets(text: str, separator: str) -> list[str]:
    """The non-empty parts of text between separators, without outer white space.

    A separator within brackets separates nothing, unless the brackets do not match.
    """
    parts, depth, begin, place = [], 0, 0, 0
    while place < len(text):
        if depth == 0 and text.startswith(separator, place):
            parts.append(text[begin:place])
            begin = place = place + len(separator)
            continue
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth < 0:
            break
        place += 1
    parts = text.split(separator) if depth else [*parts, text[begin:]]
    return [part.strip() for part in parts if part.strip()]


def show_cell(value: Any) -> str:
    """A cell for a message, in quotes; the middle of a long one is left out."""
    text = str(value)
    half = SHOWN // 2
    return repr(text if len(text) <= SHOWN else f"{text[:half]} … {text[-half:]}")


def _format_number(value: float | Decimal) -> str:
    if isinstance(value, float):
        number = Decimal(repr(value))
        if len(number.as_tuple().digits) >= WIDENED and _fits(value, value, "f"):
            number = Decimal(repr(shorten_float(value, "f")))
    else:
        number = value
    if not number.is_finite():
        return str(value)
    number = _without_zeros(number)
    if number and not SMALLEST <= number.adjusted() <= LARGEST:
        return f"{number:e}"
    return f"{number:f}"


def _without_zeros(number: Decimal) -> Decimal:
    """The same number without zeros behind its last digit, every digit kept."""
    sign, digits, exponent = number.as_tuple()
    while len(digits) > 1 and digits[-1] == 0:
        digits, exponent = digits[:-1], int(exponent) + 1
    return Decimal((0, (0,), 0)) if digits == (0,) else Decimal((sign, digits, exponent))


def _fits(short: float, value: float, code: str) -> bool:
    try:
        return struct.unpack(code, struct.pack(code, short))[0] == value
    except (OverflowError, struct.error):
        return False


def _format_time(value: time) -> str:
    text = value.isoformat()[: 15 if value.microsecond else 8]
    text = text.rstrip("0") if value.microsecond else text
    return text.removesuffix(":00") if text.count(":") == 2 else text


def _format_duration(value: timedelta) -> str:
    if value < timedelta():
        return f"-{_format_duration(-value)}"
    if value and not value.seconds and not value.microseconds:
        return f"{value.days} day{'s' if value.days > 1 else ''}"
    return str(value)


def _parse(text: str, brackets: str) -> Any:
    """What JSON or a literal of Python in such brackets stands for; None if it is neither.

    Adjacent strings are no literal here: see `is_printed`.
    """
    text = text.strip()
    if not text.startswith(tuple(brackets)) or text[-1] != _BRACKETS[text[0]]:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if is_printed(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d" in a string
            node = ast.parse(text, mode="eval").body
            if isinstance(node, ast.Set):  # evaluated, it would have no order
                return [ast.literal_eval(item) for item in node.elts]
            return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _has_adjacent_strings(text: str) -> bool:
    if "'" not in text and '"' not in text:
        return False
    before = None
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.NL, tokenize.NEWLINE):
                continue
            if before == token.type == tokenize.STRING:
                return True
            before = token.type
    except (tokenize.TokenError, SyntaxError):
        pass
    return False
