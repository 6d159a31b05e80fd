"""How well the output of each attention head tells a wrong answer: layer × head, and ranked."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from llm_figures.core.formatting import join_ranges
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import (
    choose_tick_step,
    draw_heatmap,
    find_colour_map,
    label_layers,
)
from llm_figures.plotting.layout import add_legend, find_layout, make_grid
from llm_figures.probe.auc_caption import CONSTANTS as CONSTANTS_OF_PROBE
from llm_figures.probe.auc_caption import COUNTED, GAINS
from llm_figures.probe.best_cell import NESTED
from llm_figures.probe.cell_text import name_criterion
from llm_figures.probe.controls import (
    CONTROLS,
    FEWER_HEADS,
    FITTED,
    LABELS,
    NO_HEADS,
    name_control,
)
from llm_figures.probe.curves_figure import choose_styles
from llm_figures.probe.figure import draw_colour_bar
from llm_figures.probe.group_text import describe_groups, state_groups
from llm_figures.probe.options import ProbeHeads
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.protocol_text import PROBES, describe_method, state_protocol


class DrawnProbeHeads(ProbeHeads):
    """Options of the figure, with the protocol of its scores."""

    protocol: Protocol


OPTIONS = DrawnProbeHeads
CONSTANTS = {
    **CONSTANTS_OF_PROBE,
    "counted from 0": "layers and heads are counted from 0",
    "layer + 1": "layers of probe_auc are counted from 1",
    "exclude 0.5": "the AUC of a random score",
    "above 0.5": "the AUC of a random score",
    "Li et al. 2023": "the year of a publication",
}
# Columns of the table that select one row.
CELL = ("layer", "head", "metric", "control")
CHANCE = 0.5  # the AUC of a random score
NARROWEST = 1.5  # inches, of a panel on a page
PALETTE = "colorblind"  # of the curves


def draw(scores: pd.DataFrame, options: DrawnProbeHeads) -> Figure:
    """The map of layers and heads, layer 0 at the top, beside all heads from high to low.

    Cells without a head are grey.
    """
    values = pivot_heads(scores, options.metric)
    rows, heads = values.shape
    layout = find_layout()
    columns = layout.count(2, NARROWEST, 0.9)
    width = min(max(0.24 * heads + 0.6, 2.0), 6.0)
    height = max(0.15 * rows, 2.2) + 1.2
    grid = (1, 2) if columns == 2 else (2, 1)
    ratios = {"height_ratios": (3, 2)} if columns == 1 else {}
    if not layout.sized:
        ratios = {"width_ratios": (width, 2.8)}
    fig, axes = make_grid(
        *grid,
        own=(width + 4.2, height),
        height=2.9 if columns == 2 else 4.5,
        **ratios,
    )
    left, right = axes.ravel()
    mesh = draw_heatmap(
        values,
        left,
        cmap=find_colour_map(options.palette),
        limits=options.limits,
        xticklabels=False,
        yticklabels=False,
    )
    label_layers(left, rows, choose_tick_step(rows))
    step = choose_tick_step(heads, 12)
    left.set_xticks(np.arange(0, heads, step) + 0.5, labels=range(0, heads, step), rotation=0)
    left.set(xlabel="Head", ylabel="Layer")
    draw_colour_bar(fig, mesh, options.metric, options.limits, ax=left, pad=0.03)
    _draw_ranks(scores, right, options)
    handles, labels = right.get_legend_handles_labels()
    right.get_legend().remove()
    if layout.sized:
        add_legend(fig, handles, labels, 3)
    else:
        fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return fig


def _draw_ranks(scores: pd.DataFrame, ax, options: DrawnProbeHeads) -> None:
    """The heads from the highest score to the lowest, and the controls that all heads share."""
    shown = scores[scores["metric"] == options.metric]
    ranked = rank_heads(scores, options.metric)
    common = shown[~shown["control"].isin(FITTED)]
    width = 0.75 if find_layout().sized else 1.0
    styles = choose_styles(common, PALETTE, width)
    colour = styles["none"]["color"]
    ax.fill_between(
        ranked.index, ranked["ci_low"], ranked["ci_high"], color=colour, alpha=0.25, lw=0
    )
    sns.lineplot(
        x=ranked.index, y=ranked["mean"], ax=ax, errorbar=None, label="heads, ranked",
        **styles.pop("none"),
    )  # fmt: skip
    for control, style in styles.items():
        level = common.loc[common["control"] == control, "mean"].iloc[0]
        ax.axhline(level, label=CONTROLS[control], **style)
    ax.set(xlabel="Rank of the head", ylabel=LABELS[options.metric])
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.margins(x=0.01)
    ax.legend()


def pivot_heads(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means of the probe itself, one row per layer, one column per head."""
    shown = scores[(scores["metric"] == metric) & (scores["control"] == "none")]
    return shown.pivot(index="layer", columns="head", values="mean")


def rank_heads(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of the probe itself from the highest mean to the lowest; the index is the rank from 1.

    Of equal heads the earlier one comes first.
    """
    shown = scores[(scores["metric"] == metric) & (scores["control"] == "none")]
    ranked = shown.dropna(subset="mean").sort_values(
        ["mean", "layer", "head"], ascending=[False, True, True], ignore_index=True
    )
    return ranked.set_axis(np.arange(1, len(ranked) + 1))


def find_shown(scores: pd.DataFrame, options: DrawnProbeHeads) -> Shown:
    """The rows and columns of the scores that the figure shows; bands are those of the probe."""
    columns = ("layer", "head", "metric", "control", "mean", "ci_low", "ci_high")
    common = [name for name in scores["control"].unique() if name == "none" or name not in FITTED]
    return Shown({"metric": [options.metric], "control": common}, columns)


def list_claim_cells(scores: pd.DataFrame, options: DrawnProbeHeads) -> pd.DataFrame:
    """The AUC of every layer × head, and of its controls."""
    shown = scores[scores["metric"] == "auc"]
    cells = shown.rename(columns={"layer": "row", "head": "column", "mean": "value"})
    return cells[["row", "column", "control", "value", "ci_low", "ci_high"]].astype({"column": str})


def state_numbers(scores: pd.DataFrame, options: DrawnProbeHeads) -> StatedNumbers:
    """The numbers of the caption, and every control of the highest head.

    gain is probe − control.
    """
    numbers = state_protocol(options.protocol)
    chosen = scores[scores["metric"] == options.metric]
    of_probe = {"metric": options.metric, "control": "none"}
    ranked = rank_heads(scores, options.metric)
    best = ranked.iloc[0] if len(ranked) else None
    for end, limit in zip(("low", "high"), options.limits, strict=True):
        numbers.take_option(f"colour_{end}", limit, "g", "figures.probe_heads.limits")
    numbers.add("answers", chosen["n"].max(), ",", "largest n", row=of_probe)
    numbers.add("heads", len(ranked), ",", "number of rows with a value of mean", row=of_probe)
    for name in ("layer", "head"):
        numbers.take(f"highest_{name}", best, name, "d", CELL)
    for column, what in (("mean", "score"), ("ci_low", "score_low"), ("ci_high", "score_high")):
        numbers.take(f"highest_{what}", best, column, ".3f", CELL)
    beside = _rows_beside(chosen, best)
    for control in CONTROLS:
        row = beside.get(control)
        numbers.take(f"highest_{control}", row, "mean", ".3f", CELL)
        for gain in GAINS:
            numbers.take(f"highest_{control}_{gain}", row, gain, ".3f", CELL)
    nested = scores[(scores["metric"] == f"{NESTED}{options.metric}") & (scores["layer"] < 0)]
    row = next((one for _, one in nested[nested["control"] == "none"].iterrows()), None)
    for column, what in (("mean", "score"), ("ci_low", "score_low"), ("ci_high", "score_high")):
        numbers.take(f"nested_{what}", row, column, ".3f", CELL)
    numbers.add("median_score", ranked["mean"].median(), ".3f", "median of mean", row=of_probe)
    if options.metric == "auc":
        above = f"number of rows with ci_low above {CHANCE}"
        numbers.add("above_chance", (ranked["ci_low"] > CHANCE).sum(), ",", above, row=of_probe)
        below = f"number of rows with ci_high below {CHANCE}"
        numbers.add("below_chance", (ranked["ci_high"] < CHANCE).sum(), ",", below, row=of_probe)
    for control in COUNTED:
        rows = chosen[(chosen["control"] == control) & chosen["gain"].notna()]
        selected = {"metric": options.metric, "control": control}
        count = (rows["gain_low"] > 0).sum() if len(rows) else None
        numbers.add(f"above_{control}", count, ",", "number with gain_low above 0", row=selected)
    fits = chosen.loc[chosen["control"].isin(FITTED), "unconverged"].sum()
    fitted = {"metric": options.metric, "control": list(FITTED)}
    numbers.add("unconverged_fits", fits, ",", "sum of unconverged", row=fitted)
    for name, note in (("no_heads", NO_HEADS), ("fewer_heads", FEWER_HEADS)):
        layers = chosen.loc[chosen["note"] == note, "layer"].unique()
        listed = join_ranges(layers.tolist()) or None
        of_note = {"metric": options.metric, "note": note}
        numbers.add(f"layers_with_{name}", listed, str, "values of layer", row=of_note)
    numbers.update(state_groups(chosen))
    return numbers


def _rows_beside(chosen: pd.DataFrame, best: pd.Series | None) -> dict[str, pd.Series]:
    """{control: its row} at the highest head."""
    if best is None:
        return {}
    here = (chosen["layer"] == best["layer"]) & (chosen["head"] == best["head"])
    return {row["control"]: row for _, row in chosen[here].iterrows()}


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnProbeHeads,
    numbers: StatedNumbers | None = None,
) -> str:
    """The probe, the highest head and that it is a selection, and how many heads are above chance.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    protocol, metric = options.protocol, LABELS[options.metric]
    chosen = scores[scores["metric"] == options.metric]
    sentences = [
        f"{metric} of a {PROBES[protocol.kind]} on the output of each attention head of {model} at "
        f"{options.token} that detects a wrong answer (Li et al. 2023). Layers and heads are "
        "counted from 0; a head's output is its part of the input of attn. o, and layer + 1 of "
        "probe_auc is the residual stream after its layer.",
        f"{describe_method(protocol, numbers)} {numbers['answers']} answers.",
    ]
    if numbers["heads"].value:
        sentences += _describe_heads(chosen, options, numbers)
        sentences.append(describe_groups(chosen, protocol, numbers))
    for name, note in (("no_heads", "no attention heads"), ("fewer_heads", "fewer heads")):
        if numbers[f"layers_with_{name}"].value is not None:
            sentences.append(f"Grey: layers {numbers[f'layers_with_{name}']} have {note}.")
    if numbers["unconverged_fits"].value:
        sentences.append(f"{numbers['unconverged_fits']} fits did not converge.")
    sentences.append(
        f"Colours span {numbers['colour_low']} to {numbers['colour_high']}; lower values take the "
        "lightest. The curve has all heads from the highest to the lowest, with the band of each "
        "head's interval; straight lines are controls that all heads share."
    )
    return " ".join(sentence for sentence in sentences if sentence) + "\n"


def _describe_nested(numbers: StatedNumbers, metric: str) -> str:
    if numbers["nested_score"].value is None:
        return ""
    score, low, high = (numbers[f"nested_score{end}"] for end in ("", "_low", "_high"))
    return (
        f"Chosen{name_criterion(metric)} in every split on its training answers alone (nested "
        f"selection), a head has {score} [{low}, {high}]."
    )


def _describe_heads(
    chosen: pd.DataFrame, options: DrawnProbeHeads, numbers: StatedNumbers
) -> list[str]:
    score, low, high = (numbers[f"highest_score{end}"] for end in ("", "_low", "_high"))
    beside = {row["control"]: row for _, row in chosen.drop_duplicates("control").iterrows()}
    controls = [
        f"{name_control(control, beside[control])} {numbers[f'highest_{control}']}"
        for control in CONTROLS
        if control in beside
    ]
    sentences = [
        f"Highest: layer {numbers['highest_layer']}, head {numbers['highest_head']}: {score} "
        f"[{low}, {high}]. It was chosen as the highest of {numbers['heads']} heads by this very "
        "score, which favours it; the interval is that of a single head.",
        _describe_nested(numbers, options.metric),
        f"The median head has {numbers['median_score']}.",
        f"Controls at the highest: {', '.join(controls)}." if controls else "",
    ]
    if options.metric == "auc":
        excluding = numbers["above_chance"].value + numbers["below_chance"].value
        others = "; the others do not exclude 0.5" if excluding < numbers["heads"].value else ""
        sentences.append(
            f"Of {numbers['heads']} intervals {numbers['above_chance']} lie above 0.5 and "
            f"{numbers['below_chance']} below it{others}."
        )
    counted = [
        f"{numbers[f'above_{control}']} are above {name}"
        for control, name in COUNTED.items()
        if numbers[f"above_{control}"].value is not None
    ]
    if counted:
        sentences.append(
            f"By the interval of probe − control, {' and '.join(counted)}, of the "
            f"{numbers['heads']}."
        )
    return sentences
