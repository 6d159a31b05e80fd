"""Multiple choice: choices in the cells of a file, and which of them is right.

The column of right answers may hold an index, a letter or the text of a choice. Which one it is
follows from the whole file, never from one row: a gold "2" can be all three.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from llm_figures.core.errors import UserError
from llm_figures.questions.cell_values import (
    NotTextError,
    parse_list,
    parse_object,
    read_text,
    show_cell,
    split_outside_brackets,
)

READINGS = ("letter", "index", "text")
# Names of columns of choices in the wild.
NAMES = ("choices", "options", "endings", "candidates", "alternatives", "answer_choices")

_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:)]?(?:\s+(\S.*))?", re.DOTALL)
# pandas writes whole numbers as 2.0 where a cell of the column is empty.
_INTEGER = re.compile(r"(-?\d{1,9})(?:\.0)?")
_NUMBERED = re.compile(r"(.*?)[_ ]?([a-zA-Z]|\d)")


@dataclass(frozen=True)
class ChoiceSet:
    """The choices of a question. labels: their own names; () where letters name them."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()


class BadChoicesError(Exception):
    """A cell from which no choices can be read; the message is the reason."""


@dataclass
class ChoiceRow:
    """A row with its choices and the cell of its right one, which is None if it is empty."""

    number: int
    choices: ChoiceSet
    gold: Any


def read_choices(value: Any, labels: Any = None, separator: str | None = None) -> ChoiceSet:
    """The choices in a cell, or in a list of one cell each.

    value: a list of texts, or of objects with text and label, or an object with lists of both; all
    of them may be written as text. labels: a list of labels from elsewhere. separator: between
    choices in one text.

    Raises:
        BadChoicesError: there are fewer than two or more than 26, or a cell is of another form.
    """
    if isinstance(value, str):
        value = _parse_cell(value, separator)
    if isinstance(value, dict) and "text" in value:
        value, labels = value["text"], value.get("label", labels)
    if not isinstance(value, list):
        raise BadChoicesError("choices are no list" if value is not None else "no choices")
    if value and all(isinstance(item, dict) and "text" in item for item in value):
        labels = [item.get("label") for item in value]
        value = [item["text"] for item in value]
    texts = _read_texts(value)
    while texts and texts[-1] is None:  # a column of its own for each choice, and fewer choices
        texts.pop()
    if None in texts:
        raise BadChoicesError("a choice is empty")
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise BadChoicesError("fewer than two choices, or more than 26")
    return ChoiceSet(_without_letters(texts), _read_labels(labels, len(texts)))


def show_choices(question: str, choices: ChoiceSet) -> str:
    """The question with a line "A. …" for each choice below it."""
    lines = (
        f"{letter}. {text}" for letter, text in zip(ascii_uppercase, choices.texts, strict=False)
    )
    return "\n".join([question, *lines])


def find_right_choices(
    rows: Sequence[ChoiceRow], reading: str, first: int, shown: str, column: str
) -> tuple[list[int | None], str]:
    """The place of the right choice of every row, or None; and the reason of those without one.

    reading: index, letter, text, or auto. first: the index of the first choice. shown: the file.
    column: of the right answers.

    Raises:
        UserError: a gold that different readings take for different choices, golds that no reading
            takes for a choice, indices that begin with the other number.
    """
    filled = [row for row in rows if is_filled(row.gold)]
    if reading == "auto":
        reading = _find_reading(filled, first, shown, column)
    if reading == "index":
        _check_first(filled, first, shown, column)
    places = [_place(row, reading, first) if is_filled(row.gold) else None for row in rows]
    if reading == "index":
        return places, "answer is no index of a choice"
    return places, f"answer is not the {reading} of a choice"


def find_choice_columns(
    golds: Sequence[str], questions: Sequence[str], table: dict[str, list]
) -> str | tuple[str, ...] | None:
    """The column or columns of choices that `golds` are indices or letters of; None if they aren't.

    golds, questions: texts. table: the other columns, with the cells of the same rows.
    """
    numbers = all(map(_INTEGER.fullmatch, golds))
    if not golds or not (numbers or all(re.fullmatch(r"[A-Za-z]|\d", gold) for gold in golds)):
        return None
    single = [column for column in table if _fit(golds, questions, table[column])]
    single.sort(key=lambda column: column.casefold() not in NAMES)
    if single:
        return single[0]
    for group in _numbered_columns(table):
        cells = [list(row) for row in zip(*(table[name] for name in group), strict=True)]
        if _fit(golds, questions, cells):
            return group
    return None


def _fit(golds: Sequence[str], questions: Sequence[str], cells: Sequence[Any]) -> bool:
    """Whether every cell holds choices of which the gold may be an index, a letter or a label."""
    shown = same = 0
    for gold, question, cell in zip(golds, questions, cells, strict=True):
        try:
            choices = read_choices(cell)
        except (BadChoicesError, NotTextError):
            return False
        count = len(choices.texts)
        in_range = (
            -1 <= int(index[1]) <= count
            if (index := _INTEGER.fullmatch(gold))
            else ascii_uppercase.index(gold.upper()) < count
        )
        if not in_range and gold not in choices.labels:
            return False
        shown += all(text in question for text in choices.texts)
        same += gold in choices.texts
    return shown < len(golds) and same < len(golds)


def _numbered_columns(table: dict[str, list]) -> list[tuple[str, ...]]:
    """Groups of columns that differ in a last letter or digit: A, B, C; choice1, choice2."""
    groups: dict[tuple[str, int], list[str]] = {}
    for column in table:
        if (match := _NUMBERED.fullmatch(column)) is None:
            continue
        stem, last = match.groups()
        for start in "aA01":
            place = ord(last) - ord(start)
            found = groups.setdefault((stem, ord(start)), [])
            if place == len(found):
                found.append(column)
    return [tuple(group) for group in groups.values() if len(group) >= 2]


def _find_reading(rows: Sequence[ChoiceRow], first: int, shown: str, column: str) -> str:
    if not rows:
        return "text"
    places = {reading: [_place(row, reading, first) for row in rows] for reading in READINGS}
    counts = {
        reading: sum(place is not None for place in found) for reading, found in places.items()
    }
    labelled = all(row.choices.labels for row in rows)
    if labelled and counts["letter"] == len(rows):
        return "letter"
    best = max(READINGS, key=lambda reading: counts[reading])
    if not counts[best]:
        # all golds n of n choices each, counted from 1
        _check_first(rows, first, shown, column)
        row = rows[0]
        raise UserError(
            f"config: dataset.answer: {shown}: row {row.number}: column {column!r} holds "
            f"{show_cell(row.gold)}, which is no index, letter or text of the choices "
            f"{', '.join(map(show_cell, row.choices.texts))}; name another column"
        )
    for other in READINGS:
        if other == best or 2 * counts[other] < counts[best]:
            continue
        for row, one, two in zip(rows, places[best], places[other], strict=True):
            if None not in (one, two) and one != two:
                texts = [show_cell(row.choices.texts[place]) for place in (one, two)]
                raise UserError(
                    f"config: dataset.answer: {shown}: row {row.number}: column {column!r} holds "
                    f"{show_cell(row.gold)}, the {best} of the choice {texts[0]}, or the {other} "
                    f"of {texts[1]}; set dataset.choices_gold to {best} or to {other}"
                )
    return best


def _check_first(rows: Sequence[ChoiceRow], first: int, shown: str, column: str) -> None:
    """Check that indices begin with `first`.

    Raises:
        UserError: they begin with the other number.
    """
    indices = [
        (row, int(match[1]), len(row.choices.texts))
        for row in rows
        if (match := _INTEGER.fullmatch(_gold_text(row.gold) or "")) is not None
    ]
    # The index that only a count from the other number has, and the one that it has not.
    high = [(row, index) for row, index, count in indices if index == count]
    low = [(row, index) for row, index, _ in indices if index == 0]
    other, without = (high, low) if first == 0 else (low, high)
    beyond = any(index > count or index < 0 for _, index, count in indices)
    if not other or without or (first == 0 and beyond):
        return
    row, index = other[0]
    texts = len(row.choices.texts)
    why = (
        f"one more than the last index of {texts} choices counted from 0, and no row holds 0"
        if first == 0
        else "which choices counted from 1 do not have"
    )
    raise UserError(
        f"config: dataset.choices_from: {first}: {shown}: row {row.number}: column {column!r} "
        f"holds {index}, {why}; set dataset.choices_from: {1 - first}"
    )


def _place(row: ChoiceRow, reading: str, first: int) -> int | None:
    """The place of the choice that the gold stands for; None if it stands for none or several."""
    if (place := _marked_place(row)) is not None:
        return place
    text, texts = _gold_text(row.gold), row.choices.texts
    if text is None:
        return None
    if reading == "index":
        match = _INTEGER.fullmatch(text)
        place = int(match[1]) - first if match else -1
        return place if 0 <= place < len(texts) else None
    if reading == "text":
        return _only_match(text, texts)
    if row.choices.labels:
        return _only_match(text, row.choices.labels)
    if (match := _LETTER.fullmatch(text)) is None:
        return None
    place = ascii_uppercase.index(match[1].upper())
    if place >= len(texts) or (match[2] and match[2] != texts[place]):
        return None
    return place


def _marked_place(row: ChoiceRow) -> int | None:
    """The place of the only true item, where the gold is a list of as many items as choices."""
    gold = parse_list(row.gold) if isinstance(row.gold, str) else row.gold
    if not isinstance(gold, list) or len(gold) != len(row.choices.texts):
        return None
    return gold.index(1) if sorted(gold, key=str) == sorted([*[0] * (len(gold) - 1), 1]) else None


def _only_match(text: str, names: Sequence[str]) -> int | None:
    """The place of the only name that equals the text, or else of the only one but for case."""
    for fold in (str, str.casefold):
        same = [place for place, name in enumerate(names) if fold(name) == fold(text)]
        if same:
            return same[0] if len(same) == 1 else None
    return None


def _gold_text(gold: Any) -> str | None:
    """The gold as text; that of its only item, if it is a list. None without any, or of several."""
    items = parse_list(gold) if isinstance(gold, str) else gold
    if isinstance(items, list):
        gold = items[0] if len(items) == 1 else None
    try:
        return read_text(gold)
    except NotTextError:
        return None


def is_filled(gold: Any) -> bool:
    """Whether a cell holds something that may name a choice."""
    if isinstance(gold, list | dict | str):
        return bool(gold.strip() if isinstance(gold, str) else gold)
    return _gold_text(gold) is not None


def _parse_cell(text: str, separator: str | None) -> Any:
    found = parse_object(text)
    if found is None:
        found = parse_list(text)
    if found is None and separator is not None:
        return split_outside_brackets(text, separator)
    return found if found is not None else text.strip() or None


def _read_texts(values: list) -> list[str | None]:
    try:
        return [read_text(value) for value in values]
    except NotTextError as error:
        raise BadChoicesError(f"a choice is {error}") from None


def _read_labels(labels: Any, count: int) -> tuple[str, ...]:
    """Labels as texts; () unless there is one for each choice."""
    if isinstance(labels, str):
        labels = parse_list(labels)
    if not isinstance(labels, list) or len(labels) != count:
        return ()
    texts = _read_texts(labels)
    return () if None in texts or len(set(texts)) < count else tuple(map(str, texts))


def _without_letters(texts: Sequence[str]) -> tuple[str, ...]:
    """The choices without "A. ", "B. ", …, if every one begins with its own."""
    plain = []
    for letter, text in zip(ascii_uppercase, texts, strict=False):
        match = re.match(rf"\(?{letter}[.:)]\s+(?=\S)", text)
        if match is None:
            return tuple(texts)
        plain.append(text[match.end() :])
    return tuple(plain)
