"""The figure `sink_map`: attention to the first token by layer and head, and the tokens' norms."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.attention.options import SinkMap
from llm_figures.attention.sinks import NORMS, summarize, summarize_uniform
from llm_figures.attention.sinks import list_claim_cells as list_claim_cells
from llm_figures.core.formatting import join_ranges
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.drawing import (
    BAR,
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
    find_colours,
    label_layers,
)
from llm_figures.plotting.layout import add_legend, find_layout, make_grid

OPTIONS = SinkMap
# Weight that a row lacks by more than rounding goes to a sink that is no token.
LEAST_SINK = 1e-3
# Inches: of the map by heads, of each panel of lines, and beside the panels.
HEAD, LOWEST_MAP, HIGHEST_MAP, LINES, BESIDE = 0.16, 1.3, 3.2, 0.72, 0.9
# What the caption says in figures without stating a number of the run.
CONSTANTS = {
    "(Gu et al. 2025)": "the year of a publication",
    "(from 0)": "layers and heads are counted from 0",
    "L2": "the name of a norm",
    "middle 90%": "what the bands hold",
}


def draw(scores: pd.DataFrame, options: SinkMap) -> Figure:
    """From the top: α₁ by head and layer, the sink rate by layer, and three panels of norms."""
    alpha = _pivot_alpha(scores)
    heads, layers = alpha.shape
    layout = find_layout()
    high = min(max(HEAD * heads, LOWEST_MAP), HIGHEST_MAP)
    lines = LINES if layout.sized else 1.1
    own = (max(5.5, min(0.17 * layers, 12) + 1.2), high + 4 * lines + 1.1)
    width = (layout.width or own[0]) - BESIDE
    fig, axes = make_grid(
        5,
        2,
        own=own,
        height=high + 4 * lines + 0.9,
        sharex="col",
        gridspec_kw={
            "width_ratios": [1, BAR / width],
            "height_ratios": [high, lines, lines, lines, lines],
        },
    )
    for ax in axes[1:, 1]:
        ax.set_visible(False)
    mesh = draw_heatmap(
        alpha,
        axes[0, 0],
        cmap=find_colour_map(options.palette),
        limits=options.limits,
        xticklabels=False,
        yticklabels=False,
    )
    label_layers(axes[0, 0], heads, choose_tick_step(heads, 10))
    axes[0, 0].set(xlabel="", ylabel="Head")
    add_colour_bar(fig, mesh, "α₁", cax=axes[0, 1])
    handles = draw_lines(scores, axes[1:, 0], options, layers)
    step = choose_tick_step(layers, layout.growth * width * 72 / (2.6 * layout.small))
    axes[-1, 0].set_xticks(
        np.arange(0, layers, step) + 0.5, [str(n) for n in range(0, layers, step)]
    )
    axes[-1, 0].set_xlabel("Layer")
    names = ["first token", "other tokens"]
    if layout.sized:
        add_legend(fig, handles, names, 2)
    else:
        fig.legend(handles, names, loc="outside lower center", ncols=2)
    fig.align_ylabels(axes[:, 0])
    return fig


def _pivot_alpha(scores: pd.DataFrame) -> pd.DataFrame:
    """α of the first token averaged over texts: one row per head, one column per layer.

    NaN where a layer has no attention or no such head.
    """
    first = scores[(scores["component"] == "attention") & (scores["position"] == 0)]
    means = first.groupby(["head", "layer"])["value"].mean().unstack()
    layers = pd.RangeIndex(int(scores["model_layers"].iloc[0]), name="layer")
    return means.reindex(columns=layers)


def draw_lines(scores: pd.DataFrame, axes: Sequence, options: SinkMap, layers: int) -> list:
    """Draw the sink rate and the three norms by layer; return the lines for a legend.

    A layer is in the middle of its column of the map, at its number and a half. Layers without
    attention are gaps.
    """
    values = summarize(scores, options.threshold).reindex(range(layers))
    place = np.arange(layers) + 0.5
    colours = find_colours("colorblind", 2)
    marks = {"markersize": 1.6 if find_layout().sized else 2.2, "lw": 1.0}
    styles = [
        {"color": colours[0], "linestyle": "-", "marker": "o", **marks},
        {"color": colours[1], "linestyle": (0, (4, 1.5)), "marker": "s", **marks},
    ]
    handles = []
    for name, style in zip(("first", "other"), styles, strict=True):
        label = f"{name} token{'s' if name == 'other' else ''}"
        handles += axes[0].plot(place, values[f"rate_{name}"], label=label, **style)
    axes[0].set(ylabel="Sink rate", ylim=(-0.06, 1.06))
    for ax, component in zip(axes[1:], NORMS, strict=True):
        for name, style in zip(("first", "others"), styles, strict=True):
            column = f"{component}_{name}"
            ax.fill_between(
                place,
                values[f"{column}_low"],
                values[f"{column}_high"],
                color=style["color"],
                alpha=0.25,
                lw=0,
            )
            ax.plot(place, values[column], label=name, **style)
        ax.set_ylabel(f"‖{component.capitalize()}‖")
        if options.norms == "log":
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
    return handles


def state_numbers(scores: pd.DataFrame, options: SinkMap) -> StatedNumbers:
    """The numbers of the caption: rates, the largest α₁, ratios of norms, texts, layers."""
    numbers = StatedNumbers()
    section = "figures.sink_map"
    numbers.take_option("wanted_tokens", options.tokens, "d", f"{section}.tokens")
    numbers.take_option("threshold", options.threshold, "g", f"{section}.threshold")
    _state_layers(numbers, scores, options)
    _state_largest(numbers, scores)
    texts = scores.drop_duplicates("input")
    lengths = texts["text_tokens"]
    numbers.add("texts", len(texts), "d", "number of values of input")
    numbers.add("shortest_text", lengths.min(), ",", "least text_tokens")
    numbers.add("longest_text", lengths.max(), ",", "largest text_tokens")
    short = int((lengths < options.tokens).sum())
    numbers.add("short_texts", short, "d", "number of inputs with text_tokens below the option")
    _state_gaps(numbers, scores)
    return numbers


def _state_layers(numbers: StatedNumbers, scores: pd.DataFrame, options: SinkMap) -> None:
    layers = summarize(scores, options.threshold)
    rate = "mean over layers of the share of inputs and heads with α {} above the threshold"
    numbers.add("sink_rate", layers["rate_first"].mean(), ".3f", rate.format("at position 0"))
    later = rate.format("at a later position up to T/2, the largest by layer")
    numbers.add("other_rate", layers["rate_other"].mean(), ".3f", later)
    uniform = summarize_uniform(scores, options.threshold).mean()
    formula = "mean over inputs and layers of Σ 1/i over i = 1..reach, divided by tokens"
    numbers.add("uniform_alpha", uniform["alpha_first"], ".3f", formula)
    formula = "share of inputs and layers where that is above the threshold"
    numbers.add("uniform_rate", uniform["rate_first"], ".3f", formula)
    for component in NORMS:
        ratio = layers[f"{component}_first"] / layers[f"{component}_others"]
        formula = "mean over layers of the mean norm at position 0 over that of later positions"
        numbers.add(
            f"{component}_ratio", ratio.mean(), ".2f", formula, row={"component": component}
        )


def _state_largest(numbers: StatedNumbers, scores: pd.DataFrame) -> None:
    means = _pivot_alpha(scores).stack()
    head, layer = map(int, means.idxmax())
    row = {"component": "attention", "position": 0, "head": head, "layer": layer}
    formula = "largest mean over inputs of α at position 0, by layer and head"
    numbers.add("largest_alpha", means.max(), ".3f", formula, row=row)
    numbers.add("largest_layer", layer, "d", f"layer of the {formula}", row=row)
    numbers.add("largest_head", head, "d", f"head of the {formula}", row=row)


def _state_gaps(numbers: StatedNumbers, scores: pd.DataFrame) -> None:
    """Layers without attention, with fewer heads, with a window; weight that no token gets."""
    total = int(scores["model_layers"].iloc[0])
    attention = scores[scores["component"] == "attention"]
    heads = attention.groupby("layer")["head"].nunique()
    absent = [layer for layer in range(total) if layer not in heads.index]
    fewer = heads.index[heads < heads.max()].tolist()
    hidden = sorted(scores.loc[scores["reach"] < scores["tokens"], "layer"].unique().tolist())
    numbers.add("model_layers", total, "d", "the value of model_layers")
    for name, layers, formula in (
        ("absent", absent, "layers of the model without rows"),
        ("fewer_heads", fewer, "layers with fewer heads than another"),
        ("hidden", hidden, "layers with a reach below tokens"),
    ):
        numbers.add(f"{name}_layers", join_ranges(layers) or None, "", formula)
    bound = None
    if hidden:
        inside = scores[scores["layer"].isin(hidden)]
        bound = (inside["reach"] / inside["tokens"]).max()
    formula = "largest reach over tokens in these layers"
    numbers.add("hidden_bound", bound, ".2f", formula, row={"layer": hidden} if hidden else {})
    weights = attention["value"] * (attention["tokens"] - attention["position"])
    rows = weights.groupby([attention[key] for key in ("input", "layer", "head")]).sum()
    tokens = attention.groupby(["input", "layer", "head"])["tokens"].first()
    lost = "1 − the least sum over positions of α · (T − position) / T"
    numbers.add("largest_sink", 1 - (rows / tokens).min(), _format_sink, lost)


def _format_sink(share: float) -> str:
    return f"{share:.2g}" if share >= LEAST_SINK else "0"


def describe(
    scores: pd.DataFrame,
    model: str,
    options: SinkMap,
    numbers: StatedNumbers | None = None,
) -> str:
    """What the panels are, the formulas, the texts, and what has no value.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    even = ""
    if numbers["uniform_rate"].value:  # of short texts
        even = f" (of such even attention it would be {numbers['uniform_rate']})"
    return (
        f"Attention of {model} to the first token, by layer and head (from 0). Top: α₁, the weight "
        f"on the first token averaged over the queries of the first {numbers['wanted_tokens']} "
        "tokens, its own included, and over the texts (Gu et al. 2025). It is largest, "
        f"{numbers['largest_alpha']}, in layer {numbers['largest_layer']}, head "
        f"{numbers['largest_head']}; queries that attended alike to all they see would give "
        f"{numbers['uniform_alpha']}. Sink rate: the share of texts and heads with α₁ above "
        f"{numbers['threshold']}, {numbers['sink_rate']} over all layers{even}; dashed, the "
        f"largest share of a later position up to the texts' middle, {numbers['other_rate']}. "
        "‖·‖: L2 norms as the attention function receives them, lines the mean and bands the "
        "middle 90% over texts, heads and tokens; averaged over the layers, the first token has "
        f"{numbers['query_ratio']}, {numbers['key_ratio']} and "
        f"{numbers['value_ratio']} times the norm of the others. {_describe_texts(numbers)}"
        f"{_describe_gaps(numbers)}\n"
    )


def _describe_texts(numbers: StatedNumbers) -> str:
    shortest, longest = numbers["shortest_text"], numbers["longest_text"]
    each = f"{shortest}" if shortest.value == longest.value else f"{shortest} to {longest}"
    count = numbers["texts"]
    texts = f"The {count} texts of inputs have" if count.value > 1 else "The text of inputs has"
    short = numbers["short_texts"]
    if not short.value:
        return f"{texts} {each} tokens."
    if count.value == 1:
        which = "it is shorter than that and enters whole"
    elif short.value == count.value:
        which = "all are shorter than that and enter whole"
    else:
        which = f"{short} of them are shorter than that and enter whole"
    return f"{texts} {each} tokens: {which}, so these rates are not those of longer texts."


def _describe_gaps(numbers: StatedNumbers) -> str:
    said = ""
    if numbers["absent_layers"].value is not None:
        said += (
            f" Grey, and gaps in the lines: layers {numbers['absent_layers']} of "
            f"{numbers['model_layers']} have no attention map."
        )
    if numbers["fewer_heads_layers"].value is not None:
        said += f" Grey: layers {numbers['fewer_heads_layers']} have fewer heads."
    if numbers["hidden_layers"].value is not None:
        said += (
            f" In layers {numbers['hidden_layers']} later queries do not see the first token (a "
            f"window, for example), so α₁ is at most {numbers['hidden_bound']} there."
        )
    if numbers["largest_sink"].value >= LEAST_SINK:
        said += (
            f" Up to {numbers['largest_sink']} of the weight goes to the model's own attention "
            "sink, which is no token."
        )
    return said
