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


def probe_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """What the probe is, the best cell, its controls, and the cells without a score."""
    chosen = scores[(scores["metric"] == options["metric"])]
    shown = chosen[(chosen["control"] == "none") & chosen["token"].isin(options["tokens"])]
    shuffled = chosen[chosen["control"] == "shuffled_labels"]
    name = LABELS[options["metric"]]
    empty = shown.loc[shown["mean"].isna(), "token"].unique()
    low, high = options["limits"]
    missing = f" Too few answers for a score (grey): {', '.join(empty)}." if len(empty) else ""
    scored = shown.dropna(subset="mean")
    finding = ""
    if len(scored):
        best = scored.loc[scored["mean"].idxmax()]
        embedding = shown[(shown["layer"] == 0) & (shown["token"] == best["token"])].iloc[0]
        finding = (
            f" {best['folds']} cross-validation folds by question. Best cell: layer "
            f"{best['layer']}, {best['token']}: {best['mean']:.3f} [{best['ci_low']:.3f}, "
            f"{best['ci_high']:.3f}]. The same token in the embeddings, which know no context: "
            f"{embedding['mean']:.3f}. Trained on shuffled labels, the cells average "
            f"{shuffled['mean'].mean():.3f}."
        )
    fits = chosen.drop_duplicates(["layer", "token"])["unconverged"].sum()
    warning = f" {fits} fits did not converge." if fits else ""
    return (
        f"{name} of a linear probe on the residual stream of {model} that detects a wrong answer, "
        f"by layer (0 is the embeddings) and token.{finding}{missing}{warning} Colours span "
        f"{low:g} to {high:g}; lower values take the lightest.\n"
    )
