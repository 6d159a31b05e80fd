r"""Right answers in the cells of a file: aliases, and cells that could be read in two ways.

A cell in doubt is never guessed at: `read_aliases` raises what it could be, and which option of
`dataset` reads it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from llm_figures.core.errors import UserError
from llm_figures.questions.cell_values import (
    best_field,
    in_brackets,
    is_printed,
    parse_list,
    parse_object,
    read_text,
    split_outside_brackets,
)
from llm_figures.questions.options import Dataset

# The ready-made pattern of answers that a text gives in \boxed{…}.
BOXED = "boxed"

# What a worked solution ends in, and the pattern that reads it.
_FINAL = {
    re.compile(r"(?<!#)####(?!#)\s*\S[^\n]*\Z"): r"####\s*(.+)",
    re.compile(
        r"(?is).{60}\banswer(?: is|:)\s*\S[^\n]{0,60}\Z"
    ): r"(?i)answer(?: is|:)\s*(.+?)\.?$",
}
_ENTITY = re.compile(r"&#?\w+;")
# ; or | between two words, or a new line; also the wide forms of Chinese and Japanese.
_SEPARATOR = re.compile(r"""(?<=[\w.)\]'"%!?）」])[ \t\r]*([;|；｜]+|\n)\s*(?=[\w(\['"$\\（「-])""")


class DoubtError(Exception):
    """A cell that can be read in two ways, or not at all: what it is; the option that reads it."""


class NotAListError(Exception):
    """A cell that is no list although `answer_format` is list."""


class NoMatchError(Exception):
    """A cell that `answer_pattern` does not match."""


def read_aliases(value: Any, dataset: Dataset) -> list[str]:
    """The right answers in a cell; none if it is empty.

    Raises:
        DoubtError, NotAListError, NoMatchError: see there.
        NotTextError: an item that is neither text nor a number.
    """
    if isinstance(value, list):
        return [alias for item in value for alias in _read_item(item, dataset)]
    text = read_text(value)
    if text is None:
        return []
    if dataset.answer_format == "list":
        items = parse_list(text) if isinstance(value, str) else None
        if items is None or any(isinstance(item, list | tuple | dict | set) for item in items):
            raise NotAListError
        return [alias for item in items for alias in _read_item(item, dataset)]
    if not isinstance(value, str) or dataset.answer_pattern is not None:
        return _read_item(value, dataset)
    if dataset.answer_format == "auto":
        items = parse_list(text)
        if items is not None and (not items or any(isinstance(item, str) for item in items)):
            return [alias for item in items for alias in _read_item(item, dataset)]
        _check_unambiguous(text, items, dataset)
    if dataset.separator is not None:
        return split_outside_brackets(text, dataset.separator)
    return [text]


def compile_pattern(pattern: str) -> re.Pattern | None:
    """The regular expression of `answer_pattern`; None for the ready-made one.

    Raises:
        UserError: it is none.
    """
    if pattern == BOXED:
        return None
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"config: dataset.answer_pattern: {pattern!r} is not a regular expression ({error}); "
            "correct it"
        ) from None


def find_last_match(text: str, pattern: str) -> str | None:
    """The last match of `answer_pattern`: its first group that took part, or else all of it."""
    expression = compile_pattern(pattern)
    if expression is None:
        return next(reversed(list(_find_boxes(text))), None)
    found = [
        next((group for group in match.groups() if group is not None), match.group())
        for match in expression.finditer(text)
    ]
    return next((match.strip() for match in reversed(found) if match.strip()), None)


def _read_item(value: Any, dataset: Dataset) -> list[str]:
    """The aliases that a scalar stands for: two for a boolean, which is also an answer."""
    if isinstance(value, bool):
        return ["yes", "true"] if value else ["no", "false"]
    text = read_text(value)
    if text is not None and dataset.answer_pattern is not None:
        text = find_last_match(text, dataset.answer_pattern)
        if text is None:
            raise NoMatchError
        if dataset.separator is not None:
            return split_outside_brackets(text, dataset.separator)
    return [] if text is None else [text]


def _check_unambiguous(text: str, items: list | None, dataset: Dataset) -> None:
    """Check that plain text can only be one answer, or aliases between `separator`.

    items: of the list that the text stands for; None if it is no list.

    Raises:
        DoubtError: it could be something else.
    """
    inner = next((item for item in items or [] if isinstance(item, dict) and item), None)
    if (fields := inner or parse_object(text)) is not None:
        raise DoubtError(
            f"{'an object' if inner is None else 'a list of objects'}; name one of the fields, "
            f"as in dataset.answer: {dataset.answer}.{best_field(fields)}"
        )
    if items is not None:
        raise DoubtError(
            "either a list of answers or one answer such as an interval; "
            "set dataset.answer_format to list, or to text"
        )
    if is_printed(text):
        raise DoubtError(
            "what Python or NumPy printed, which cannot be read back; save the data again as "
            "JSONL or Parquet"
        )
    if r"\boxed{" in text or r"\fbox{" in text:
        raise DoubtError(
            rf"a text with its answer in \boxed{{}}; set dataset.answer_pattern: {BOXED}"
        )
    for final, pattern in _FINAL.items():
        if final.search(text):
            raise DoubtError(
                f"a text that ends in its answer; set dataset.answer_pattern: '{pattern}'"
            )
    if in_brackets(text):
        raise DoubtError(
            "in brackets like a list or an object, but neither JSON nor Python; mend it, or set "
            "dataset.answer_format: text"
        )
    if dataset.separator is None and (mark := find_separator(text)) is not None:
        shown = json.dumps(mark, ensure_ascii=False)  # as YAML reads it, too
        raise DoubtError(
            f"either one answer or several with {shown} between them; "
            f"set dataset.separator: {shown}, or dataset.answer_format: text"
        )


def find_separator(text: str) -> str | None:
    """The first ; or | or new line between two words, outside brackets; None without any."""
    plain = _ENTITY.sub(lambda entity: "x" * len(entity.group()), text)
    for match in _SEPARATOR.finditer(plain):
        mark = match[1]
        if len(split_outside_brackets(plain, mark)) > 1:
            return mark
    return None


def _find_boxes(text: str) -> Iterator[str]:
    r"""The contents of every \boxed{…}, with balanced braces."""
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        depth = 1
        for place in range(match.end(), len(text)):
            if text[place - 1] == "\\":  # an escaped brace is a character
                continue
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                if content := text[match.end() : place].strip():
                    yield content
                break
