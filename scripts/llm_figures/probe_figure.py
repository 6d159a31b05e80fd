"""The layer × token heatmap of how well a probe detects a wrong answer."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from llm_figures.drawing import colour_bar, colour_map, heatmap, tick_step
from llm_figures.shapes import check_shape

LABELS = {"auc": "AUC", "accuracy": "Accuracy"}


def highlighted_layers(layers: list[int | str], depth: int) -> tuple[int, int]:
    """First and last row of the rectangle; "12.5%" is a share of the model's `depth` layers."""
    first, last = (
        round(float(layer.removesuffix("%")) / 100 * depth) if isinstance(layer, str) else layer
        for layer in layers
    )
    return min(first, last), max(first, last)


def draw_probe(scores: pd.DataFrame, options: dict) -> Figure:
    """Draw the tidy scores: layers from 0 (the embeddings) at the top, tokens left to right.

    Cells without a score are grey.
    """
    tokens = options["tokens"]
    shown = scores[(scores["metric"] == options["metric"]) & (scores["control"] == "none")]
    values = shown.pivot(index="layer", columns="token", values="mean").reindex(columns=tokens)
    rows = len(values)
    fig, ax = plt.subplots(
        figsize=(0.42 * len(tokens) + 1.4, max(0.17 * rows, 2.2) + 1.3), layout="constrained"
    )
    mesh = heatmap(
        values,
        ax,
        cmap=colour_map(options["palette"]),
        limits=options["limits"],
        xticklabels=tokens,
        yticklabels=False,
    )
    step = tick_step(rows)
    ax.set_yticks(np.arange(0, rows, step) + 0.5, labels=[str(n) for n in range(0, rows, step)])
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticks(ax.get_xticks(), labels=tokens, rotation=45, ha="right", rotation_mode="anchor")
    ax.set(xlabel="Token", ylabel="Layer")
    if highlight := options["highlight"]:
        check_shape({"probe_auc": options}, {"layers": rows - 1, "heads": None})
        first, last = highlighted_layers(highlight["layers"], rows - 1)
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
    low, high = options["limits"]
    colour_bar(
        fig,
        mesh,
        LABELS[options["metric"]],
        ticks=np.round(np.linspace(low, high, 6), 10),
        ax=ax,
        pad=0.02,
        aspect=30,
    )
    return fig
