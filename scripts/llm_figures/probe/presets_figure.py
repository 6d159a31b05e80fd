"""The probe by two protocols, ours and the published one, side by side."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.plotting.drawing import add_colour_bar, choose_tick_step
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.controls import LABELS
from llm_figures.probe.figure import describe_best_cell, probe_panel, probe_values
from llm_figures.probe.protocol import SITES, TOKENS, describe_method


def draw(scores: pd.DataFrame, options: dict) -> Figure:
    """The presets side by side on one scale, and strict minus published.

    scores: tidy scores with a further column preset. The tokens are those of both.
    """
    presets = ["strict", "published"]
    parts = {preset: scores[scores["preset"] == preset] for preset in presets}
    tokens = [
        token
        for token in TOKENS["strict"]
        if all((parts[p]["token"] == token).any() for p in parts)
    ]
    values = {
        preset: probe_values(part, options["metric"], tokens) for preset, part in parts.items()
    }
    difference = values["strict"] - values["published"]
    extent = float(np.nanmax(np.abs(difference.to_numpy()), initial=0.01))
    rows = len(difference)
    fig, axes = plt.subplots(
        1,
        3,
        figsize=(3 * (0.3 * len(tokens) + 0.9) + 0.8, max(0.14 * rows, 2.2) + 1.4),
        sharey=True,
        layout="constrained",
    )
    for ax, preset in zip(axes, presets, strict=False):
        mesh = probe_panel(
            values[preset],
            ax,
            options["palette"],
            options["limits"],
            choose_tick_step(rows),
            preset,
        )
        ax.set(title=preset, xlabel="Token", ylabel="Layer" if preset == presets[0] else "")
    add_colour_bar(fig, mesh, LABELS[options["metric"]], ax=axes[:2], pad=0.02, aspect=30)
    title = "strict − published"
    mesh = probe_panel(
        difference, axes[2], "coolwarm", [-extent, extent], choose_tick_step(rows), title
    )
    axes[2].set(title=title, xlabel="Token", ylabel="")
    add_colour_bar(fig, mesh, f"Difference in {LABELS[options['metric']]}", ax=axes[2], aspect=30)
    return fig


def describe(scores: pd.DataFrame, model: str, options: dict) -> str:
    """Both protocols, their best cells, and how they differ on average."""
    chosen = scores[(scores["metric"] == options["metric"]) & (scores["control"] == "none")]
    parts = [
        f"{LABELS[options['metric']]} of linear probes on {model} that detect a wrong answer, by "
        "two protocols on the same answers."
    ]
    for preset, rows in chosen.groupby("preset", sort=False):
        setting = options["protocols"][preset]
        best = find_best_cell(rows, options["metric"])
        unconverged = int(rows["unconverged"].sum())
        parts.append(
            f"{preset.capitalize()}: {SITES[setting['site']]}. {describe_method(setting)}"
            + (f" {describe_best_cell(best)}." if best else "")
            + (
                f" {unconverged} of {int(rows['folds'].sum())} fits did not converge."
                if unconverged
                else ""
            )
        )
    strict, published = (
        chosen[chosen["preset"] == preset].set_index(["layer", "token"])["mean"]
        for preset in ("strict", "published")
    )
    gap = (strict - published).dropna()
    if len(gap):
        parts.append(
            f"Over the {len(gap)} cells of both, strict is higher by {gap.mean():.3f} on average "
            f"(from {gap.min():.3f} to {gap.max():.3f})."
        )
    return " ".join(parts) + "\n"
