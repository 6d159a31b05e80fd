"""The probe under two protocols, strict and published, side by side."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.core.options import Options
from llm_figures.plotting.drawing import add_colour_bar, choose_tick_step
from llm_figures.plotting.layout import find_layout, make_grid
from llm_figures.plotting.style import Limits, Palette
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.controls import LABELS
from llm_figures.probe.figure import describe_best_cell, draw_panel, pivot_scores
from llm_figures.probe.options import Metric
from llm_figures.probe.protocol import SITES, TOKENS, Protocol, describe_method

PRESETS = ("strict", "published")
STACKED = 1.5  # inches, the height of a panel above others on a page


class DrawnPresets(Options):
    """Options that the probe's figure has, too. protocols: {preset: protocol}."""

    metric: Metric
    palette: Palette
    limits: Limits
    protocols: dict[str, Protocol]


OPTIONS = DrawnPresets


def draw(scores: pd.DataFrame, options: DrawnPresets) -> Figure:
    """The presets side by side on one scale, and strict minus published.

    scores: tidy scores with a further column preset. Tokens that only one preset has are left out.
    """
    tables = {preset: scores[scores["preset"] == preset] for preset in PRESETS}
    tokens = [
        token
        for token in TOKENS["strict"]
        if all((table["token"] == token).any() for table in tables.values())
    ]
    values = {
        preset: pivot_scores(table, options.metric, tokens) for preset, table in tables.items()
    }
    difference = values["strict"] - values["published"]
    extent = float(np.nanmax(np.abs(difference.to_numpy()), initial=0.01))
    rows = len(difference)
    step = choose_tick_step(rows)
    layout = find_layout()
    own = (3 * (0.3 * len(tokens) + 0.9) + 0.8, max(0.14 * rows, 2.2) + 1.4)
    # below each other where the names of the tokens have no room side by side
    stacked = layout.share(3, 1.8) * 72 < 1.2 * layout.small * len(tokens)
    fig, axes = make_grid(
        *((3, 1) if stacked else (1, 3)),
        own=own,
        height=3 * STACKED + 1.2 if stacked else 2.9,
        sharex=stacked,
        sharey=True,
    )
    panels = axes.ravel()
    for ax, preset in zip(panels, PRESETS, strict=False):
        mesh = draw_panel(values[preset], ax, options.palette, options.limits, step, preset)
        ax.set(title=preset, xlabel="Token", ylabel="Layer" if preset == PRESETS[0] else "")
    label = LABELS[options.metric]
    add_colour_bar(fig, mesh, label, ax=panels[:2], pad=0.02, aspect=30)
    title = "strict − published"
    mesh = draw_panel(difference, panels[2], "coolwarm", (-extent, extent), step, title)
    panels[2].set(title=title, xlabel="Token", ylabel="")
    add_colour_bar(fig, mesh, f"Difference in {label}", ax=panels[2], aspect=30)
    if layout.sized:
        for ax in panels:
            ax.set_ylabel("Layer")
            ax.label_outer()
    return fig


def describe(scores: pd.DataFrame, model: str, options: DrawnPresets) -> str:
    """Both protocols, their best cells, and how they differ on average."""
    chosen = scores[(scores["metric"] == options.metric) & (scores["control"] == "none")]
    sentences = [
        f"{LABELS[options.metric]} of linear probes on {model} that detect a wrong answer, under "
        "two protocols, on the same answers."
    ]
    if chosen["mean"].isna().any():
        sentences.append("Cells with too few answers for a score are grey.")
    for preset, rows in chosen.groupby("preset", sort=False):
        protocol = options.protocols[preset]
        best = find_best_cell(rows, options.metric)
        unconverged = int(rows["unconverged"].sum())
        sentences.append(
            f"{preset.capitalize()}: {SITES[protocol.site]}. {describe_method(protocol)}"
            + (f" {describe_best_cell(best)}." if best else "")
            + (
                f" {unconverged} of {int(rows['folds'].sum())} fits did not converge."
                if unconverged
                else ""
            )
        )
    strict, published = (
        chosen[chosen["preset"] == preset].set_index(["layer", "token"])["mean"]
        for preset in PRESETS
    )
    difference = (strict - published).dropna()
    if len(difference):
        sentences.append(
            f"Over the {len(difference)} cells of both, strict is higher by "
            f"{difference.mean():.3f} on average (from {difference.min():.3f} to "
            f"{difference.max():.3f})."
        )
    return " ".join(sentences) + "\n"
