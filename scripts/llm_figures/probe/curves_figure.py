"""The probe by layer: one panel per token, with intervals and controls."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from llm_figures.plotting.drawing import find_colours
from llm_figures.plotting.layout import add_legend, find_layout, make_grid
from llm_figures.plotting.text import wrap_name
from llm_figures.probe.controls import CONTROLS, LABELS
from llm_figures.probe.figure import describe_groups
from llm_figures.probe.options import ProbeCurves
from llm_figures.probe.protocol import OUTPUT_BASELINES, SITES, Protocol, describe_intervals


class DrawnProbeCurves(ProbeCurves):
    """Options of the figure, with the protocol of its scores."""

    protocol: Protocol


OPTIONS = DrawnProbeCurves
NARROWEST = 1.2  # inches, of a panel on a page
# Of the lines of `OUTPUT_BASELINES`.
GREYS = ("0.15", "0.35", "0.55")
DOTS = ((0, (1, 1)), (0, (1, 2.5)), (0, (4, 1.2, 1, 1.2)))


def draw(scores: pd.DataFrame, options: DrawnProbeCurves) -> Figure:
    """One panel per token: the metric by layer with its 95% band, controls dashed or dotted.

    Controls that are probes are dashed, the output's own confidence is dotted.
    """
    tokens, metric = options.tokens, options.metric
    shown = scores[(scores["metric"] == metric) & scores["token"].isin(tokens)]
    beside = [control for control in CONTROLS if (shown["control"] == control).any()]
    fitted = [control for control in beside if control not in OUTPUT_BASELINES]
    colour, *colours = find_colours(options.palette, 1 + len(fitted))
    styles = {
        control: {"color": colour, "linestyle": "--"}
        for control, colour in zip(fitted, colours, strict=True)
    } | {
        control: {"color": grey, "linestyle": dots}
        for control, grey, dots in zip(OUTPUT_BASELINES, GREYS, DOTS, strict=True)
    }
    layout = find_layout()
    columns = layout.count(min(len(tokens), 4), NARROWEST, 0.4)
    rows = -(-len(tokens) // columns)
    width = min(layout.share(columns, 0.4), 2.2)
    fig, axes = make_grid(
        rows,
        columns,
        own=(2.2 * columns + 0.6, 2.3 * rows + 0.9),
        height=(0.8 * width + 0.3) * rows + 0.9,
        sharex=True,
        sharey=True,
    )
    thin = 0.75 if layout.sized else 1.0
    for ax, token in zip(axes.flat, tokens, strict=False):
        panel = shown[shown["token"] == token].sort_values("layer")
        probe = panel[panel["control"] == "none"]
        ax.fill_between(
            probe["layer"], probe["ci_low"], probe["ci_high"], color=colour, alpha=0.25, lw=0
        )
        line = {"x": "layer", "y": "mean", "ax": ax, "errorbar": None}
        sns.lineplot(probe, **line, color=colour, lw=1.6 * thin, label="probe")
        for control in beside:
            sns.lineplot(
                panel[panel["control"] == control],
                **line,
                **styles[control],
                lw=1.0 * thin,
                label=CONTROLS[control],
            )
        ax.set(title=token, xlabel="Layer", ylabel=LABELS[metric])
        if layout.sized:
            ax.set_title(wrap_name(token, width - 0.1, layout.small), size=layout.small)
            ax.label_outer()
        ax.get_legend().remove()
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.margins(x=0.01)
    for ax in axes.flat[len(tokens) :]:
        ax.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    if layout.sized:
        add_legend(fig, handles, labels, 3)
    else:
        fig.legend(
            handles, labels, loc="outside lower center", ncols=min(columns, 3), fontsize="small"
        )
    return fig


def describe(scores: pd.DataFrame, model: str, options: DrawnProbeCurves) -> str:
    """What is shown, what the bands and lines are, and what the controls of groups are."""
    shown = scores[(scores["metric"] == options.metric) & scores["token"].isin(options.tokens)]
    gaps = ""
    if shown["mean"].isna().any():
        gaps = " A line is left out where there are too few answers for a score."
    groups = describe_groups(shown, options.protocol) if shown["mean"].notna().any() else ""
    return (
        f"{LABELS[options.metric]} by layer (0 is the embeddings) of a linear probe on "
        f"{SITES[options.protocol.site]} of {model} that detects a wrong answer, one panel "
        f"per token. Bands: {describe_intervals(options.protocol)}. Dashed: control probes on the "
        f"same splits. Dotted: the confidence of the output itself.{gaps}"
        f"{groups and ' '}{groups}\n"
    )
