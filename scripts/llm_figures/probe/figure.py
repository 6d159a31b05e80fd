"""How well a probe detects a wrong answer: the layer × token heatmap, and curves with intervals."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from llm_figures.core.numbers import with_interval
from llm_figures.models.layer_checks import check_shape
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
)
from llm_figures.probe.best_cell import BestCell, find_best_cell
from llm_figures.probe.controls import CONTROLS, EXPLANATIONS, FITTED, LABELS
from llm_figures.probe.protocol import OUTPUT_BASELINES, SITES, describe_method


def highlighted_layers(layers: list[int | str], depth: int) -> tuple[int, int]:
    """First and last row of the rectangle; "12.5%" is a share of the model's `depth` layers."""
    first, last = (
        round(float(layer.removesuffix("%")) / 100 * depth) if isinstance(layer, str) else layer
        for layer in layers
    )
    return min(first, last), max(first, last)


def draw(scores: pd.DataFrame, options: dict) -> Figure:
    """Draw the tidy scores: layers from 0 (the embeddings) at the top, tokens left to right.

    Cells without a score are grey.
    """
    tokens = options["tokens"]
    values = probe_values(scores, options["metric"], tokens)
    rows = len(values)
    fig, ax = plt.subplots(
        figsize=(0.42 * len(tokens) + 1.4, max(0.17 * rows, 2.2) + 1.3), layout="constrained"
    )
    mesh = probe_panel(values, ax, options["palette"], options["limits"], choose_tick_step(rows))
    ax.set(xlabel="Token", ylabel="Layer")
    if options["highlight"]:
        check_shape({"probe_auc": options}, {"layers": rows - 1, "heads": None})
        draw_highlight(ax, options["highlight"], tokens, rows - 1)
    probe_bar(fig, mesh, options, ax=ax, pad=0.02)
    return fig


def draw_highlight(ax, highlight: dict, tokens: list[str], depth: int) -> None:
    """The black rectangle on a panel of these tokens; depth: the model's layers."""
    first, last = highlighted_layers(highlight["layers"], depth)
    left, right = sorted(tokens.index(token) for token in highlight["tokens"])
    ax.add_patch(
        Rectangle(
            (left, first),
            right - left + 1,
            last - first + 1,
            fill=False,
            edgecolor="black",
            linewidth=1.8,
            gid="highlight",
            clip_on=False,
        )
    )


def probe_bar(fig: Figure, mesh, options: dict, **place):
    """The colour bar of a metric, between the options' limits."""
    low, high = options["limits"]
    return add_colour_bar(
        fig,
        mesh,
        LABELS[options["metric"]],
        ticks=np.round(np.linspace(low, high, 6), 10),
        aspect=30,
        **place,
    )


def probe_values(scores: pd.DataFrame, metric: str, tokens: list[str]) -> pd.DataFrame:
    """Means of the probe itself, one row per layer, one column per token."""
    shown = scores[(scores["metric"] == metric) & (scores["control"] == "none")]
    return shown.pivot(index="layer", columns="token", values="mean").reindex(columns=tokens)


def probe_panel(
    values: pd.DataFrame, ax, palette: str, limits: list[float], step: int, title: str = ""
):
    """One heatmap with layers from 0 at the top and every `step`th layer labelled.

    values: as from `probe_values`. title: what tells it from other panels of the figure. Returns
    the mesh for a colour bar.
    """
    tokens, rows = list(values.columns), len(values)
    mesh = draw_heatmap(
        values,
        ax,
        cmap=find_colour_map(palette),
        limits=limits,
        title=title,
        xticklabels=tokens,
        yticklabels=False,
    )
    ax.set_yticks(np.arange(0, rows, step) + 0.5, labels=[str(n) for n in range(0, rows, step)])
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticks(ax.get_xticks(), labels=tokens, rotation=45, ha="right", rotation_mode="anchor")
    return mesh


def describe(scores: pd.DataFrame, model: str, options: dict) -> str:
    """What the probe is, the best cell, its controls, what explains it, and what is missing."""
    protocol = options["protocol"]
    chosen = scores[
        (scores["metric"] == options["metric"]) & scores["token"].isin(options["tokens"])
    ]
    shown = chosen[chosen["control"] == "none"]
    low, high = options["limits"]
    parts = [
        f"{LABELS[options['metric']]} of a linear probe on {SITES[protocol['site']]} of {model} "
        "that detects a wrong answer, by layer (0 is the embeddings) and token.",
        describe_method(protocol),
        _counts(shown),
    ]
    if best := find_best_cell(scores, options["metric"], options["tokens"]):
        parts += _finding(chosen, best)
    if fits := int(chosen.loc[chosen["control"].isin(FITTED), "unconverged"].sum()):
        parts.append(f"{fits} fits did not converge.")
    parts.append(f"Colours span {low:g} to {high:g}; lower values take the lightest.")
    return " ".join(part for part in parts if part) + "\n"


def describe_best_cell(best: BestCell) -> str:
    row = best.probe
    score = with_interval(row["mean"], row["ci_low"], row["ci_high"])
    return f"Best cell: layer {row['layer']}, {row['token']}: {score}"


def _counts(shown: pd.DataFrame) -> str:
    """How many answers the cells rest on, with the tokens that rest on fewer."""
    counts = shown.drop_duplicates("token").set_index("token")["n"]
    most = counts.max()
    fewer = ", ".join(f"{token} on {count:,}" for token, count in counts.items() if count < most)
    empty = shown.loc[shown["mean"].isna(), "token"].unique()
    missing = f" Too few answers for a score (grey): {', '.join(empty)}." if len(empty) else ""
    return f"Cells rest on {most:,} answers{f' ({fewer})' if fewer else ''}.{missing}"


def _finding(chosen: pd.DataFrame, best: BestCell) -> list[str]:
    """The best cell with its controls, and how many cells no control explains."""
    beside = best.beside
    parts = [
        f"{describe_best_cell(best)}, the highest of {best.scored}; intervals are those of single "
        "cells."
    ]
    listed = [
        f"{name} {beside.loc[control, 'mean']:.3f}"
        for control, name in CONTROLS.items()
        if control in beside.index
    ]
    parts.append(f"Beside it: {', '.join(listed)}.")
    reasons = [
        reason
        for control, reason in EXPLANATIONS.items()
        if control in beside.index and not beside.loc[control, "gain_low"] > 0
    ]
    parts.append(
        f"The best cell is explained by {' and by '.join(reasons)}: the interval of its gain over "
        "that control includes zero."
        if reasons
        else "No control explains the best cell: the intervals of its gains exclude zero."
    )
    outputs = beside[beside.index.isin(OUTPUT_BASELINES)]
    if len(outputs):
        strongest = outputs.loc[outputs["mean"].idxmax()]
        gain = with_interval(strongest["gain"], strongest["gain_low"], strongest["gain_high"])
        parts.append(
            f"Over the strongest of the output's own signs, {CONTROLS[strongest.name]}, it gains "
            f"{gain}."
        )
    for control, name in (
        ("embeddings", "the embeddings"),
        ("shuffled_within_group", "labels shuffled within group"),
    ):
        rows = chosen[(chosen["control"] == control) & chosen["gain"].notna()]
        if control == "embeddings":
            rows = rows[rows["layer"] > 0]
        if len(rows):
            above = rows["gain_low"] > 0
            never = [
                token
                for token, found in above.groupby(rows["token"], sort=False)
                if not found.any()
            ]
            parts.append(
                f"{above.sum()} of {len(rows)} cells are above {name} in this sense"
                + (f", none at {', '.join(never)}." if never else ".")
            )
    return parts
