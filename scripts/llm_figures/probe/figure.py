"""How well a probe detects a wrong answer: the layer × token heatmap."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from llm_figures.core.numbers import with_interval
from llm_figures.models.layer_checks import check_shape
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
    label_layers,
)
from llm_figures.plotting.layout import choose_height, find_layout, make_grid
from llm_figures.probe.best_cell import BestCell, find_best_cell
from llm_figures.probe.controls import (
    CONTROLS,
    EXPLANATIONS,
    FITTED,
    LABELS,
    format_share,
    name_control,
)
from llm_figures.probe.options import Highlight, ProbeAuc
from llm_figures.probe.protocol import (
    OUTPUT_BASELINES,
    SITES,
    SMALLEST_GROUP,
    Protocol,
    describe_method,
)


class DrawnProbeAuc(ProbeAuc):
    """Options of the figure, with the protocol of its scores."""

    protocol: Protocol


OPTIONS = DrawnProbeAuc


def draw(scores: pd.DataFrame, options: DrawnProbeAuc) -> Figure:
    """Draw the tidy scores: layers from 0 (the embeddings) at the top, tokens from left to right.

    Cells without a score are grey.
    """
    tokens = options.tokens
    values = pivot_scores(scores, options.metric, tokens)
    rows = len(values)
    own = (0.42 * len(tokens) + 1.4, max(0.17 * rows, 2.2) + 1.3)
    fig, axes = make_grid(1, 1, own=own, height=choose_height(own))
    ax = axes[0, 0]
    mesh = draw_panel(values, ax, options.palette, options.limits, choose_tick_step(rows))
    ax.set(xlabel="Token", ylabel="Layer")
    if options.highlight:
        check_shape({"probe_auc": options.plain()}, {"layers": rows - 1, "heads": None})
        draw_highlight(ax, options.highlight, tokens, rows - 1)
    draw_colour_bar(fig, mesh, options.metric, options.limits, ax=ax, pad=0.02)
    return fig


def find_highlighted_layers(layers: Sequence[int | str], depth: int) -> tuple[int, int]:
    """First and last layer of the rectangle; "12.5%" is a share of the model's `depth` layers."""
    first, last = (
        round(float(layer.removesuffix("%")) / 100 * depth) if isinstance(layer, str) else layer
        for layer in layers
    )
    return min(first, last), max(first, last)


def draw_highlight(
    ax, highlight: Highlight, tokens: Sequence[str], depth: int, name: str = "highlight"
) -> None:
    """Draw the black rectangle on a panel of these tokens.

    depth: the model's layers. name: its id in the SVG; further rectangles are numbered from 2.
    """
    first, last = find_highlighted_layers(highlight.layers, depth)
    for number, (left, right) in enumerate(highlight.find_columns(tokens), start=1):
        ax.add_patch(
            Rectangle(
                (left, first),
                right - left + 1,
                last - first + 1,
                fill=False,
                edgecolor="black",
                linewidth=1.2 if find_layout().sized else 1.8,
                gid=name if number == 1 else f"{name}-{number}",
                clip_on=False,
            )
        )


def draw_colour_bar(fig: Figure, mesh, metric: str, limits: Sequence[float], **place):
    """The colour bar of a metric, with ticks from one limit to the other."""
    ticks = np.round(np.linspace(*limits, 6), 10)
    return add_colour_bar(fig, mesh, LABELS[metric], ticks=ticks, aspect=30, **place)


def pivot_scores(scores: pd.DataFrame, metric: str, tokens: Sequence[str]) -> pd.DataFrame:
    """Means of the probe itself, one row per layer, one column per token."""
    shown = scores[(scores["metric"] == metric) & (scores["control"] == "none")]
    return shown.pivot(index="layer", columns="token", values="mean").reindex(columns=list(tokens))


def draw_panel(
    values: pd.DataFrame, ax, palette: str, limits: Sequence[float], step: int, title: str = ""
):
    """One heatmap with layers from 0 at the top and every `step`th layer labelled.

    values: as from `pivot_scores`. title: what distinguishes this panel from others of the figure.
    Returns the mesh for a colour bar.
    """
    tokens, rows = list(values.columns), len(values)
    mesh = draw_heatmap(
        values,
        ax,
        cmap=find_colour_map(palette),
        limits=limits,
        title=title,
        xticklabels=tokens,
        yticklabels=False,
    )
    label_layers(ax, rows, step)
    ax.set_xticks(ax.get_xticks(), labels=tokens, rotation=45, ha="right", rotation_mode="anchor")
    return mesh


def describe(scores: pd.DataFrame, model: str, options: DrawnProbeAuc) -> str:
    """The probe, its best cell, the controls there, what explains it, and what is missing."""
    protocol = options.protocol
    chosen = scores[(scores["metric"] == options.metric) & scores["token"].isin(options.tokens)]
    shown = chosen[chosen["control"] == "none"]
    low, high = options.limits
    sentences = [
        f"{LABELS[options.metric]} of a linear probe on {SITES[protocol.site]} of {model} "
        "that detects a wrong answer, by layer (0 is the embeddings) and token.",
        describe_method(protocol),
        _describe_counts(shown),
    ]
    if best := find_best_cell(scores, options.metric, options.tokens):
        sentences += _describe_controls(chosen, best, protocol)
    if fits := int(chosen.loc[chosen["control"].isin(FITTED), "unconverged"].sum()):
        sentences.append(f"{fits} fits did not converge.")
    sentences.append(f"Colours span {low:g} to {high:g}; lower values take the lightest.")
    return " ".join(sentence for sentence in sentences if sentence) + "\n"


def describe_best_cell(best: BestCell) -> str:
    """Layer, token and score of the best cell, without a full stop."""
    row = best.probe
    score = with_interval(row["mean"], row["ci_low"], row["ci_high"])
    return f"Best cell: layer {row['layer']}, {row['token']}: {score}"


def _describe_counts(shown: pd.DataFrame) -> str:
    """How many answers each cell has, with the tokens of fewer answers and of no score."""
    counts = shown.drop_duplicates("token").set_index("token")["n"]
    most = counts.max()
    fewer = ", ".join(f"{token}: {count:,}" for token, count in counts.items() if count < most)
    empty = shown.loc[shown["mean"].isna(), "token"].unique()
    missing = f" Too few answers for a score (grey): {', '.join(empty)}." if len(empty) else ""
    return f"Each cell has {most:,} answers{f' ({fewer})' if fewer else ''}.{missing}"


def _describe_controls(chosen: pd.DataFrame, best: BestCell, protocol: Protocol) -> list[str]:
    """The best cell with its controls, and how many cells no control explains."""
    beside = best.beside
    controls = [
        f"{name_control(control, beside.loc[control])} {beside.loc[control, 'mean']:.3f}"
        for control in CONTROLS
        if control in beside.index
    ]
    sentences = [
        f"{describe_best_cell(best)}, the highest of {best.scored}; the interval is that of a "
        "single cell.",
        f"Controls there: {', '.join(controls)}.",
    ]
    sentences.append(_describe_explanations(beside, protocol))
    outputs = beside[beside.index.isin(OUTPUT_BASELINES)]
    if len(outputs):
        strongest = outputs.loc[outputs["mean"].idxmax()]
        gain = with_interval(strongest["gain"], strongest["gain_low"], strongest["gain_high"])
        sentences.append(
            "Probe − control for the strongest confidence score of the output, "
            f"{CONTROLS[strongest.name]}: {gain}."
        )
    for control, name in (
        ("embeddings", "the embeddings"),
        ("shuffled_within_group", "labels shuffled within group"),
    ):
        rows = chosen[(chosen["control"] == control) & chosen["gain"].notna()]
        if control == "embeddings":
            rows = rows[rows["layer"] > 0]
        if len(rows):
            above = rows["gain_low"] > 0
            never = [
                token
                for token, of_token in above.groupby(rows["token"], sort=False)
                if not of_token.any()
            ]
            sentences.append(
                f"By the same criterion {above.sum()} of {len(rows)} cells are above {name}"
                + (f", none at {', '.join(never)}." if never else ".")
            )
    return [*sentences, describe_groups(chosen, protocol)]


def _describe_explanations(beside: pd.DataFrame, protocol: Protocol) -> str:
    """Which controls explain the best cell. beside: its rows by control."""
    explaining = [
        control
        for control in EXPLANATIONS
        if control in beside.index and not beside.loc[control, "gain_low"] > 0
    ]
    if protocol.split == "group_folds" and "group_only" in explaining:
        return (
            "In groups that it was not trained on, the probe of the best cell is no better than a "
            "constant score (group alone): the interval of probe − control is not above zero."
        )
    if explaining:
        return (
            f"The best cell is explained by {' and by '.join(map(EXPLANATIONS.get, explaining))}: "
            "the interval of probe − control is not above zero."
        )
    if {"group_only", "shuffled_within_group"}.isdisjoint(beside.index):
        return (
            "The token itself, which its embedding gives away, does not explain the best cell: the "
            "interval of probe − control is above zero."
        )
    return "No control explains the best cell: the intervals of probe − control are above zero."


def describe_groups(chosen: pd.DataFrame, protocol: Protocol) -> str:
    """What the controls of the questions' groups are for these data; empty if as named.

    chosen: the rows of one metric. Scores of earlier versions do not have the numbers.
    """
    if "groups" not in chosen:
        return ""
    fitted = chosen[(chosen["control"] == "none") & chosen["mean"].notna()]
    shuffled = chosen[chosen["control"] == "shuffled_within_group"]
    groups = int(fitted["groups"].max())
    if groups < 2:
        return (
            "The questions have no groups (dataset.group), so that the group of the question is "
            "untested as an explanation."
        )
    sentences = []
    if protocol.split == "group_folds":
        sentences.append(
            "No group is in both the training and the test set, so that group alone gives every "
            "tested answer the same score."
        )
    if "shuffled_within_group" not in protocol.controls:
        return " ".join(sentences)
    small = f"fewer than {SMALLEST_GROUP} training questions"
    if shuffled.empty:
        sentences.append(
            f"Labels cannot be shuffled within group, for the {groups} groups have {small} each"
            + (
                "."
                if protocol.split == "group_folds"
                else "; only group alone tests the group of the question as an explanation "
                "(probe.split: group_folds trains and tests on different groups)."
            )
        )
        return " ".join(sentences)
    low, high = shuffled["within_group"].min(), shuffled["within_group"].max()
    if low < 1:
        shares = dict.fromkeys(format_share(share) for share in (low, high))
        sentences.append(
            f"Labels are shuffled within group for {' to '.join(shares)} of the training "
            f"questions; groups with {small} are shuffled together."
        )
    without = [token for token in fitted["token"].unique() if token not in set(shuffled["token"])]
    if without:
        sentences.append(
            f"At {', '.join(without)} all groups have {small}, and no labels are shuffled within "
            "group."
        )
    return " ".join(sentences)
