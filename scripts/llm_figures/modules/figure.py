"""The layer × projection heatmap."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from llm_figures.core.numbers import low_to_high
from llm_figures.models.projection_layouts import COLUMNS
from llm_figures.modules.metrics import METRICS
from llm_figures.modules.options import MetricMap
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
    label_layers,
)
from llm_figures.plotting.layout import choose_height, make_grid

OPTIONS = MetricMap


def find_limits(
    values: np.ndarray, limits: str | Sequence[float], robust: tuple[float, float] = (2, 98)
) -> tuple[float, float]:
    """The ends of the colour scale: "data" is the range, "robust" lies between two percentiles."""
    if not isinstance(limits, str):
        return limits[0], limits[1]
    if not np.isfinite(values).any():  # effective ranks where nothing changed
        return 0.0, 1.0
    low, high = np.nanpercentile(values, robust if limits == "robust" else (0, 100))
    return float(low), float(high)


def make_colour_scale(
    values: np.ndarray, options: MetricMap
) -> tuple[Colormap, tuple[float, float]]:
    """The colours and the ends of the scale, for all `values` that are compared.

    At the centre (see `find_centre`), if there is one, is the palette's middle colour. Equal steps
    on either side have equal changes of colour, so that only a part of the palette may be used.
    """
    low, high = find_limits(values, options.limits, METRICS[options.metric].robust)
    colours = find_colour_map(options.palette)
    centre = find_centre(options, low, high)
    if not high > low:  # one colour, the middle one
        half = max(abs(low) * 1e-3, 1e-9)
        return colours, (low - half, high + half)
    if centre is None:
        return colours, (low, high)
    reach = max(abs(low - centre), abs(high - centre))
    shares = np.linspace((low - centre) / reach, (high - centre) / reach, 256) / 2 + 0.5
    part = LinearSegmentedColormap.from_list(options.palette, colours(shares))
    return part.with_extremes(bad=colours.get_bad()), (low, high)


def find_centre(options: MetricMap, low: float, high: float) -> float | None:
    """The value with the palette's middle colour; None is the middle of the limits low and high.

    auto is the metric's neutral value, unless it is outside the limits by more than a quarter of
    their span, where all cells would have similar colours.
    """
    if options.centre != "auto":
        return options.centre
    neutral, slack = METRICS[options.metric].neutral, (high - low) / 4
    return neutral if neutral is not None and low - slack <= neutral <= high + slack else None


def draw(scores: pd.DataFrame, options: MetricMap) -> Figure:
    """Draw the tidy scores: layer 0 at the bottom, `COLUMNS` from left to right."""
    values = pivot_scores(scores, options.metric)
    cmap, limits = make_colour_scale(values.to_numpy(), options)
    rows, columns = values.shape
    own = (0.55 * columns + 1.6, max(0.19 * rows, 2.2) + 1.0)
    fig, axes = make_grid(1, 1, own=own, height=choose_height(own))
    ax = axes[0, 0]
    mesh = draw_panel(values, ax, cmap, limits, max(1, choose_tick_step(rows) // 2))
    ax.set(xlabel="", ylabel="Layer")
    draw_colour_bar(fig, mesh, values.to_numpy(), limits, options.metric, ax=ax, pad=0.03)
    return fig


def pivot_scores(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric's values, one row per layer, one column per projection in the figure's order."""
    shown = scores[scores["metric"] == metric]
    values = shown.pivot(index="layer", columns="projection", values="value")
    return values[[name for name in COLUMNS if name in values]]


def draw_panel(values: pd.DataFrame, ax, cmap: Colormap, limits: tuple[float, float], step: int):
    """Draw a heatmap with layer 0 at the bottom and every `step`th layer labelled.

    values: as from `pivot_scores`. Returns the mesh for a colour bar.
    """
    rows = len(values)
    mesh = draw_heatmap(
        values,
        ax,
        cmap=cmap,
        limits=limits,
        xticklabels=list(values.columns),
        yticklabels=False,
    )
    ax.invert_yaxis()
    label_layers(ax, rows, step)
    ax.set_xticks(
        ax.get_xticks(),
        labels=list(values.columns),
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    return mesh


def draw_colour_bar(
    fig: Figure, mesh, values: np.ndarray, limits: tuple[float, float], metric: str, **place
):
    """Draw a colour bar; arrows at its ends show that values lie beyond them."""
    # false where no cell has a value
    below, above = (values < limits[0]).any(), (values > limits[1]).any()
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    bar = add_colour_bar(
        fig,
        mesh,
        METRICS[metric].label,
        aspect=30,
        extend=extend.get((bool(below), bool(above)), "neither"),
        **place,
    )
    bar.locator = MaxNLocator(nbins=4)
    bar.formatter = ScalarFormatter(useOffset=False)  # whole numbers, however close they lie
    bar.update_ticks()
    return bar


def describe(scores: pd.DataFrame, model: str, options: MetricMap) -> str:
    """The caption: the formula, the range, and the value of the middle colour."""
    shown = scores[scores["metric"] == options.metric]
    values = shown["value"].to_numpy(float)
    _, (low, high) = make_colour_scale(values, options)
    centre = find_centre(options, low, high)
    middle = "" if centre is None else f", the middle colour at {centre:g}"
    metric = describe_metric(model, options)
    if not np.isfinite(values).any():
        return f"{metric} No cell has a value.{describe_notes(shown)}\n"
    span = low_to_high(np.nanmin(values), np.nanmax(values))
    return (
        f"{metric} Values span {span}, colours {low_to_high(low, high)}"
        f"{describe_percentiles(options)}{middle}; layer 0 at the bottom."
        f"{describe_notes(shown)}\n"
    )


def describe_notes(scores: pd.DataFrame) -> str:
    """Which cells of one metric are grey and why, and what no column shows; "" if nothing is.

    scores: with the column `note`, see `scores.compute_scores`.
    """
    if "note" not in scores:
        return ""
    grey = scores["value"].isna()
    layers = scores["layer"].nunique()
    sentences = []
    for note, cells in scores[grey & (scores["note"] != "")].groupby("note", sort=False):
        columns: dict[tuple[int, ...], list[str]] = {}
        for name, own in cells.groupby("projection", sort=False):
            columns.setdefault(tuple(sorted(own["layer"])), []).append(name)
        places = "; ".join(
            f"{', '.join(names)} in {len(own)} of {layers} layers ({join_ranges(own)})"
            for own, names in columns.items()
        )
        sentences.append(f" Grey: {places}; {note}.")
    for note in dict.fromkeys(scores.loc[~grey, "note"]):
        if note:
            sentences.append(f" Layers also have {note}, which is not shown.")
    return "".join(sentences)


def join_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: 0–2, 4, 8–11."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)


def describe_metric(model: str, options: MetricMap) -> str:
    """The metric in words and as a formula. model: its name in the caption."""
    return METRICS[options.metric].caption.format(model=model, **dict(options))


def describe_percentiles(options: MetricMap, of: str = "") -> str:
    """The percentiles that the colours span, if limits are robust. of: the values they are of."""
    if options.limits != "robust":
        return ""
    low, high = METRICS[options.metric].robust
    return f" (percentiles {low:g} and {high:g}{of})"
