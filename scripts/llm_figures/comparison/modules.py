"""The module map of several models."""

import numpy as np
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
from llm_figures.core.numbers import low_to_high
from llm_figures.modules.figure import (
    COLUMNS,
    draw_colour_bar,
    colour_scale,
    describe_percentiles,
    draw_panel,
    pivot_scores,
)
from llm_figures.modules.metrics import described

NEEDED = {"layer", "projection", "metric", "value"}


def unusable(table: pd.DataFrame, options: dict) -> str | None:
    """Why a model's scores cannot be drawn beside others; None if they can."""
    if lacking := lacking_columns(table, NEEDED):
        return lacking
    shown = (table["metric"] == options["metric"]) & table["projection"].isin(COLUMNS)
    return no_scores(table.loc[shown, "value"], options["metric"])


def draw(tables: Tables, options: dict) -> Figure:
    """The layer × module heatmaps: all equally high, layer 0 at the bottom of each.

    The columns are the modules of any model; grey where a model has no such module.
    """
    values = {name: pivot_scores(table, options["metric"]) for name, table in tables.items()}
    modules = [name for name in COLUMNS if any(name in cells for cells in values.values())]
    values = {name: cells.reindex(columns=modules) for name, cells in values.items()}
    cmap, limits = colour_scale(_all_values(values), options)
    width = 0.36 * len(modules)
    fig, axes, height = make_panels(values, width=width, labels=0.7)
    for ax, (name, cells) in zip(axes, values.items(), strict=True):
        mesh = draw_panel(cells, ax, cmap, limits, layer_step(len(cells), height))
        name_panel(ax, name, width)
    outer_labels(axes, "", "Layer")
    draw_colour_bar(fig, mesh, _all_values(values), limits, options["metric"], ax=axes, pad=0.02)
    return fig


def describe(tables: Tables, options: dict) -> str:
    """What is shared by the panels, and what each model's values span."""
    metric = options["metric"]
    values = {name: pivot_scores(table, metric) for name, table in tables.items()}
    _, (low, high) = colour_scale(_all_values(values), options)
    lacking = len({tuple(cells.columns) for cells in values.values()}) > 1
    grey = " A module that a model lacks is grey." if lacking else ""
    random = (
        "; an input in a random direction has 1/√d_in, which depends on the model's width"
        if metric == "operation_strength"
        else ""
    )
    span = "; ".join(
        f"{name} {low_to_high(np.nanmin(cells.to_numpy()), np.nanmax(cells.to_numpy()))} "
        f"({len(cells)} layers)"
        for name, cells in values.items()
    )
    return (
        f"{described(metric, 'each model', options)} One panel per model, layer 0 "
        "at the bottom. Panels are equally high whatever the model's layers, so equal heights are "
        f"equal shares of the depth. Colours span {low_to_high(low, high)}"
        f"{describe_percentiles(options, ' of all models together')}{random}. Values span: {span}.{grey}"
    )


def _all_values(values: Tables) -> np.ndarray:
    return np.concatenate([cells.to_numpy(dtype=float).ravel() for cells in values.values()])
