"""Panels on the user's own axes, from the tidy tables of `Results`.

As in seaborn, a function takes the data first and returns the axes that it drew on: `ax`, or the
current ones. It reads the user's rcParams and changes nothing outside of the axes, but for the room
that a colour bar takes beside them (`cbar=False` leaves it out).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from llm_figures.attention import figure as attention_figure
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.modules import figure as modules_figure
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
)
from llm_figures.probe import curves_figure
from llm_figures.probe import figure as probe_figure
from llm_figures.probe.controls import CONTROLS, LABELS
from llm_figures.probe.options import Highlight

# What distinguishes the panels of an attention figure.
PANEL_KEYS = ("input", "component", "epsilon")


def plot_attention_map(
    cells: pd.DataFrame | np.ndarray,
    *,
    input: int | None = None,
    component: str | None = None,
    epsilon: float | None = None,
    palette: str = "coolwarm",
    limits: Sequence[float] = (0.0, 1.0),
    cbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw one attention map: query positions from the top, key positions from the left.

    cells: a table of an attention figure, `results.table("mean_qkv")`; or weights as an array
        [tokens (query), tokens (key)], such as
        `states.intervene(intervention).compute_weights().mean(axis=0)`.
    input, component, epsilon: the panel, where the table has several.
    palette: "blue-white-orange", or one that seaborn knows. limits: both ends of the colour scale.
    cbar: whether to add a colour bar. ax: by default the current axes.

    Raises:
        UserError: a table of something else, no such panel, or several; an unknown palette.
    """
    colours = find_colour_map(palette)
    if isinstance(cells, pd.DataFrame):
        chosen = {"input": input, "component": component, "epsilon": epsilon}
        panel = _choose_panel(cells, chosen)
        ax = plt.gca() if ax is None else ax
        mesh = attention_figure.draw_panel(panel, ax, colours, limits)
    else:
        weights = np.asarray(cells)
        if weights.ndim != 2:
            raise UserError(
                f"plot_attention_map: weights have shape {weights.shape}; give one map, [tokens "
                "(query), tokens (key)], such as weights.mean(axis=0) or weights[head]"
            )
        ax = plt.gca() if ax is None else ax
        mesh = draw_heatmap(
            pd.DataFrame(weights),
            ax,
            cmap=colours,
            limits=limits,
            square=True,
            xticklabels=False,
            yticklabels=False,
        )
    ax.set(xlabel="Key position", ylabel="Query position")
    if cbar:
        add_colour_bar(ax.figure, mesh, "Attention weight", ax=ax)
    return ax


def plot_probe_heatmap(
    scores: pd.DataFrame,
    *,
    metric: str = "auc",
    tokens: Sequence[str] | None = None,
    highlight: bool | Mapping[str, Sequence] = False,
    palette: str = "Blues",
    limits: Sequence[float] = (0.5, 1.0),
    cbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw how well a probe detects a wrong answer: layers from 0 at the top, tokens from the left.

    scores: `results.table("probe_auc")`.
    metric: "auc", "accuracy", "f1" or "average_precision".
    tokens: the columns, by default those of the table.
    highlight: True draws the figure's black rectangle; a dict says where, {"tokens": [first, last],
        "layers": [first, last]}, layers as numbers or shares of the depth such as "12.5%".
    palette, limits, cbar, ax: see `plot_attention_map`. Cells without a score are grey.

    Raises:
        UserError: a table of something else, an unknown metric, token, rectangle or palette.
    """
    shown = _choose_scores(scores, metric)
    there = list(dict.fromkeys(shown["token"]))
    tokens = there if tokens is None else list(tokens)
    _check_known("token", tokens, there)
    values = probe_figure.pivot_scores(shown, metric, tokens)
    depth = len(values) - 1
    rectangle = None
    if highlight is not False:
        given = {} if highlight is True else dict(highlight)
        rectangle = read_options(Highlight, given, "highlight")
        _check_known("token", () if rectangle.is_default() else rectangle.tokens, tokens)
        if max(probe_figure.find_highlighted_layers(rectangle.layers, depth)) > depth:
            raise UserError(f"highlight: layers {given['layers']}; layers are 0 to {depth}")
    ax = plt.gca() if ax is None else ax
    mesh = probe_figure.draw_panel(values, ax, palette, limits, choose_tick_step(len(values)))
    ax.set(xlabel="Token", ylabel="Layer")
    if rectangle is not None:
        probe_figure.draw_highlight(ax, rectangle, tokens, depth)
    if cbar:
        probe_figure.draw_colour_bar(ax.figure, mesh, metric, limits, ax=ax)
    return ax


def plot_probe_curve(
    scores: pd.DataFrame,
    token: str,
    *,
    metric: str = "auc",
    controls: bool | Collection[str] = True,
    palette: str = "colorblind",
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the probe at one token by layer, with its 95% band, and its controls.

    Controls that are probes are dashed, the confidence of the model's own output is dotted.

    scores: `results.table("probe_auc")`. token: such as "exact_answer_last".
    controls: all that there are (True), none (False), or some of the column `control`.
    palette: of lines, known to seaborn. metric, ax: see `plot_probe_heatmap`.

    Raises:
        UserError: a table of something else; an unknown metric, token, control or palette.
    """
    shown = _choose_scores(scores, metric)
    _check_known("token", [token], list(dict.fromkeys(shown["token"])))
    panel = shown[shown["token"] == token]
    styles = curves_figure.choose_styles(panel, palette)
    if not isinstance(controls, bool):
        _check_known("control", controls, [name for name in styles if name in CONTROLS])
    wanted = {"none", *(styles if controls is True else controls or ())}
    ax = plt.gca() if ax is None else ax
    styles = {control: style for control, style in styles.items() if control in wanted}
    curves_figure.draw_panel(panel, ax, styles)
    ax.set(xlabel="Layer", ylabel=LABELS[metric])
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if not legend:
        ax.get_legend().remove()
    return ax


def plot_module_map(
    scores: pd.DataFrame,
    *,
    metric: str | None = None,
    palette: str = "blue-white-orange",
    limits: str | Sequence[float] = "robust",
    centre: str | float | None = "auto",
    cbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a metric of every projection: layer 0 at the bottom, projections from the left.

    scores: `results.table("module_map")`. metric: by default the first in the table.
    limits: "robust" (percentiles), "data" (the whole range) or two numbers. centre: the value that
    has the palette's middle colour; "auto" is the metric's neutral value, None that of the limits.
    palette, cbar, ax: see `plot_attention_map`.

    Raises:
        UserError: a table of something else, an unknown metric or palette, wrong limits.
    """
    _check_columns(scores, ("layer", "projection", "metric", "value"), "module_map")
    there = list(dict.fromkeys(scores["metric"]))
    metric = there[0] if metric is None else metric
    _check_known("metric", [metric], there)
    given = {"metric": metric, "palette": palette, "centre": centre}
    given["limits"] = limits if isinstance(limits, str) else list(limits)
    options = read_options(ModuleMap, given, "plot_module_map").of_metric(metric)
    values = modules_figure.pivot_scores(scores, metric)
    colours, ends = modules_figure.make_colour_scale(values.to_numpy(), options)
    ax = plt.gca() if ax is None else ax
    mesh = modules_figure.draw_panel(values, ax, colours, ends, choose_tick_step(len(values)))
    ax.set(xlabel="", ylabel="Layer")
    if cbar:
        modules_figure.draw_colour_bar(ax.figure, mesh, values.to_numpy(), ends, metric, ax=ax)
    return ax


def _choose_panel(cells: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """The cells of the one panel that is meant."""
    needed = ("panel_row", "panel_column", *PANEL_KEYS, "query_position", "key_position", "weight")
    _check_columns(cells, needed, "mean_qkv")
    for key, value in chosen.items():
        if value is not None:
            _check_known(key, [value], cells[key].dropna().unique().tolist())
            cells = cells[cells[key] == value]
    count = len(cells.drop_duplicates(["panel_row", "panel_column"]))
    if count == 1:
        return cells
    there = {key: cells[key].dropna().unique().tolist() for key in PANEL_KEYS}
    open_keys = "; ".join(
        f"{key} ({', '.join(map(str, values))})" for key, values in there.items() if len(values) > 1
    )
    raise UserError(
        f"plot_attention_map: the cells are of {count} panels; choose one by {open_keys}"
        if count
        else f"plot_attention_map: no panel has {chosen}"
    )


def _choose_scores(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric."""
    needed = ("layer", "token", "metric", "control", "mean", "ci_low", "ci_high")
    _check_columns(scores, needed, "probe_auc")
    _check_known("metric", [metric], [name for name in LABELS if name in set(scores["metric"])])
    return scores[scores["metric"] == metric]


def _check_columns(table: pd.DataFrame, needed: Collection[str], name: str) -> None:
    missing = [column for column in needed if column not in table]
    if missing:
        raise UserError(
            f"the table has no column {', '.join(missing)}; take results.table({name!r})"
        )


def _check_known(what: str, asked: Collection, there: Collection) -> None:
    if unknown := [value for value in asked if value not in there]:
        raise UserError(f"{what} {unknown[0]!r} is not in the table; there are {_join(there)}")


def _join(values: Collection) -> str:
    return ", ".join(map(str, values))
