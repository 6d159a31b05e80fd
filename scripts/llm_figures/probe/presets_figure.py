"""The probe under two protocols, strict and published, side by side."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.core.options import Options
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import add_colour_bar, choose_tick_step
from llm_figures.plotting.layout import find_layout, make_grid
from llm_figures.plotting.style import Limits, Palette
from llm_figures.probe.best_cell import find_highest_cell, find_nested_cell
from llm_figures.probe.cell_text import (
    CELL,
    describe_highest_cell,
    describe_nested,
    state_cell,
    state_nested,
)
from llm_figures.probe.controls import LABELS
from llm_figures.probe.figure import CONSTANTS as CONSTANTS
from llm_figures.probe.figure import draw_panel, pivot_scores
from llm_figures.probe.options import Metric
from llm_figures.probe.protocol import TOKENS, Protocol
from llm_figures.probe.protocol_text import SITES, describe_method, state_protocol

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
    tokens = _find_tokens(scores)
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


def _find_tokens(scores: pd.DataFrame) -> list[str]:
    """The tokens that both presets have."""
    of = [set(scores.loc[scores["preset"] == preset, "token"]) for preset in PRESETS]
    return [token for token in TOKENS["strict"] if all(token in tokens for tokens in of)]


def find_shown(scores: pd.DataFrame, options: DrawnPresets) -> Shown:
    """The rows and columns of the scores that the figure shows."""
    rows = {"metric": [options.metric], "control": ["none"], "token": _find_tokens(scores)}
    return Shown(rows, ("preset", "layer", "token", "metric", "mean"))


def state_numbers(scores: pd.DataFrame, options: DrawnPresets) -> StatedNumbers:
    """The numbers of the caption: both protocols, their cells, and how they differ."""
    numbers = StatedNumbers()
    chosen = scores[(scores["metric"] == options.metric) & (scores["control"] == "none")]
    for preset in PRESETS:
        rows = chosen[chosen["preset"] == preset]
        numbers.update(state_protocol(options.protocols[preset], f"{preset}_"))
        highest = find_highest_cell(rows, options.metric)
        state_cell(numbers, f"{preset}_highest", highest, ("preset", *CELL))
        own = scores[scores["preset"] == preset]
        nested = find_nested_cell(own, options.metric)
        state_nested(numbers, f"{preset}_nested", nested, highest, ("preset", *CELL))
        row = {"preset": preset, "metric": options.metric, "control": "none"}
        for name, column in (("unconverged", "unconverged"), ("fits", "folds")):
            formula = f"sum of {column}"
            numbers.add(f"{preset}_{name}", rows[column].sum(), "d", formula, row=row)
    means = chosen.set_index(["preset", "layer", "token"])["mean"]
    difference = (means["strict"] - means["published"]).dropna()
    for name, value, form in (
        ("compared_cells", len(difference) or None, "d"),
        ("difference", difference.mean(), ".3f"),
        ("difference_low", difference.min(), ".3f"),
        ("difference_high", difference.max(), ".3f"),
    ):
        what = {"compared_cells": "number", "difference": "mean"}.get(name, name[11:] + "est")
        formula = f"{what} of mean at strict − mean at published, over layers and tokens"
        row = {"metric": options.metric, "control": "none"}
        numbers.add(name, value, form, formula, row=row)
    return numbers


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnPresets,
    numbers: StatedNumbers | None = None,
) -> str:
    """Both protocols, the cells chosen and highest, and how they differ on average.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    chosen = scores[(scores["metric"] == options.metric) & (scores["control"] == "none")]
    sentences = [
        f"{LABELS[options.metric]} of linear probes on {model} that detect a wrong answer, under "
        "two protocols, on the same answers."
    ]
    if chosen["mean"].isna().any():
        sentences.append("Cells with too few answers for a score are grey.")
    for preset in chosen["preset"].unique():
        protocol = options.protocols[preset]
        has_score = numbers[f"{preset}_highest_layer"].value is not None
        chosen_cell = numbers[f"{preset}_nested_score"].value is not None
        sentences.append(
            f"{preset.capitalize()}: {SITES[protocol.site]}. "
            + describe_method(protocol, numbers, f"{preset}_")
            + (
                f" {describe_nested(protocol, numbers, options.metric, f'{preset}_nested')}."
                if chosen_cell
                else ""
            )
            + (
                f" Highest cell: {describe_highest_cell(numbers, f'{preset}_highest')}."
                if has_score
                else ""
            )
            + (
                f" {numbers[f'{preset}_unconverged']} of {numbers[f'{preset}_fits']} fits did not "
                "converge."
                if numbers[f"{preset}_unconverged"].value
                else ""
            )
        )
    if numbers["compared_cells"].value:
        sentences.append(
            f"Over the {numbers['compared_cells']} cells of both, strict is higher by "
            f"{numbers['difference']} on average (from {numbers['difference_low']} to "
            f"{numbers['difference_high']})."
        )
    return " ".join(sentences) + "\n"
