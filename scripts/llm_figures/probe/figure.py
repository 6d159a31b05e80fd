"""How well a probe detects a wrong answer: the layer × token heatmap."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from llm_figures.core.numbers import minus_signs
from llm_figures.models.layer_checks import check_shape
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
    label_layers,
)
from llm_figures.plotting.layout import choose_height, find_layout, make_grid
from llm_figures.probe.auc_caption import CONSTANTS as CONSTANTS
from llm_figures.probe.auc_caption import DrawnProbeAuc, find_highlighted_layers
from llm_figures.probe.auc_caption import describe as describe
from llm_figures.probe.auc_caption import state_numbers as state_numbers
from llm_figures.probe.best_cell import HighestCell, find_highest_cell
from llm_figures.probe.controls import LABELS
from llm_figures.probe.options import Highlight

OPTIONS = DrawnProbeAuc


def draw(scores: pd.DataFrame, options: DrawnProbeAuc) -> Figure:
    """Draw the tidy scores: layers from 0 (the embeddings) at the top, tokens from left to right.

    Cells without a score are grey.
    """
    tokens = options.tokens
    values = pivot_scores(scores, options.metric, tokens)
    rows = len(values)
    own = (0.42 * len(tokens) + 1.4, max(0.17 * rows, 2.2) + 1.3)
    fig, axes = make_grid(1, 1, own=own, height=choose_height(own))
    ax = axes[0, 0]
    mesh = draw_panel(values, ax, options.palette, options.limits, choose_tick_step(rows))
    ax.set(xlabel="Token", ylabel="Layer")
    if options.highlight:
        check_shape({"probe_auc": options.plain()}, {"layers": rows - 1, "heads": None})
        draw_highlight(ax, options.highlight, tokens, rows - 1)
    if options.mark_best:
        mark_best(ax, values, find_highest_cell(scores, options.metric, tokens))
    draw_colour_bar(fig, mesh, options.metric, options.limits, ax=ax, pad=0.02)
    return fig


def draw_highlight(
    ax, highlight: Highlight, tokens: Sequence[str], depth: int, name: str = "highlight"
) -> None:
    """Draw the black rectangle on a panel of these tokens.

    depth: the model's layers. name: its id in the SVG; further rectangles are numbered from 2.
    """
    first, last = find_highlighted_layers(highlight.layers, depth)
    for number, (left, right) in enumerate(highlight.find_columns(tokens), start=1):
        ax.add_patch(
            Rectangle(
                (left, first),
                right - left + 1,
                last - first + 1,
                fill=False,
                edgecolor="black",
                linewidth=1.2 if find_layout().sized else 1.8,
                gid=name if number == 1 else f"{name}-{number}",
                clip_on=False,
            )
        )


def mark_best(ax, values: pd.DataFrame, highest: HighestCell | None, name: str = "best") -> None:
    """Mark the highest cell with a dot, if there is one.

    values: as from `pivot_scores`. name: its id in the SVG.
    """
    if highest is None:
        return
    column = values.columns.get_loc(highest.probe["token"])
    place = column + 0.5, values.index.get_loc(highest.probe["layer"]) + 0.5
    small = find_layout().sized
    ax.plot(
        *place, "o", ms=2.5 if small else 4.0, mfc="white", mec="black", mew=0.6, gid=name,
        label="_best",
    )  # fmt: skip


def draw_colour_bar(fig: Figure, mesh, metric: str, limits: Sequence[float], **place):
    """The colour bar of a metric, with ticks from one limit to the other."""
    ticks = np.round(np.linspace(*limits, 6), 10)
    return add_colour_bar(fig, mesh, LABELS[metric], ticks=ticks, aspect=30, **place)


def pivot_scores(scores: pd.DataFrame, metric: str, tokens: Sequence[str]) -> pd.DataFrame:
    """Means of the probe itself, one row per layer, one column per token."""
    shown = scores[(scores["metric"] == metric) & (scores["control"] == "none")]
    return shown.pivot(index="layer", columns="token", values="mean").reindex(columns=list(tokens))


def draw_panel(
    values: pd.DataFrame, ax, palette: str, limits: Sequence[float], step: int, title: str = ""
):
    """One heatmap with layers from 0 at the top and every `step`th layer labelled.

    values: as from `pivot_scores`. title: what distinguishes this panel from others of the figure.
    Returns the mesh for a colour bar.
    """
    tokens, rows = list(map(minus_signs, values.columns)), len(values)
    mesh = draw_heatmap(
        values,
        ax,
        cmap=find_colour_map(palette),
        limits=limits,
        title=title,
        xticklabels=tokens,
        yticklabels=False,
    )
    label_layers(ax, rows, step)
    ax.set_xticks(ax.get_xticks(), labels=tokens, rotation=45, ha="right", rotation_mode="anchor")
    return mesh


def find_shown(scores: pd.DataFrame, options: DrawnProbeAuc) -> Shown:
    """The rows and columns of the scores that the figure shows."""
    rows = {"metric": [options.metric], "token": list(options.tokens), "control": ["none"]}
    return Shown(rows, ("layer", "token", "metric", "mean"))
