"""Each figure as small multiples: one panel or block per model, on one colour scale."""

from collections.abc import Sequence
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure

from llm_figures.comparison import attention, modules, probe
from llm_figures.comparison.panels import Tables


def _kind(figure: str) -> ModuleType:
    """The module that draws a figure; module maps of further metrics are module_map_METRIC."""
    if figure == "probe_auc":
        return probe
    return modules if figure.startswith("module_map") else attention


def unusable(figure: str, table: pd.DataFrame, options: dict) -> str | None:
    """Why a model's scores cannot be drawn beside others; None if they can.

    A folder made by another version or another config may hold other columns, or other metrics.
    """
    return _kind(figure).unusable(table, options)


def draw_comparison(figure: str, tables: Tables, options: dict) -> Figure:
    """Draw one figure of several models.

    tables: the tidy scores of each, by the name that becomes its title, in the order of reading.
    options: those of the figure, for all of them.
    """
    return _kind(figure).draw(tables, options)


def comparison_caption(
    figure: str, tables: Tables, options: dict, folders: Sequence[str], left_out: Sequence[str]
) -> str:
    """What is shared, what differs between the models, and who is left out.

    tables, options: as for `draw_comparison`. folders: those among the models whose files were made
    elsewhere or earlier. left_out: one line for each.
    """
    parts = [_kind(figure).describe(tables, options)]
    if made := [name for name in tables if name in folders]:
        parts.append(f"Made elsewhere or earlier, with settings of their own: {', '.join(made)}.")
    return "\n".join([" ".join(parts), *(f"Left out: {line}." for line in left_out)]) + "\n"
