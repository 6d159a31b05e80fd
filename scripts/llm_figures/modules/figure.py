"""The layer × projection heatmap."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from llm_figures.core.formatting import join_ranges
from llm_figures.core.numbers import four_decimals
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.models.projection_layouts import COLUMNS
from llm_figures.modules.metrics import METRICS
from llm_figures.modules.options import MetricMap
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
    label_layers,
)
from llm_figures.plotting.layout import choose_height, make_grid

OPTIONS = MetricMap
# What captions say in figures without stating a number of the run.
CONSTANTS = {
    "layer 0 at the bottom": "layers are counted from 0",
    "1/√d_in": "part of a formula",
    "Σ step² / 12": "part of a formula",
    "0.5 is chance": "the AUC of a random score",
    "Roy and Vetterli 2007": "the year of a publication",
    "float16": "the name of a type",
}


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
    bar = draw_colour_bar(fig, mesh, options.metric, ax=ax, pad=0.03)
    for size, value in find_random(scores, options.metric).items():
        if limits[0] <= value <= limits[1]:
            bar.ax.axhline(value, color="black", lw=0.8, gid=f"random-{size}")
    return fig


def find_random(scores: pd.DataFrame, metric: str) -> dict[int, float]:
    """{d_in: 1/√d_in}, the operation strength for an input in a random direction, by size of W.

    Empty for other metrics, and for scores of earlier versions, which have no column d_in.
    """
    if metric != "operation_strength" or "d_in" not in scores:
        return {}
    sizes = scores.loc[scores["metric"] == metric, "d_in"].dropna().unique()
    return {int(size): float(size) ** -0.5 for size in sorted(sizes)}


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


def draw_colour_bar(fig: Figure, mesh, metric: str, **place):
    """Draw a colour bar with few ticks."""
    bar = add_colour_bar(fig, mesh, METRICS[metric].label, aspect=30, **place)
    bar.locator = MaxNLocator(nbins=4)
    bar.formatter = ScalarFormatter(useOffset=False)  # whole numbers, however close they lie
    bar.update_ticks()
    return bar


def find_shown(scores: pd.DataFrame, options: MetricMap) -> Shown:
    """The rows and columns of the scores that the figure shows."""
    columns = ["layer", "projection", "metric", "value", "note"]
    return Shown({"metric": [options.metric]}, [name for name in columns if name in scores])


def state_numbers(scores: pd.DataFrame, options: MetricMap) -> StatedNumbers:
    """The numbers of the caption: range, ends of the scale, centre, options, and grey cells."""
    numbers = StatedNumbers()
    shown = scores[scores["metric"] == options.metric]
    row = {"metric": options.metric}
    values = shown["value"].to_numpy(float)
    known = values[np.isfinite(values)]
    for end, pick in (("low", np.min), ("high", np.max)):
        value = pick(known) if len(known) else None
        formula = f"{pick.__name__.removeprefix('a')}imum of value"
        numbers.add(f"values_{end}", value, four_decimals, formula, row=row)
    _, limits = make_colour_scale(values, options)
    robust = options.limits == "robust"
    percentiles = METRICS[options.metric].robust if robust else (None, None)
    for end, limit, percentile in zip(("low", "high"), limits, percentiles, strict=True):
        formula = "end of the colour scale, by the option limits of figures.module_map"
        if robust:
            formula = f"percentile {percentile:g} of value, the end of the colour scale"
        numbers.add(f"colour_{end}", limit, four_decimals, formula, row=row)
        of_scale = "percentile of value at which the colour scale ends"
        numbers.add(f"percentile_{end}", percentile, "g", of_scale)
    for place, (size, value) in enumerate(find_random(scores, options.metric).items(), start=1):
        of_size = {**row, "d_in": size}
        numbers.add(f"random_{place}", value, four_decimals, "1 / √d_in", row=of_size)
        numbers.take(f"random_{place}_inputs", of_size, "d_in", ",", ["metric", "d_in"])
    centre = find_centre(options, *limits)
    numbers.add("centre", centre, "g", "the value of the palette's middle colour")
    for name, value, form in (
        ("update_tolerance", options.update.tolerance, "g"),
        ("update_top_k", options.update.top_k, "d"),
        ("quantization_bits", options.quantization.bits, "d"),
        ("quantization_block_size", options.quantization.block_size, "d"),
    ):
        key = name.replace("_", ".", 1)
        numbers.take_option(name, value, form, f"figures.module_map.{key}")
    numbers.add("layers", shown["layer"].nunique(), "d", "number of values of layer", row=row)
    for projection in shown["projection"].unique():
        _state_grey(numbers, _name_grey(projection), [], {**row, "projection": projection})
    for (projection, note), (name, layers) in _find_grey(shown).items():
        place = {**row, "projection": projection, "note": note}
        _state_grey(numbers, name, layers, place)
    return numbers


def _state_grey(numbers: StatedNumbers, name: str, layers: list[int], row: Mapping) -> None:
    """Add the number of layers without a value, and which they are."""
    formula = "layers without a value"
    numbers.add(name, len(layers), "d", f"number of {formula}", row=row)
    numbers.add(f"{name}_layers", join_ranges(layers) or None, "", formula, row=row)


def _name_grey(projection: str, reason: int = 1) -> str:
    return f"grey_{projection}" + ("" if reason == 1 else f"_{reason}")


def _find_grey(shown: pd.DataFrame) -> dict[tuple[str, str], tuple[str, list[int]]]:
    """{(projection, note): name of its number, layers without a value}, reason by reason."""
    found: dict[tuple[str, str], tuple[str, list[int]]] = {}
    if "note" not in shown:
        return found
    grey = shown[shown["value"].isna() & (shown["note"] != "")]
    for note, cells in grey.groupby("note", sort=False):
        for projection, own in cells.groupby("projection", sort=False):
            reason = 1 + sum(projection == other for other, _ in found)
            layers = sorted(own["layer"].tolist())
            found[projection, note] = _name_grey(projection, reason), layers
    return found


def describe(
    scores: pd.DataFrame,
    model: str,
    options: MetricMap,
    numbers: StatedNumbers | None = None,
) -> str:
    """The caption: the formula, the range, and the value of the middle colour.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    shown = scores[scores["metric"] == options.metric]
    middle = ""
    if numbers["centre"].value is not None:
        middle = f", the middle colour at {numbers['centre']}"
    metric = describe_metric(model, options, numbers)
    if numbers["values_low"].value is None:
        return f"{metric} No cell has a value.{describe_notes(shown, numbers)}\n"
    percentiles = ""
    if options.limits == "robust":
        low, high = numbers["percentile_low"], numbers["percentile_high"]
        percentiles = f" (percentiles {low} and {high})"
    return (
        f"{metric} Values span {numbers['values_low']} to {numbers['values_high']}, colours "
        f"{numbers['colour_low']} to {numbers['colour_high']}{percentiles}{middle}; layer 0 at the "
        f"bottom.{_describe_random(scores, options, numbers)}{describe_notes(shown, numbers)}\n"
    )


def _describe_random(scores: pd.DataFrame, options: MetricMap, numbers: StatedNumbers) -> str:
    """Which values the lines across the colour bar mark."""
    low, high = numbers["colour_low"].value, numbers["colour_high"].value
    on_scale: dict[bool, list[str]] = {True: [], False: []}
    for place, value in enumerate(find_random(scores, options.metric).values(), start=1):
        words = f"{numbers[f'random_{place}']} for {numbers[f'random_{place}_inputs']} inputs"
        on_scale[low <= value <= high].append(words)
    marked, beyond = (", ".join(words) for words in on_scale.values())
    return (f" A line across the colour bar marks 1/√d_in: {marked}." if marked else "") + (
        f" Beyond the colours, 1/√d_in is {beyond}." if beyond else ""
    )


def describe_notes(scores: pd.DataFrame, numbers: StatedNumbers) -> str:
    """Which cells of one metric are grey and why, and what no column shows; "" if nothing is.

    scores: with the column `note`, see `scores.compute_scores`. numbers: as from `state_numbers`.
    """
    if "note" not in scores:
        return ""
    reasons: dict[str, dict[tuple[int, ...], list[tuple[str, str]]]] = {}
    for (projection, note), (name, layers) in _find_grey(scores).items():
        reasons.setdefault(note, {}).setdefault(tuple(layers), []).append((projection, name))
    sentences = []
    for note, columns in reasons.items():
        places = []
        for named in columns.values():
            count, layers = (numbers[f"{named[0][1]}{end}"] for end in ("", "_layers"))
            projections = ", ".join(projection for projection, _ in named)
            places.append(f"{projections} in {count} of {numbers['layers']} layers ({layers})")
        sentences.append(f" Grey: {'; '.join(places)}; {note}.")
    for note in dict.fromkeys(scores.loc[scores["value"].notna(), "note"]):
        if note:
            sentences.append(f" Layers also have {note}, which is not shown.")
    return "".join(sentences)


def describe_metric(model: str, options: MetricMap, numbers: StatedNumbers | None = None) -> str:
    """The metric in words and as a formula.

    model: its name in the caption. numbers: of the options, as from `state_numbers`; by default
    the options themselves.
    """
    values = dict(options)
    if numbers:
        values["update"] = SimpleNamespace(
            tolerance=numbers["update_tolerance"], top_k=numbers["update_top_k"]
        )
        values["quantization"] = SimpleNamespace(
            bits=numbers["quantization_bits"],
            block_size=numbers["quantization_block_size"],
            scheme=options.quantization.scheme,
        )
    return METRICS[options.metric].caption.format(model=model, **values)


def describe_percentiles(options: MetricMap, of: str = "") -> str:
    """The percentiles that the colours span, if limits are robust. of: the values they are of."""
    if options.limits != "robust":
        return ""
    low, high = METRICS[options.metric].robust
    return f" (percentiles {low:g} and {high:g}{of})"
