"""Draw a figure of several models as small multiples on one colour scale."""

from collections.abc import Sequence
from types import ModuleType

from llm_figures.comparison import attention, modules, probe
from llm_figures.comparison.panels import Tables


def find_drawing(figure: str) -> ModuleType:
    """The module that compares a figure; further metrics of the module map are module_map_METRIC.

    Each has OPTIONS, the class of the figure's options; `find_problem(table, options)` returns why
    a model's table cannot be drawn with others, or None; `draw(tables, options)` and
    `describe(tables, options)` return the figure and its caption.
    """
    if figure == "probe_auc":
        return probe
    return modules if figure.startswith("module_map") else attention


def describe_comparison(
    caption: str, tables: Tables, folders: Sequence[str], left_out: Sequence[str]
) -> str:
    """The caption of a comparison with what its tables and those left out have in common.

    caption: as from `describe`. folders: models whose files were made elsewhere or earlier.
    left_out: one line for each model that is not compared.
    """
    if elsewhere := [name for name in tables if name in folders]:
        caption += f" Made elsewhere or earlier, with their own settings: {', '.join(elsewhere)}."
    return "\n".join([caption, *(f"Left out: {line}." for line in left_out)]) + "\n"
