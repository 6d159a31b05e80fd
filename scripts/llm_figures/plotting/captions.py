"""The caption of a figure, the numbers that it states, and what the figure shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import pandas as pd

from llm_figures.core.stated_numbers import FORMAT


@dataclass(frozen=True)
class Shown:
    """The part of a table that a figure shows.

    rows: {column: its values that are shown}. columns: those that are shown. All, if empty.
    """

    rows: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    columns: Sequence[str] = ()


def make_caption(
    module: ModuleType, table: pd.DataFrame, model: str, options: Any, source: str
) -> tuple[str, dict]:
    """The caption of a figure, and the content of its numbers.json.

    module, table, options: see `drawing.render`. A module without `state_numbers` states none, one
        without `find_shown` shows the whole table. source: of the table, relative to
        results/{model}/.

    The content: format; model; source; shown: see `Shown`; caption: the caption with a mark in
    place of each number (see `core.stated_numbers`); constants: {what the caption says in figures
    that is no number of the run: what it is}; numbers: {name: fields of `StatedNumber`}.
    """
    shown = module.find_shown(table, options) if hasattr(module, "find_shown") else Shown()
    if hasattr(module, "state_numbers"):
        numbers = module.state_numbers(table, options)
        text = module.describe(table, model, options, numbers)
        template = module.describe(table, model, options, numbers.marked())
    else:
        numbers = {}
        text = template = module.describe(table, model, options)
    constants = getattr(module, "CONSTANTS", {})
    content = {
        "format": FORMAT,
        "model": model,
        "source": source,
        "shown": asdict(shown),
        "caption": template,
        "constants": {phrase: what for phrase, what in constants.items() if phrase in template},
        "numbers": {
            name: {key: value for key, value in asdict(number).items() if key != "name"}
            for name, number in numbers.items()
        },
    }
    return text, content
