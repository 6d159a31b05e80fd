"""Curves of the figures' key numbers over checkpoints: `over_checkpoints`."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from llm_figures.comparison.checkpoints import (
    ANSWERS,
    MODULES,
    describe_gaps,
    describe_same_weights,
)
from llm_figures.comparison.options import Checkpoints
from llm_figures.core.numbers import four_decimals
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.drawing import find_colours
from llm_figures.plotting.layout import add_legend, find_layout, make_grid
from llm_figures.plotting.text import wrap_name

OPTIONS = Checkpoints
CONSTANTS = {"95%": "the level of all intervals", "(sha256)": "the name of a digest"}
# Cells of probe_auc by the beginning of their numbers, of which the first that there is counts: the
# one chosen on training answers, the one with the highest score, and that in results of 0.2.
CELLS = ("nested", "highest", "best")
# On a log axis if the largest place is so many times the smallest.
WIDE = 30
MOST_PANELS = 8
NARROWEST = 1.25  # inches, of a panel on a page
COMPONENTS = ("query", "key", "value")
OUTPUT = "log-probability"
# {line: its marker and dashes}, so that lines differ without their colours, too
STYLES = {
    "Query": ("o", "-"),
    "Key": ("s", (0, (4, 1.5))),
    "Value": ("^", (0, (1, 1))),
    "probe": ("D", "-"),
    OUTPUT: ("x", (0, (1, 1))),
    "attention": ("v", "-"),
    "MLP": ("P", (0, (4, 1.5))),
}
# The only curve of a panel, whose title says what it is.
ALONE = {"color": "0.3", "marker": "o", "linestyle": "-"}


class Line(NamedTuple):
    """One curve. key: with which its stated numbers begin; it does not depend on a value."""

    label: str
    figure: str
    number: str
    key: str


class Panel(NamedTuple):
    """One panel of curves."""

    title: str
    lines: list[Line]


# Where mean_qkv is displayed, which may change from checkpoint to checkpoint.
LAYER = Line("layer", "mean_qkv", "layer", "mean_qkv_layer")


def list_panels(scores: pd.DataFrame) -> list[Panel]:
    """The panels of what the table holds, at most `MOST_PANELS`."""
    return [panel for panel in _all_panels(scores) if panel.lines][:MOST_PANELS]


def _all_panels(scores: pd.DataFrame) -> Iterator[Panel]:
    there = set(zip(scores["figure"], scores["number"], strict=True))

    def choose(figure: str, numbers: dict[str, str]) -> list[Line]:
        return [
            Line(label, figure, number, f"{figure}_{number}")
            for label, number in numbers.items()
            if (figure, number) in there
        ]

    def of_components(figure: str, ending: str) -> list[Line]:
        return choose(figure, {name.title(): f"{name}_{ending}" for name in COMPONENTS})

    yield Panel("sink_map: sink rate", choose("sink_map", {"sink rate": "sink_rate"}))
    yield Panel("mean_qkv: F", of_components("mean_qkv", "sink"))
    yield Panel("mean_qkv: D", of_components("mean_qkv", "distance"))
    scaled = of_components("scale_qkv", "epsilon_1_distance")
    yield Panel("scale_qkv: D at the first ε", scaled)
    cell = next((name for name in CELLS if ("probe_auc", f"{name}_score") in there), "")
    lines = {"probe": f"{cell}_score", OUTPUT: f"{cell}_answer_log_probability"}
    yield Panel("probe_auc: best cell", choose("probe_auc", lines))
    yield Panel("share of right answers", choose(ANSWERS, {"right answers": "right"}))
    for metric in _list_metrics(scores):
        lines = {"attention": f"{metric}_attention", "MLP": f"{metric}_mlp"}
        yield Panel(f"module_map: {metric.replace('_', ' ')}", choose(MODULES, lines))


def _list_metrics(scores: pd.DataFrame) -> list[str]:
    names = scores.loc[scores["figure"] == MODULES, "number"]
    return list(dict.fromkeys(n.removesuffix("_mlp") for n in names if n.endswith("_mlp")))


def draw(scores: pd.DataFrame, options: Checkpoints) -> Figure:
    """One panel per number: its curves over the checkpoints, with intervals as bands."""
    layout, panels = find_layout(), list_panels(scores)
    places = scores["x"].drop_duplicates().to_numpy(dtype=float)
    labels = [label for label in STYLES if any(label in _labels(panel) for panel in panels)]
    coloured = [label for label in STYLES if label != OUTPUT]
    colours = dict(zip(coloured, find_colours(options.palette, len(coloured)), strict=True))
    colours[OUTPUT] = "0.35"  # as in probe_curves
    columns = layout.count(min(len(panels), 4), NARROWEST, 0.3)
    rows = -(-len(panels) // columns)
    width = min(layout.share(columns, 0.3), 2.3)
    fig, axes = make_grid(
        rows,
        columns,
        own=(2.3 * columns + 0.3, 1.9 * rows + 0.6),
        height=(0.62 * width + 0.4) * rows + 0.7,
        sharex=True,
    )
    handles, size = {}, 0.8 if layout.sized else 1.2
    for ax, panel in zip(axes.flat, panels, strict=False):
        for line in panel.lines:
            own = _rows_of(scores, line)
            style = ALONE
            if line.label in STYLES:
                marker, dashes = STYLES[line.label]
                style = {"color": colours[line.label], "linestyle": dashes, "marker": marker}
            x, value = own["x"].to_numpy(dtype=float), own["value"].to_numpy(dtype=float)
            (handles[line.label],) = ax.plot(
                x, value, label=line.label, ms=2.5 * size, lw=size, **style
            )
            ax.fill_between(x, own["low"], own["high"], color=style["color"], alpha=0.2, lw=0)
        title = wrap_name(panel.title, width - 0.15, layout.small / layout.growth)
        ax.set_title(title, size=layout.small)
        _set_scale(ax, places, options)
        ax.yaxis.set_major_locator(MaxNLocator(4))
    for index, ax in enumerate(axes.flat):
        ax.set_visible(index < len(panels))
        if index + columns >= len(panels):  # nothing below it
            ax.set_xlabel(name_axis(options))
            ax.tick_params(labelbottom=True)
    add_legend(fig, [handles[name] for name in labels], labels, min(len(labels), 5))
    return fig


def _labels(panel: Panel) -> list[str]:
    return [line.label for line in panel.lines]


def _rows_of(scores: pd.DataFrame, line: Line) -> pd.DataFrame:
    return scores[(scores["figure"] == line.figure) & (scores["number"] == line.number)]


def name_axis(options: Checkpoints) -> str:
    """The label of the axis."""
    return options.x_label or ("parameters" if options.models and not options.x else "step")


def is_log(places: np.ndarray, options: Checkpoints) -> bool:
    """Whether the axis is logarithmic."""
    above = places[places > 0]
    wide = len(above) > 1 and above.max() > WIDE * above.min()
    return options.scale == "log" or (options.scale == "auto" and bool(wide))


def _set_scale(ax, places: np.ndarray, options: Checkpoints) -> None:
    """Set the scale of the axis, with ticks at checkpoints: all of few, the outer ones of many."""
    if is_log(places, options):
        above = places[places > 0]
        if len(above) == len(places):
            ax.set_xscale("log")
        else:  # linear up to the smallest place above zero
            ax.set_xscale("symlog", linthresh=above.min())
    step = -(-len(places) // 5)
    shown = places[::-1][::step][::-1] if len(places) > 5 else places
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shorten(value)))


def shorten(value: float) -> str:
    """143k, 1.4B, 0.5: a place on the axis in few letters."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def state_numbers(scores: pd.DataFrame, options: Checkpoints) -> StatedNumbers:
    """The number of checkpoints, and of every curve the value at the first and the last."""
    numbers = StatedNumbers()
    labels = scores["checkpoint"].drop_duplicates()
    numbers.add("checkpoints", len(labels), "d", "number of values of checkpoint")
    for place, index in (("first", 0), ("last", -1)):
        numbers.add(f"{place}_checkpoint", labels.iloc[index], "", f"the {place} checkpoint")
    keys = ["checkpoint", "figure", "number"]
    for line in [line for panel in list_panels(scores) for line in panel.lines]:
        own = _rows_of(scores, line)
        for place, index in (("first", 0), ("last", -1)):
            numbers.take(f"{line.key}_{place}", own.iloc[index], "value", four_decimals, keys)
    layers = _rows_of(scores, LAYER)
    for end, value in (("lowest", layers["value"].min()), ("highest", layers["value"].max())):
        formula = f"{end} value of the number layer of mean_qkv"
        numbers.add(f"{LAYER.key}_{end}", value, ".0f", formula)
    return numbers


def describe(
    scores: pd.DataFrame,
    model: str,
    options: Checkpoints,
    numbers: StatedNumbers | None = None,
) -> str:
    """What the curves are, how they begin and end, which weights are the same and what is missing.

    model: the model that the checkpoints are of; "" if the config names none.
    """
    numbers = numbers or state_numbers(scores, options)
    panels = list_panels(scores)
    titles = {panel.title.partition(":")[0] for panel in panels}
    said = [
        f"Key numbers of the figures over {numbers['checkpoints']} "
        + ("models" if options.models else "checkpoints")
        + (f" of {model}" if model else "")
        + f", {numbers['first_checkpoint']} to {numbers['last_checkpoint']}."
    ]
    if titles & {"mean_qkv", "scale_qkv"}:
        said.append(
            "F is the mean weight on the first token and D the mean distance to uniform weights, "
            "in each figure's layer and under its intervention, averaged over the texts; bands "
            "span the texts."
        )
    low, high = (numbers[f"{LAYER.key}_{end}"] for end in ("lowest", "highest"))
    if low.value != high.value:
        said.append(f"The displayed layer of mean_qkv differs, from {low} to {high}.")
    if "sink_map" in titles:
        said.append("Sink rate: the mean over the layers.")
    if "probe_auc" in titles:
        nested = any(line.number == "nested_score" for panel in panels for line in panel.lines)
        how = "chosen on training answers" if nested else "the highest, a selection"
        said.append(
            f"Probe: the score of the best cell ({how}), beside the mean log-probability of the "
            "answer; bands of scores and shares are 95% intervals."
        )
    if "module_map" in titles:
        said.append("Module metrics are means over the layers and their projections.")
    changes = [
        f"{panel.title}{'' if len(panel.lines) == 1 else f' ({line.label})'} "
        f"{numbers[f'{line.key}_first']} to {numbers[f'{line.key}_last']}"
        for panel in panels
        for line in panel.lines[:1]
    ]
    said.append(f"From first to last: {'; '.join(changes)}.")
    drawn = pd.concat(_rows_of(scores, line) for panel in panels for line in panel.lines)
    said += [describe_same_weights(scores), describe_gaps(drawn.sort_index())]
    return " ".join(filter(None, said)) + "\n"
