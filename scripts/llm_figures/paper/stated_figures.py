"""The numbers.json of a figure, and the part of its table that the figure shows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.stated_numbers import FORMAT

PARTS = {"format", "model", "source", "shown", "caption", "numbers"}


def read_stated(text: str, path: str, model: str) -> dict:
    """The content of a figure's numbers.json; see `plotting.captions.make_caption`.

    model: whose it must be.

    Raises:
        UserError: it cannot be read, or is of another version or model.
    """
    again = "remove it and run again"
    try:
        stated = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); {again}") from None
    if not isinstance(stated, dict) or stated.get("format") != FORMAT or PARTS - stated.keys():
        raise UserError(f"{path} is of another version of this workflow; {again}")
    if stated["model"] != model:
        raise UserError(f"{path} is of model {stated['model']}, not {model}; {again}")
    return stated


def select_shown(table: pd.DataFrame, stated: Mapping[str, Any], path: str) -> pd.DataFrame:
    """The rows and columns of a table that a figure shows. stated: as from `read_stated`.

    Raises:
        UserError: the table lacks a column; path is its own, for the message.
    """
    rows, columns = stated["shown"]["rows"], stated["shown"]["columns"]
    check_columns(table, [*rows, *columns], path)
    for column, values in rows.items():
        table = table[table[column].isin(values)]
    return table[list(columns)] if columns else table


def check_columns(table: pd.DataFrame, columns: Sequence[str], path: str) -> None:
    """Refuse a table of an earlier version, which lacks a column.

    Raises:
        UserError: the first such column.
    """
    if missing := [name for name in columns if name not in table]:
        raise UserError(
            f"{path} has no column {missing[0]}: it is of another version; remove it and run again"
        )
