"""The probe by layer: one panel per token, with intervals and controls."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from llm_figures.core.numbers import minus_signs
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import find_colours
from llm_figures.plotting.layout import add_legend, find_layout, make_grid
from llm_figures.plotting.text import wrap_name
from llm_figures.probe.auc_caption import CONSTANTS as CONSTANTS
from llm_figures.probe.controls import CONTROLS, LABELS
from llm_figures.probe.group_text import describe_groups, state_groups
from llm_figures.probe.options import ProbeCurves
from llm_figures.probe.protocol import OUTPUT_BASELINES, OUTPUT_COMBINED, Protocol
from llm_figures.probe.protocol_text import PROBES, SITES, describe_intervals


class DrawnProbeCurves(ProbeCurves):
    """Options of the figure, with the protocol of its scores."""

    protocol: Protocol


OPTIONS = DrawnProbeCurves
# Of the control probes, so that the lines differ without their colours, too.
DASHES = ((0, (5, 1.5)), (0, (2.5, 1)), (0, (9, 2)), (0, (7, 1.5, 2.5, 1.5)))
NARROWEST = 1.2  # inches, of a panel on a page
# Of the output's confidence, those that are drawn.
OUTPUTS = ("answer_log_probability", "exact_answer_log_probability", "p_true", OUTPUT_COMBINED)
GREYS = ("0.25", "0.4", "0.55", "0.0")
DOTS = ((0, (1, 1)), (0, (1, 2.5)), (0, (4, 1.2, 1, 1.2)), (0, (2, 0.8)))


def draw(scores: pd.DataFrame, options: DrawnProbeCurves) -> Figure:
    """One panel per token: the metric by layer with its 95% band, controls dashed or dotted.

    Controls that are probes are dashed, the output's own confidence is dotted.
    """
    tokens, metric = options.tokens, options.metric
    shown = scores[(scores["metric"] == metric) & scores["token"].isin(tokens)]
    layout = find_layout()
    styles = choose_styles(shown, options.palette, 0.75 if layout.sized else 1.0)
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
    for ax, token in zip(axes.flat, tokens, strict=False):
        draw_panel(shown[shown["token"] == token], ax, styles)
        ax.set(title=minus_signs(token), xlabel="Layer", ylabel=LABELS[metric])
        if layout.sized:
            title = wrap_name(minus_signs(token), width - 0.1, layout.small)
            ax.set_title(title, size=layout.small)
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


def choose_styles(scores: pd.DataFrame, palette: str, width: float = 1.0) -> dict[str, dict]:
    """{control: colour and line}, of "none", the probe itself, and of the controls that there are.

    width: of a control's line, in points.

    Raises:
        UserError: an unknown palette.
    """
    beside = [control for control in CONTROLS if (scores["control"] == control).any()]
    fitted = [control for control in beside if control not in OUTPUT_BASELINES]
    colour, *colours = find_colours(palette, 1 + len(fitted))
    dashed = {
        control: {"color": colour, "linestyle": dashes, "lw": width}
        for control, colour, dashes in zip(fitted, colours, DASHES[: len(fitted)], strict=True)
    }
    dotted = {
        control: {"color": grey, "linestyle": dots, "lw": width}
        for control, grey, dots in zip(OUTPUTS, GREYS, DOTS, strict=True)
        if control in beside
    }
    return {"none": {"color": colour, "lw": 1.6 * width}, **dashed, **dotted}


def draw_panel(scores: pd.DataFrame, ax, styles: dict[str, dict]) -> None:
    """Draw the mean by layer of the probe, with its band, and of its controls, with a legend.

    scores: of one token and metric. styles: as from `choose_styles`, of what is drawn.
    """
    scores = scores.sort_values("layer")
    probe = scores[scores["control"] == "none"]
    colour = styles["none"]["color"]
    ax.fill_between(
        probe["layer"], probe["ci_low"], probe["ci_high"], color=colour, alpha=0.25, lw=0
    )
    for control, style in styles.items():
        sns.lineplot(
            scores[scores["control"] == control],
            x="layer",
            y="mean",
            ax=ax,
            errorbar=None,
            label=CONTROLS.get(control, "probe"),
            **style,
        )


def find_shown(scores: pd.DataFrame, options: DrawnProbeCurves) -> Shown:
    """The rows and columns of the scores that the figure shows; bands are those of the probe."""
    rows = {"metric": [options.metric], "token": list(options.tokens)}
    return Shown(rows, ("layer", "token", "metric", "control", "mean", "ci_low", "ci_high"))


def state_numbers(scores: pd.DataFrame, options: DrawnProbeCurves) -> StatedNumbers:
    """The numbers of the caption, those of the questions' groups."""
    return state_groups(_select_rows(scores, options))


def _select_rows(scores: pd.DataFrame, options: DrawnProbeCurves) -> pd.DataFrame:
    return scores[(scores["metric"] == options.metric) & scores["token"].isin(options.tokens)]


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnProbeCurves,
    numbers: StatedNumbers | None = None,
) -> str:
    """What is shown, what the bands and lines are, and what the controls of groups are.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    shown = _select_rows(scores, options)
    numbers = numbers or state_groups(shown)
    gaps = ""
    if shown["mean"].isna().any():
        gaps = " A line is left out where there are too few answers for a score."
    groups = ""
    if shown["mean"].notna().any():
        groups = describe_groups(shown, options.protocol, numbers)
    return (
        f"{LABELS[options.metric]} by layer (0 is the embeddings) of a "
        f"{PROBES[options.protocol.kind]} on {SITES[options.protocol.site]} of {model} that "
        "detects a wrong answer, one panel per token. Bands: "
        f"{describe_intervals(options.protocol)}. Dashed: control probes on the same splits. "
        f"Dotted: the confidence of the output itself.{gaps}"
        f"{groups and ' '}{groups}\n"
    )
