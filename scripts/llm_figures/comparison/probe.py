"""The probe figure of several models."""

import pandas as pd
from matplotlib.figure import Figure

from llm_figures.comparison.panels import (
    Tables,
    lacking_columns,
    layer_step,
    make_panels,
    name_panel,
    no_scores,
    outer_labels,
)
from llm_figures.core.numbers import with_interval
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.controls import CONTROLS, EXPLANATIONS, LABELS
from llm_figures.probe.figure import (
    draw_colour_bar,
    draw_highlight,
    draw_panel,
    pivot_scores,
)
from llm_figures.probe.options import Highlight

NEEDED = {"layer", "token", "metric", "mean", "ci_low", "ci_high", "control", "n"}


def unusable(table: pd.DataFrame, options: dict) -> str | None:
    """Why a model's scores cannot be drawn beside others; None if they can."""
    if lacking := lacking_columns(table, NEEDED):
        return lacking
    shown = (table["metric"] == options["metric"]) & (table["control"] == "none")
    shown &= table["token"].isin(options["tokens"])
    return no_scores(table.loc[shown, "mean"], options["metric"])


def draw(tables: Tables, options: dict) -> Figure:
    """The layer × token heatmaps: all equally high, layer 0 at the top of each."""
    tokens = options["tokens"]
    values = {
        name: pivot_scores(table, options["metric"], tokens) for name, table in tables.items()
    }
    width = 0.27 * len(tokens)
    fig, axes, height = make_panels(values, width=width, labels=1.5)
    for index, (ax, (name, cells)) in enumerate(zip(axes, values.items(), strict=True)):
        rows = len(cells)
        mesh = draw_panel(
            cells, ax, options["palette"], options["limits"], layer_step(rows, height)
        )
        if options["highlight"] and _rectangle_fits(options["highlight"], rows - 1):
            draw_highlight(ax, Highlight.model_validate(options["highlight"]), tokens, rows - 1)
            ax.patches[-1].set_gid(f"highlight-{index}")  # an id of its own in the SVG
        name_panel(ax, name, width)
    outer_labels(axes, "Token", "Layer")
    draw_colour_bar(fig, mesh, options["metric"], options["limits"], ax=axes, pad=0.02)
    return fig


def describe(tables: Tables, options: dict) -> str:
    """What is shared by the panels, and the best cell of every model."""
    low, high = options["limits"]
    parts = [
        f"{LABELS[options['metric']]} of linear probes that detect a wrong answer, by layer (0 is "
        "the embeddings) and token, one panel per model. Panels are equally high whatever the "
        f"model's layers, so equal heights are equal shares of the depth. Colours span {low:g} to "
        f"{high:g} in all; cells without a score are grey. Best cells:"
    ]
    best = []
    for name, table in tables.items():
        found = find_best_cell(table, options["metric"], options["tokens"])
        cell = found.probe
        best.append(
            f"{name}, layer {cell['layer']} of {table['layer'].max()}, {cell['token']}: "
            f"{with_interval(cell['mean'], cell['ci_low'], cell['ci_high'])} on "
            f"{cell['n']:,} answers{_least_gain(found.beside)}"
        )
    parts.append("; ".join(best) + ".")
    if options["highlight"]:
        shallow = [
            name
            for name, table in tables.items()
            if not _rectangle_fits(options["highlight"], table["layer"].max())
        ]
        if shallow:
            parts.append(f"The rectangle's layers are outside {', '.join(shallow)}.")
    return " ".join(parts)


def _least_gain(cell: pd.DataFrame) -> str:
    """The control that leaves the probe of a cell the least, and what it leaves.

    cell: its rows by control.
    """
    if not {"gain", "gain_low", "gain_high"} <= set(cell):
        return ""
    beside = cell[cell.index.isin(EXPLANATIONS)].dropna(subset="gain")
    if beside.empty:
        return ""
    least = beside.loc[beside["gain"].idxmin()]
    gain = with_interval(least["gain"], least["gain_low"], least["gain_high"])
    return f" (over {CONTROLS[least.name]} it gains {gain})"


def _rectangle_fits(highlight: dict, depth: int) -> bool:
    return all(isinstance(layer, str) or layer <= depth for layer in highlight["layers"])
