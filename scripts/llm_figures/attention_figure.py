"""The 3 × 3 attention heatmaps: mean_qkv, mean_qkv_tokens, scale_qkv."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from llm_figures.drawing import colour_bar, colour_map, heatmap, styled_title

MEAN_TITLES = {
    "features": "The Mean Operation For *Query*, *Key* and *Value*",
    "tokens": "The Mean Operation over Tokens For *Query*, *Key* and *Value*",
}
SCALE_TITLE = "The Attention Weight after Modifying Query, Key and Value"


def epsilon_label(epsilon: float) -> str:
    """5e-1, 1e-3, 2.5e-1: as few digits as tell the value."""
    mantissa, exponent = f"{epsilon:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def panel_title(panel: pd.Series) -> str:
    """The published title of a panel; starred words are italic."""
    component = panel["component"].capitalize()
    if panel["operation"] == "mean":
        return f"Taking the Mean of *{component}* (Input {panel['input']})"
    return f"Modifying {component} with ε = {epsilon_label(panel['epsilon'])}"


def figure_title(options: dict) -> str:
    """The published title of the whole figure, naming the components that are shown."""
    title = MEAN_TITLES[options["over"]] if options["operation"] == "mean" else SCALE_TITLE
    star = "*" if options["operation"] == "mean" else ""
    names = [f"{star}{component.capitalize()}{star}" for component in options["components"]]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return title.replace(f"{star}Query{star}, {star}Key{star} and {star}Value{star}", listed)


def attention_panel(panel: pd.DataFrame, ax, cmap: Colormap, limits: Sequence[float]):
    """One map from its tidy cells, without title or ticks; returns the mesh for a colour bar.

    Rows are query positions from the top, columns key positions from the left.
    """
    weights = panel.pivot(index="query_position", columns="key_position", values="weight")
    mesh = heatmap(
        weights,
        ax,
        cmap=cmap,
        limits=limits,
        title=panel_title(panel.iloc[0]).replace("*", ""),
        square=True,
        xticklabels=False,
        yticklabels=False,
    )
    ax.set(xlabel="", ylabel="")
    return mesh


def draw_attention(cells: pd.DataFrame, options: dict) -> Figure:
    """Draw the grid from the tidy cells of one attention figure."""
    cmap = colour_map(options["palette"])
    rows, columns = cells["panel_row"].max() + 1, cells["panel_column"].max() + 1
    size = plt.rcParams["font.size"]
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.0 * columns + 0.9, 3.05 * rows + 0.4),
        squeeze=False,
        layout="constrained",
    )
    fig.get_layout_engine().set(rect=(0, 0.4 / (3.05 * rows + 0.4), 1, 1), wspace=0.03, hspace=0.03)
    for (row, column), panel in cells.groupby(["panel_row", "panel_column"]):
        ax = axes[row, column]
        mesh = attention_panel(panel, ax, cmap, options["limits"])
        styled_title(
            ax,
            panel_title(panel.iloc[0]),
            f"panel-{row}-{column}-title",
            anchor=(0.5, 1.0),
            transform=ax.transAxes,
            loc="lower center",
            size=size,
        )
    low, high = options["limits"]
    colour_bar(
        fig,
        mesh,
        "Attention Weight",
        ticks=np.round(np.linspace(low, high, 6), 10),
        ax=axes,
        shrink=1.0,
        aspect=40,
        pad=0.02,
    )
    fig.draw_without_rendering()  # places the panels, whose centre the title goes under
    left, right = axes[0, 0].get_position().x0, axes[0, -1].get_position().x1
    styled_title(
        fig,
        figure_title(options),
        "figure-title",
        anchor=((left + right) / 2, 0.0),
        transform=fig.transFigure,
        loc="lower center",
        size=1.4 * size,
    )
    return fig


def attention_caption(cells: pd.DataFrame, model: str, options: dict) -> str:
    """Model, layer, head, operation, stage and scope of an attention figure."""
    first = cells.iloc[0]
    why = ", where the unaltered model's sink is strongest" if options["layer"] == "auto" else ""
    head = "averaged over its heads" if first["head"] == "mean" else f"head {first['head']}"
    axis = {"features": "head dimension", "tokens": "token positions"}[options["over"]]
    made = (
        f"replaced by its mean over the {axis}"
        if options["operation"] == "mean"
        else "multiplied by ε"
    )
    stage = "after" if options["stage"] == "after_rotary" else "before"
    where = "in this layer alone" if options["scope"] == "layer" else "in every layer"
    low, high = options["limits"]
    return (
        f"Attention weights of {model}, layer {first['layer']} (from 0){why}, {head}. Query or Key "
        f"({stage} rotary embedding) or Value is {made}, {where}. Rows are query positions from "
        f"the top, columns key positions. Colours span {low:g} to {high:g}.\n"
    )
