"""The layer × module heatmap."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from llm_figures.drawing import colour_bar, colour_map, heatmap, tick_step

COLUMNS = ("attn. q", "attn. k", "attn. v", "attn. o", "mlp. up", "mlp. down", "mlp. gate")
LABELS = {"operation_strength": "Operation strength"}


def colour_limits(values: np.ndarray, limits: str | list[float]) -> tuple[float, float]:
    """Ends of the colour scale: "data" is the range, "robust" its 2nd to 98th percentile."""
    if limits == "data":
        return float(np.nanmin(values)), float(np.nanmax(values))
    if limits == "robust":
        low, high = np.nanpercentile(values, [2, 98])
        return float(low), float(high)
    return limits[0], limits[1]


def draw_modules(scores: pd.DataFrame, options: dict) -> Figure:
    """Draw the tidy scores: layer 0 at the bottom, modules left to right in `COLUMNS`' order."""
    values = module_values(scores, options["metric"])
    limits = colour_limits(values.to_numpy(), options["limits"])
    rows, columns = values.shape
    fig, ax = plt.subplots(
        figsize=(0.55 * columns + 1.6, max(0.19 * rows, 2.2) + 1.0), layout="constrained"
    )
    mesh = module_panel(
        values, ax, colour_map(options["palette"]), limits, max(1, tick_step(rows) // 2)
    )
    ax.set(xlabel="", ylabel="Layer")
    module_bar(fig, mesh, values.to_numpy(), limits, options["metric"], ax=ax, pad=0.03)
    return fig


def module_values(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric's values, one row per layer, one column per module in `COLUMNS`' order."""
    shown = scores[scores["metric"] == metric]
    values = shown.pivot(index="layer", columns="module", values="value")
    return values[[name for name in COLUMNS if name in values]]


def module_panel(values: pd.DataFrame, ax, cmap: Colormap, limits: tuple[float, float], step: int):
    """One heatmap with layer 0 at the bottom and every `step`th layer labelled.

    values: as from `module_values`. Returns the mesh for a colour bar.
    """
    rows = len(values)
    mesh = heatmap(
        values,
        ax,
        cmap=cmap,
        limits=limits,
        xticklabels=list(values.columns),
        yticklabels=False,
    )
    ax.invert_yaxis()
    ax.set_yticks(np.arange(0, rows, step) + 0.5, labels=[str(n) for n in range(0, rows, step)])
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticks(
        ax.get_xticks(),
        labels=list(values.columns),
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    return mesh


def module_bar(
    fig: Figure, mesh, values: np.ndarray, limits: tuple[float, float], metric: str, **place
):
    """The colour bar of a module map; points at its ends say that values lie beyond them."""
    below, above = np.nanmin(values) < limits[0], np.nanmax(values) > limits[1]
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    bar = colour_bar(
        fig,
        mesh,
        LABELS[metric],
        aspect=30,
        extend=extend.get((bool(below), bool(above)), "neither"),
        **place,
    )
    bar.locator = MaxNLocator(nbins=4)
    bar.update_ticks()
    return bar


def module_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """The formula and the range."""
    values = scores.loc[scores["metric"] == options["metric"], "value"]
    low, high = colour_limits(values.to_numpy(), options["limits"])
    return (
        f"Operation strength ‖Wx‖ / (‖W‖_F ‖x‖) of every projection of {model}, averaged over the "
        "tokens of the texts (without bias). Dimensionless; 1/√d_in for an input in a random "
        f"direction. Values span {values.min():.4f} to {values.max():.4f}, colours {low:.4f} to "
        f"{high:.4f}; layer 0 at the bottom.\n"
    )
