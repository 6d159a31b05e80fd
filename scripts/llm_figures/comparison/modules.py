"""Compare the module maps of several models."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.comparison.panels import (
    Tables,
    choose_layer_step,
    find_missing_columns,
    find_missing_scores,
    find_no_numbers,
    label_axes,
    make_panels,
    name_panel,
)
from llm_figures.core.numbers import low_to_high
from llm_figures.models.projection_layouts import COLUMNS
from llm_figures.modules.figure import (
    describe_metric,
    describe_percentiles,
    draw_colour_bar,
    draw_panel,
    make_colour_scale,
    pivot_scores,
)
from llm_figures.modules.options import MetricMap

OPTIONS = MetricMap
NEEDED = {"layer", "projection", "metric", "value"}


def find_problem(table: pd.DataFrame, options: MetricMap) -> str | None:
    """Why a model's scores cannot be drawn with others; None if they can."""
    if missing := find_missing_columns(table, NEEDED):
        return missing
    shown = (table["metric"] == options.metric) & table["projection"].isin(COLUMNS)
    values = table.loc[shown, "value"]
    return find_no_numbers(values) or find_missing_scores(values, options.metric)


def draw(tables: Tables, options: MetricMap) -> Figure:
    """Draw the layer × projection heatmaps, all equally high, layer 0 at the bottom of each.

    The columns are the projections of any of the models, grey where a model lacks one.
    """
    values = {name: pivot_scores(table, options.metric) for name, table in tables.items()}
    columns = [name for name in COLUMNS if any(name in cells for cells in values.values())]
    values = {name: cells.reindex(columns=columns) for name, cells in values.items()}
    cmap, limits = make_colour_scale(_all_values(values), options)
    width = 0.36 * len(columns)
    fig, axes, height = make_panels(values, width=width, labels=0.7)
    for ax, (name, cells) in zip(axes, values.items(), strict=True):
        mesh = draw_panel(cells, ax, cmap, limits, choose_layer_step(len(cells), height))
        name_panel(ax, name, width)
    label_axes(axes, "", "Layer")
    draw_colour_bar(fig, mesh, options.metric, ax=axes, pad=0.02)
    return fig


def describe(tables: Tables, options: MetricMap) -> str:
    """What the panels have in common, and the range of each model's values."""
    metric = options.metric
    values = {name: pivot_scores(table, metric) for name, table in tables.items()}
    _, (low, high) = make_colour_scale(_all_values(values), options)
    differ = len({tuple(cells.columns) for cells in values.values()}) > 1
    lacking = differ or any(cells.isna().any(axis=None) for cells in values.values())
    grey = (
        " Grey: the model or the layer lacks the projection, or the metric is not defined there."
        if lacking
        else ""
    )
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
        f"{describe_metric('each model', options)} One panel per model, layer 0 "
        "at the bottom. Panels are equally high whatever the model's number of layers, so equal "
        f"heights are equal shares of the depth. Colours span {low_to_high(low, high)}"
        f"{describe_percentiles(options, ' of all models together')}{random}. "
        f"Values span: {span}.{grey}"
    )


def _all_values(values: Tables) -> np.ndarray:
    return np.concatenate([cells.to_numpy(dtype=float).ravel() for cells in values.values()])
