"""The probe under the protocols of all presets, side by side."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.core.options import Options
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import add_colour_bar, choose_tick_step
from llm_figures.plotting.layout import find_layout, make_grid
from llm_figures.plotting.style import Limits, Palette
from llm_figures.probe.auc_caption import CONSTANTS as CONSTANTS
from llm_figures.probe.best_cell import find_highest_cell, find_nested_cell
from llm_figures.probe.cell_text import (
    CELL,
    describe_highest_cell,
    describe_nested,
    state_cell,
    state_nested,
)
from llm_figures.probe.controls import LABELS
from llm_figures.probe.figure import draw_panel, pivot_scores
from llm_figures.probe.options import Metric
from llm_figures.probe.protocol import PRESETS, TOKENS, Protocol
from llm_figures.probe.protocol_text import SITES, describe_method, state_protocol

# The presets that strict is compared with.
OTHERS = tuple(preset for preset in PRESETS if preset != "strict")
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

    scores: tidy scores with a further column preset. Tokens that not all presets have are left out.
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
    count = len(PRESETS) + 1
    own = (count * (0.3 * len(tokens) + 0.9) + 0.8, max(0.14 * rows, 2.2) + 1.4)
    # below each other where the names of the tokens have no room side by side
    stacked = layout.share(count, 1.8) * 72 < 1.2 * layout.small * len(tokens)
    fig, axes = make_grid(
        *((count, 1) if stacked else (1, count)),
        own=own,
        height=count * STACKED + 1.2 if stacked else 2.9,
        sharex=stacked,
        sharey=True,
    )
    panels = axes.ravel()
    for ax, preset in zip(panels, PRESETS, strict=False):
        mesh = draw_panel(values[preset], ax, options.palette, options.limits, step, preset)
        ax.set(title=preset, xlabel="Token", ylabel="" if preset in OTHERS else "Layer")
    label = LABELS[options.metric]
    add_colour_bar(fig, mesh, label, ax=panels[:-1], pad=0.02, aspect=30)
    title = "strict − published"
    mesh = draw_panel(difference, panels[-1], "coolwarm", (-extent, extent), step, title)
    panels[-1].set(title=title, xlabel="Token", ylabel="")
    add_colour_bar(fig, mesh, f"Difference in {label}", ax=panels[-1], aspect=30)
    if layout.sized:
        for ax in panels:
            ax.set_ylabel("Layer")
            ax.label_outer()
    return fig


def _find_tokens(scores: pd.DataFrame) -> list[str]:
    """The tokens that all presets have."""
    of = [set(scores.loc[scores["preset"] == preset, "token"]) for preset in PRESETS]
    return [token for token in TOKENS["strict"] if all(token in tokens for tokens in of)]


def find_shown(scores: pd.DataFrame, options: DrawnPresets) -> Shown:
    """The rows and columns of the scores that the figure shows."""
    rows = {"metric": [options.metric], "control": ["none"], "token": _find_tokens(scores)}
    return Shown(rows, ("preset", "layer", "token", "metric", "mean"))


def state_numbers(scores: pd.DataFrame, options: DrawnPresets) -> StatedNumbers:
    """The numbers of the caption: all protocols, their cells, and how they differ."""
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
    for preset in OTHERS:
        difference = (means["strict"] - means[preset]).dropna()
        for name, value, form, what in (
            ("compared_cells", len(difference) or None, "d", "number"),
            ("difference", difference.mean(), ".3f", "mean"),
            ("difference_low", difference.min(), ".3f", "lowest"),
            ("difference_high", difference.max(), ".3f", "highest"),
        ):
            formula = f"{what} of mean at strict − mean at {preset}, over layers and tokens of both"
            row = {"metric": options.metric, "control": "none"}
            numbers.add(f"{preset}_{name}", value, form, formula, row=row)
    return numbers


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnPresets,
    numbers: StatedNumbers | None = None,
) -> str:
    """All protocols, the cells chosen and highest, and how they differ on average.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    chosen = scores[(scores["metric"] == options.metric) & (scores["control"] == "none")]
    sentences = [
        f"{LABELS[options.metric]} of linear probes on {model} that detect a wrong answer, under "
        "several protocols, on the same answers. Columns of one name are the same tokens, of which "
        "the published code counts the one that ended an answer (stop) as its last (-1)."
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
    for preset in OTHERS:
        name = f"{preset}_difference"
        if numbers[f"{preset}_compared_cells"].value:
            sentences.append(
                f"Over the {numbers[f'{preset}_compared_cells']} cells of both, strict − {preset} "
                f"is {numbers[name]} on average (from {numbers[f'{name}_low']} to "
                f"{numbers[f'{name}_high']})."
            )
    return " ".join(sentences) + "\n"
