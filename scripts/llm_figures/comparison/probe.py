"""Compare the probe figures of several models."""

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
from llm_figures.core.numbers import with_interval
from llm_figures.probe.best_cell import find_highest_cell, find_nested_cell
from llm_figures.probe.cell_text import write_choices
from llm_figures.probe.controls import EXPLANATIONS, LABELS, name_control
from llm_figures.probe.figure import (
    draw_colour_bar,
    draw_highlight,
    draw_panel,
    mark_best,
    pivot_scores,
)
from llm_figures.probe.options import Highlight, ProbeAuc
from llm_figures.probe.protocol_text import name_probe

OPTIONS = ProbeAuc
NEEDED = {"layer", "token", "metric", "mean", "ci_low", "ci_high", "control", "n"}


def find_problem(table: pd.DataFrame, options: ProbeAuc) -> str | None:
    """Why a model's scores cannot be drawn with others; None if they can."""
    if missing := find_missing_columns(table, NEEDED):
        return missing
    shown = (table["metric"] == options.metric) & (table["control"] == "none")
    shown &= table["token"].isin(options.tokens)
    values = table.loc[shown, "mean"]
    return find_no_numbers(values) or find_missing_scores(values, options.metric)


def draw(tables: Tables, options: ProbeAuc) -> Figure:
    """Draw the layer × token heatmaps, all equally high, layer 0 at the top of each."""
    tokens = options.tokens
    values = {name: pivot_scores(table, options.metric, tokens) for name, table in tables.items()}
    width = 0.27 * len(tokens)
    fig, axes, height = make_panels(values, width=width, labels=1.5)
    for index, (ax, (name, cells)) in enumerate(zip(axes, values.items(), strict=True)):
        rows = len(cells)
        step = choose_layer_step(rows, height)
        mesh = draw_panel(cells, ax, options.palette, options.limits, step)
        if options.highlight and _rectangle_fits(options.highlight, rows - 1):
            # ids are unique in the SVG
            draw_highlight(ax, options.highlight, tokens, rows - 1, f"highlight-{index}")
        if options.mark_best:
            highest = find_highest_cell(tables[name], options.metric, tokens)
            mark_best(ax, cells, highest, f"best-{index}")
        name_panel(ax, name, width)
    label_axes(axes, "Token", "Layer")
    draw_colour_bar(fig, mesh, options.metric, options.limits, ax=axes, pad=0.02)
    return fig


def describe(tables: Tables, options: ProbeAuc) -> str:
    """What the panels have in common, and the chosen and the highest cell of every model."""
    low, high = options.limits
    best = "; ".join(f"{name}, {_describe_cell(table, options)}" for name, table in tables.items())
    text = (
        f"{LABELS[options.metric]} of {_name_probes(tables)} that detect a wrong answer, by layer "
        "(0 is the embeddings) and token, one panel per model. Panels are equally high whatever "
        "the model's number of layers, so equal heights are equal shares of the depth. Colours "
        f"span {low:g} to {high:g} in all panels; cells without a score are grey. By model: {best}."
    )
    if options.mark_best:
        text += " A dot marks the highest cell of each."
    shallow = [
        name
        for name, table in tables.items()
        if options.highlight and not _rectangle_fits(options.highlight, table["layer"].max())
    ]
    if shallow:
        text += f" The rectangle's layers are outside {', '.join(shallow)}."
    return text


def _name_probes(tables: Tables) -> str:
    """The kind of probe, or of each model's where they differ."""
    kinds = {name: name_probe(table) for name, table in tables.items()}
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values())).replace("probe", "probes", 1)
    return f"probes ({'; '.join(f'{name}: {kind}' for name, kind in kinds.items())})"


def _describe_cell(table: pd.DataFrame, options: ProbeAuc) -> str:
    highest = find_highest_cell(table, options.metric, options.tokens)
    cell, of = highest.probe, table["layer"].max()
    nested = find_nested_cell(table, options.metric)
    if nested is None:
        return (
            f"highest at layer {cell['layer']} of {of}, {cell['token']}: {_write_score(cell)} on "
            f"{cell['n']:,} answers{_describe_closest_control(highest.beside)}"
        )
    return (
        f"{_write_score(nested.probe)} on {nested.probe['n']:,} answers"
        f"{_describe_closest_control(nested.beside)}, the cell chosen on the training answers "
        f"({write_choices(nested)}, of {of} layers); highest at layer {cell['layer']}, "
        f"{cell['token']}: {cell['mean']:.3f}"
    )


def _write_score(row: pd.Series) -> str:
    return with_interval(row["mean"], row["ci_low"], row["ci_high"])


def _describe_closest_control(cell: pd.DataFrame) -> str:
    """The control for which probe − control is smallest, with the difference.

    cell: rows of a cell by control.
    """
    if not {"gain", "gain_low", "gain_high"} <= set(cell):
        return ""
    controls = cell[cell.index.isin(EXPLANATIONS)].dropna(subset="gain")
    if controls.empty:
        return ""
    closest = controls.loc[controls["gain"].idxmin()]
    gain = with_interval(closest["gain"], closest["gain_low"], closest["gain_high"])
    return f" (probe − control for {name_control(str(closest.name), closest)}: {gain})"


def _rectangle_fits(highlight: Highlight, depth: int) -> bool:
    return all(isinstance(layer, str) or layer <= depth for layer in highlight.layers)
