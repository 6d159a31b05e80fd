"""Panels on the user's own axes, from the tidy tables of `Results`.

As in seaborn, a function takes the data first and returns the axes that it drew on: `ax`, or the
current ones. Frames of Polars and Arrow are taken, too. It reads the user's rcParams and changes
nothing outside of the axes, but for the room that a colour bar takes beside them (`cbar=False`
leaves it out).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from llm_figures.attention import figure as attention_figure
from llm_figures.attention.interventions import CLEAN
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
from llm_figures.plotting.style import Limits
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
    input, component, epsilon: the panel, where the table has several. The component "clean" is a
        panel without an intervention, if the table has any.
    palette: "blue-white-orange", or the name of one that seaborn knows.
    limits: both ends of the colour scale.
    cbar: whether to add a colour bar. ax: by default the current axes.

    Raises:
        UserError: a table of something else, no such panel, or several; an unknown palette.
    """
    colours = find_colour_map(palette)
    limits = read_options(Limits, _plain(limits), "limits")
    cells = _as_frame(cells)
    if isinstance(cells, pd.DataFrame):
        chosen = {"input": input, "component": component, "epsilon": epsilon}
        panel = _choose_panel(cells, chosen)
        ax = _choose_axes(ax)
        mesh = attention_figure.draw_panel(panel, ax, colours, limits)
    else:
        weights = np.asarray(cells)
        if weights.ndim != 2 or not weights.size:
            raise UserError(
                f"plot_attention_map: weights have shape {weights.shape}; give one map, [tokens "
                "(query), tokens (key)], such as weights.mean(axis=0) or weights[head]"
            )
        ax = _choose_axes(ax)
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
    tokens = there if tokens is None else _listed(tokens)
    _check_known("token", tokens, there)
    values = _fill_layers(probe_figure.pivot_scores(shown, metric, tokens))
    depth = len(values) - 1
    rectangle = None
    if highlight is not False:
        given = {} if highlight is True else _plain(highlight)
        rectangle = read_options(Highlight, given, "highlight")
        _check_known("token", () if rectangle.is_default() else rectangle.tokens, tokens)
        if max(probe_figure.find_highlighted_layers(rectangle.layers, depth)) > depth:
            raise UserError(f"highlight: layers {given['layers']}; layers are 0 to {depth}")
    limits = read_options(Limits, _plain(limits), "limits")
    ax = _choose_axes(ax)
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
    controls: bool | str | Collection[str] = True,
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
    token = str(token)
    _check_known("token", [token], list(dict.fromkeys(shown["token"])))
    panel = shown[shown["token"] == token]
    styles = curves_figure.choose_styles(panel, palette)
    if not isinstance(controls, bool):
        controls = _listed(controls)
        _check_known("control", controls, [name for name in styles if name in CONTROLS])
    wanted = {"none", *(styles if controls is True else controls or ())}
    ax = _choose_axes(ax)
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
    scores = _as_frame(scores)
    _check_columns(scores, ("layer", "projection", "metric", "value"), "module_map")
    _check_distinct(scores, ["layer", "projection", "metric"])
    there = list(dict.fromkeys(scores["metric"]))
    metric = next(iter(there), None) if metric is None else metric
    _check_known("metric", [metric], there)
    given = {"metric": metric, "palette": palette, "centre": centre}
    given["limits"] = _plain(limits)
    options = read_options(ModuleMap, given, "plot_module_map").of_metric(metric)
    values = _fill_layers(modules_figure.pivot_scores(scores, metric))
    colours, ends = modules_figure.make_colour_scale(values.to_numpy(), options)
    ax = _choose_axes(ax)
    mesh = modules_figure.draw_panel(values, ax, colours, ends, choose_tick_step(len(values)))
    ax.set(xlabel="", ylabel="Layer")
    if cbar:
        modules_figure.draw_colour_bar(ax.figure, mesh, metric, ax=ax)
    return ax


def _choose_panel(cells: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """The cells of the one panel that is meant."""
    needed = ("panel_row", "panel_column", *PANEL_KEYS, "query_position", "key_position", "weight")
    _check_columns(cells, needed, "mean_qkv")
    for key, value in chosen.items():
        if value is not None:
            _check_known(key, [value], cells[key].dropna().unique().tolist())
            cells = cells[cells[key] == value]
    if len(cells) and (cells["component"] == CLEAN).all():  # alike in all rows of one text
        cells = cells.drop_duplicates([*PANEL_KEYS, "query_position", "key_position"])
    count = len(cells.drop_duplicates(["panel_row", "panel_column"]))
    if count == 1:
        _check_distinct(cells, ["query_position", "key_position"])
        return cells
    there = {key: cells[key].dropna().unique().tolist() for key in PANEL_KEYS}
    open_keys = "; ".join(
        f"{key} ({', '.join(map(str, values))})" for key, values in there.items() if len(values) > 1
    )
    raise UserError(
        f"plot_attention_map: the cells are of {count} panels; choose one by "
        f"{open_keys or 'panel_row and panel_column'}"
        if count
        else f"plot_attention_map: no panel has {chosen}"
    )


def _choose_scores(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric."""
    scores = _as_frame(scores)
    needed = ("layer", "token", "metric", "control", "mean", "ci_low", "ci_high")
    _check_columns(scores, needed, "probe_auc")
    _check_known("metric", [metric], [name for name in LABELS if name in set(scores["metric"])])
    shown = scores[scores["metric"] == metric]
    if "preset" in shown and shown["preset"].nunique() > 1:
        presets = shown["preset"].unique().tolist()
        raise UserError(
            f"the scores are of several presets ({_join(presets)}); choose one, such as "
            f"scores[scores['preset'] == {presets[0]!r}]"
        )
    _check_known("control", ["none"], shown["control"].unique())
    _check_distinct(shown, ["layer", "token", "control"])
    return shown


def _as_frame(table: Any) -> Any:
    """A table of Polars or Arrow as one of pandas."""
    return table.to_pandas() if hasattr(table, "to_pandas") else table


def _choose_axes(ax: Axes | None) -> Axes:
    if ax is None:
        return plt.gca()
    if not isinstance(ax, Axes):
        raise UserError(f"ax is of type {type(ax).__name__}; give one of matplotlib's axes")
    return ax


def _fill_layers(values: pd.DataFrame) -> pd.DataFrame:
    """With a row for every layer from 0, for rows are labelled by their place."""
    return values.reindex(pd.RangeIndex(values.index.max() + 1, name="layer"))


def _plain(values: Any) -> Any:
    """Tuples and arrays as the lists that options are."""
    if isinstance(values, np.ndarray):
        return values.tolist()
    return list(values) if isinstance(values, tuple) else values


def _listed(names: Any) -> list[str]:
    """One name, or several, as texts: tokens from the end of the answer look like numbers."""
    several = isinstance(names, Collection) and not isinstance(names, str)
    return [str(name) for name in (names if several else [names])]


def _check_distinct(table: pd.DataFrame, keys: list[str]) -> None:
    """Refuse a table that says two things of one cell, of which a mean would be drawn."""
    twice = table[table.duplicated(keys)]
    if len(twice):
        where = ", ".join(f"{key} {twice.iloc[0][key]}" for key in keys)
        raise UserError(
            f"the table has several rows of {where}: it is of several models or figures; choose "
            "the rows of one"
        )


def _check_columns(table: pd.DataFrame, needed: Collection[str], name: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"{type(table).__name__} is no table; take results.table({name!r})")
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
