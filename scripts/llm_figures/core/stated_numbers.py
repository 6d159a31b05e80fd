"""Numbers that a caption or a page states: each with its value, its printed form and its origin.

The module of a figure lists its numbers once, and its caption prints them from that list. So does
`snakemake paper`, which writes a LaTeX macro for each.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm_figures.core.numbers import minus_signs

# Printed where there is no value.
DASH = "–"
# Around a number's name in the template of a caption; both are for private use in Unicode.
OPENING, CLOSING = "\ue000", "\ue001"
# The formula of a number that stands in its table as it is.
AS_IT_IS = "the value of {}"

# Of a figure's numbers.json; increased when a reader of the previous format would misread it.
FORMAT = 1


@dataclass(frozen=True)
class StatedNumber:
    """One number.

    name: what it is, in lower case: nested_score_low. It does not depend on the value.
    value: with full precision, or the name of something, such as a token; None if there is none.
    text: as it is printed.
    formula: how it follows from its rows, in words; `AS_IT_IS` if it is one of their values.
    row: {column: value, or a list of values} that selects its rows; all of the table if empty.
    column: the column of which it is the value; None if it is computed.
    source: where the rows are, relative to results/{model}/, or what else it comes from; None for
        the table of the figure.
    """

    name: str
    value: float | int | str | None
    text: str
    formula: str
    row: Mapping[str, Any] = field(default_factory=dict)
    column: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        return self.text

    def __format__(self, form: str) -> str:
        return self.text


class StatedNumbers(dict[str, StatedNumber]):
    """{name: number}, in the order in which they were added."""

    def add(
        self,
        name: str,
        value: Any,
        form: str | Callable[[Any], str] = "",
        formula: str = "",
        **origin: Any,
    ) -> None:
        """Add one number.

        form: a format such as ".3f", or a function of the value. origin: row, column, source of
        `StatedNumber`.
        """
        value = plain_value(value)
        printed = form if callable(form) else f"{{:{form}}}".format
        text = DASH if value is None else printed(value)
        if isinstance(value, int | float):
            text = minus_signs(text)
        self[name] = StatedNumber(name, value, text, formula, **origin)

    def take(
        self,
        name: str,
        row: Mapping[str, Any] | None,
        column: str,
        form: str | Callable[[Any], str] = "",
        keys: Iterable[str] = (),
        source: str | None = None,
    ) -> None:
        """Add the value of a column in one row, or in rows that all have the same.

        row: of the table; None if there is none. keys: the columns that select it.
        """
        found = None if row is None else row.get(column)
        selected = {} if row is None else {key: plain_value(row[key]) for key in keys}
        origin = {"row": selected, "column": column, "source": source}
        self.add(name, found, form, AS_IT_IS.format(column), **origin)

    def take_option(self, name: str, value: Any, form: str | Callable[[Any], str], key: str):
        """Add the value of an option. key: in the config."""
        self.add(name, value, form, "an option of the run", source=f"config: {key}")

    def marked(self) -> "StatedNumbers":
        """The same with a mark in place of each printed form, for the template of a caption."""
        return StatedNumbers(
            (name, replace(number, text=f"{OPENING}{name}{CLOSING}"))
            for name, number in self.items()
        )


def plain_value(value: Any) -> Any:
    """A value as JSON has it; None for every kind of missing value."""
    if value is None or isinstance(value, str):
        return value
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value  # NaN and pandas' NaT differ from themselves
