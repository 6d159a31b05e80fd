"""Transfer of probes: a matrix of the set trained on × the set tested on."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import add_colour_bar, draw_heatmap, find_colour_map
from llm_figures.plotting.layout import find_layout, make_grid
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.protocol_text import CONSTANTS as CONSTANTS_OF_PROTOCOL
from llm_figures.probe.protocol_text import PROBES, SITES, describe_fit, state_protocol
from llm_figures.probe.transfer import BASELINE
from llm_figures.probe.transfer_options import ProbeTransfer
from llm_figures.probe.transfer_sets import nested_protocol


class DrawnProbeTransfer(ProbeTransfer):
    """Options of the figure, with the protocol of its probes."""

    protocol: Protocol


OPTIONS = DrawnProbeTransfer
# What captions say in figures without stating a number of the run.
CONSTANTS = {
    **CONSTANTS_OF_PROTOCOL,
    "20 right and 20 wrong": "the fewest answers of a label that a set needs",
    "20 questions": "the fewest that a set needs",
}
PANELS = {"auc": "AUC", "gain": "AUC − logit baseline"}
LABEL_WIDTH, BAR_WIDTH = 0.95, 0.75  # inches, beside the cells


def draw(scores: pd.DataFrame, options: DrawnProbeTransfer) -> Figure:
    """The AUC of every pair, and beside it how far that is above the logit baseline.

    Rows are trained on, columns tested on; the diagonal is framed. Numbers are hundredths, bold
    where the interval of the difference excludes zero. A pair without a score is grey with a dash.
    """
    gains = _pivot(scores, BASELINE, "gain")
    aucs = _pivot(scores, "none", "auc")
    apart = (_pivot(scores, BASELINE, "gain_low") > 0) | (_pivot(scores, BASELINE, "gain_high") < 0)
    # up to a whole tenth, for ticks that are short
    extent = max(1, math.ceil(10 * np.nanmax(np.abs(gains.to_numpy()), initial=0))) / 10
    layout = find_layout()
    count = len(aucs)
    side = 0.36 * count
    # below each other where three digits have no room side by side
    stacked = layout.share(2, 2 * (LABEL_WIDTH + BAR_WIDTH)) * 72 < 2.1 * layout.small * count
    rows, columns = (2, 1) if stacked else (1, 2)
    row_height = max(0.024 * layout.small * count, 0.9)
    fig, axes = make_grid(
        rows,
        columns,
        own=(2 * (side + LABEL_WIDTH + BAR_WIDTH), side + 1.3),
        height=rows * (row_height + 0.3) + 0.9,
        sharex=stacked,
        sharey=not stacked,
    )
    diverging = find_colour_map("coolwarm")
    for ax, name, values, cmap, limits, bold in (
        (axes.flat[0], "auc", aucs, find_colour_map(options.palette), options.limits, None),
        (axes.flat[1], "gain", gains, diverging, (-extent, extent), apart),
    ):
        mesh = draw_heatmap(
            values,
            ax,
            cmap=cmap,
            limits=limits,
            title=PANELS[name],
            annot=_hundredths(values),
            fmt="",
            annot_kws={"size": layout.small},
            xticklabels=True,
            yticklabels=True,
        )
        _mark(ax, values, bold)
        ax.set(title=PANELS[name], xlabel="Tested on", ylabel="Trained on")
        ax.set_xticks(
            ax.get_xticks(), labels=values.columns, rotation=45, ha="right", rotation_mode="anchor"
        )
        ax.tick_params(axis="y", rotation=0)
        ticks = np.round(np.linspace(*limits, 6 if name == "auc" else 5), 10)
        add_colour_bar(fig, mesh, PANELS[name], ticks=ticks, ax=ax, aspect=30, pad=0.02)
    for ax in axes.flat:
        ax.label_outer()
    return fig


def _pivot(scores: pd.DataFrame, control: str, column: str) -> pd.DataFrame:
    """Trained on × tested on, in the order of the sets; those that are left out are not there."""
    rows = scores[(scores["control"] == control) & scores["n_test"].notna()]
    order = list(dict.fromkeys(rows["test"]))
    wide = rows.pivot(index="train", columns="test", values=column)
    return wide.reindex(index=order, columns=order).astype(float)


def _hundredths(values: pd.DataFrame) -> np.ndarray:
    """0.725 as 72, −0.05 as −5; "" for a missing value."""
    return np.array(
        [
            [
                "" if np.isnan(value) else f"{round(100 * value):d}".replace("-", "−")
                for value in row
            ]
            for row in values.to_numpy()
        ]
    )


def _mark(ax, values: pd.DataFrame, bold: pd.DataFrame | None) -> None:
    """Frame the diagonal, set bold numbers, and put dashes where there is no score."""
    for place in range(len(values)):
        ax.add_patch(
            Rectangle((place, place), 1, 1, fill=False, edgecolor="black", lw=1.2, gid="own")
        )
    for row, column in np.argwhere(values.isna().to_numpy()):
        ax.text(column + 0.5, row + 0.5, "–", ha="center", va="center", size=find_layout().small)
    if bold is None:
        return
    known = np.argwhere(values.notna().to_numpy())  # seaborn writes no text for the others
    for text, (row, column) in zip(ax.texts, known, strict=False):
        if bold.iloc[row, column]:
            text.set_weight("bold")


def find_shown(scores: pd.DataFrame, options: DrawnProbeTransfer) -> Shown:
    """The rows and columns of the scores that the figure shows."""
    shown = scores[scores["n_test"].notna()]
    rows = {"test": list(dict.fromkeys(shown["test"]))}
    return Shown(rows, ("train", "test", "control", "auc", "gain", "gain_low", "gain_high"))


def state_numbers(scores: pd.DataFrame, options: DrawnProbeTransfer) -> StatedNumbers:
    """Means over pairs and over the diagonal, and counts of pairs apart from both references.

    Pairs are those of two different sets.
    """
    numbers = StatedNumbers()
    numbers.update(
        (name, number)
        # with a fold count of its own where probe.split has no folds, or too few
        for name, number in state_protocol(nested_protocol(options.protocol)).items()
        if name in ("folds", "c")
    )
    for end, limit in zip(("low", "high"), options.limits, strict=True):
        numbers.take_option(f"colour_{end}", limit, "g", "figures.probe_transfer.limits")
    if options.layer is not None:
        numbers.take_option("layer", options.layer, "d", "figures.probe_transfer.layer")
    if len(options.tokens) == 1:
        numbers.take_option("token", options.tokens[0], str, "figures.probe_transfer.tokens")
    scored = scores[scores["auc"].notna()]
    numbers.add("sets", scores.loc[scores["n_test"].notna(), "test"].nunique(), "d",
                "number of tests with n_test")  # fmt: skip
    pairs = scored[scored["train"] != scored["test"]]
    own = scored[scored["train"] == scored["test"]]
    for name, rows, what in (("pair", pairs, "train ≠ test"), ("own", own, "train = test")):
        for control in ("none", BASELINE):
            of = rows[rows["control"] == control]
            row = {"control": control}
            under = name if control == "none" else f"{name}_baseline"
            numbers.add(f"{under}_auc", of["auc"].mean(), ".3f", f"mean of auc, {what}", row=row)
        of_baseline = rows[rows["control"] == BASELINE].dropna(subset="gain")
        row = {"control": BASELINE}
        numbers.add(f"{name}_gain", of_baseline["gain"].mean(), ".3f",
                    f"mean of gain, {what}", row=row)  # fmt: skip
        for kind, apart, condition in (
            ("above", of_baseline["gain_low"] > 0, "gain_low above 0"),
            ("below", of_baseline["gain_high"] < 0, "gain_high below 0"),
        ):
            formula = f"number of rows with {condition}, {what}"
            numbers.add(f"{name}s_{kind}_baseline", int(apart.sum()), "d", formula, row=row)
        formula = f"number of rows with a value of gain, {what}"
        numbers.add(f"{name}s_with_baseline", len(of_baseline), "d", formula, row=row)
    probes = pairs[pairs["control"] == "none"]
    row = {"control": "none"}
    numbers.add("pairs", len(probes), "d", "number of rows, train ≠ test", row=row)
    mean = probes["difference"].mean()
    numbers.add("pair_difference", mean, ".3f", "mean of difference", row=row)
    for kind, apart, condition in (
        ("below", probes["difference_high"] < 0, "difference_high below 0"),
        ("chance", probes["ci_low"] > 0.5, "ci_low above 0.5"),
    ):
        name = {"below": "pairs_below_own", "chance": "pairs_above_chance"}[kind]
        formula = f"number of rows with {condition}, train ≠ test"
        numbers.add(name, int(apart.sum()), "d", formula, row=row)
    best = probes.loc[probes["auc"].idxmax()] if len(probes) else None
    keys = ("train", "test", "control")
    for name, column, form in (
        *(("best_pair_train", "train", str), ("best_pair_test", "test", str)),
        *((f"best_pair_{key}", key, ".3f") for key in ("auc", "ci_low", "ci_high")),
    ):
        numbers.take(name, best, column, form, keys)
    numbers.add("shared", scores["shared"].max(), "d", "largest shared")
    fits = scores.drop_duplicates(["train", "test", "control"])
    fits = fits[(fits["train"] == fits["test"]) & (fits["control"] == "none")]
    formula = "sum of unconverged, train = test"
    numbers.add("unconverged_fits", fits["unconverged"].sum(), ",", formula, row=row)
    return numbers


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnProbeTransfer,
    numbers: StatedNumbers | None = None,
) -> str:
    """What is trained and tested on what, the means, and how many pairs are above the baseline.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(scores, options)
    sentences = [
        f"AUC of a {PROBES[options.protocol.kind]} on {SITES[options.protocol.site]} of {model} "
        f"that detects a wrong answer, trained on one of {numbers['sets']} sets of questions "
        "(rows) and tested on another (columns), and its difference from the logit baseline, in "
        "hundredths. "
        f"{describe_fit(options.protocol, numbers)}. {_describe_place(options, numbers)} "
        "The baseline is the log-probability of the "
        "answer or of the exact answer, whichever is better on the training set, in the direction "
        "that is better there. 95% intervals are bootstrap intervals over the tested answers.",
    ]
    if numbers["pairs"].value:
        sentences.append(_describe_pairs(numbers))
    left_out = scores[scores["n_test"].isna()].drop_duplicates("test")
    alike = left_out["problem"].str.endswith("distinct questions").fillna(False).astype(bool)
    for names, reason in (
        (left_out.loc[~alike, "test"], "20 right and 20 wrong answers"),
        (left_out.loc[alike, "test"], "20 questions that differ in more than spelling"),
    ):
        if len(names):
            sentences.append(f"Left out, with fewer than {reason}: {', '.join(names)}.")
    if numbers["shared"].value:
        sentences.append("Questions that two sets share are not trained on for the pair.")
    inside = scores[scores["n_test"].notna()]
    if inside["auc"].isna().any():
        sentences.append("A grey cell with a dash: too few answers to train or test on.")
    if numbers["unconverged_fits"].value:
        sentences.append(f"{numbers['unconverged_fits']} fits did not converge.")
    sentences.append(
        f"Colours of the AUC span {numbers['colour_low']} to {numbers['colour_high']}; lower "
        "values take the lightest."
    )
    return " ".join(sentences) + "\n"


def _describe_place(options: DrawnProbeTransfer, numbers: StatedNumbers) -> str:
    """How layer and token are chosen, and what the diagonal is."""
    place = [] if options.layer is None else [f"layer {numbers['layer']}"]
    place += [f"token {numbers['token']}"] if len(options.tokens) == 1 else []
    chosen = ["layer"] * (options.layer is None) + ["token"] * (len(options.tokens) > 1)
    sentences = [f"All probes are of {' and '.join(place)}."] if place else []
    what = " and ".join(chosen)
    if chosen:
        are = "are those" if len(chosen) > 1 else "is that"
        sentences.append(
            f"{what.capitalize()} {are} with the highest AUC over {numbers['folds']} folds of the "
            "training set; the tested set is not looked at."
        )
    without = f", and whose {what} {'were' if len(chosen) > 1 else 'was'} chosen," if chosen else ""
    sentences.append(
        "The framed diagonal is the set itself, each fold tested by a probe that was fitted"
        f"{without} without it."
    )
    return " ".join(sentences)


def _describe_pairs(numbers: StatedNumbers) -> str:
    best = [numbers[f"best_pair_{end}"] for end in ("auc", "ci_low", "ci_high")]
    text = (
        f"Mean AUC: {numbers['own_auc']} on the set itself, {numbers['pair_auc']} on another "
        f"({numbers['pair_difference']} from the probe of the tested set). Of "
        f"{numbers['pairs']} pairs of two sets, "
        f"{numbers['pairs_above_chance']} have an interval above chance and "
        f"{numbers['pairs_below_own']} one below the probe of the tested set; the highest is "
        f"{numbers['best_pair_train']} to {numbers['best_pair_test']}, "
        f"{best[0]} [{best[1]}, {best[2]}]."
    )
    if numbers["pairs_with_baseline"].value:
        text += (
            f" The baseline reaches {numbers['pair_baseline_auc']} on another set; the interval of "
            f"probe − baseline lies above zero for {numbers['pairs_above_baseline']} pairs and "
            f"below for {numbers['pairs_below_baseline']} (bold), and on the set itself above for "
            f"{numbers['owns_above_baseline']} of {numbers['owns_with_baseline']}."
        )
    return text


def list_claim_cells(scores: pd.DataFrame, options: DrawnProbeTransfer) -> pd.DataFrame:
    """The pairs of two different sets; rows are trained on, columns tested on.

    control: "none" for the transferred probe, "own" for the probe of the tested set, `BASELINE` and
    "own_baseline" alike for the baseline; "gain" for probe − baseline, "difference" for
    transferred − own. No diagonal is among the cells. A pair without a score of the probe has none
    of the others either, so that averages are of the same pairs.
    """
    inside = scores[scores["n_test"].notna()]
    ends = ("ci_low", "ci_high")
    parts = []
    pairs = inside[(inside["control"] == "none") & (inside["train"] != inside["test"])]
    scored = pairs.loc[pairs["auc"].notna(), ["train", "test"]]
    for control, name, own in (("none", "none", "own"), (BASELINE, BASELINE, "own_baseline")):
        rows = inside[inside["control"] == control]
        others = scored.merge(rows, on=["train", "test"], how="left")
        diagonal = rows[rows["train"] == rows["test"]].set_index("test")
        of_test = others.assign(
            **{column: others["test"].map(diagonal[column]) for column in ("auc", *ends)}
        )
        parts += [_list_cells(others, name, "auc", ends), _list_cells(of_test, own, "auc", ends)]
        of = "difference" if control == "none" else "gain"
        parts.append(_list_cells(others, of, of, (f"{of}_low", f"{of}_high")))
    return pd.concat(parts, ignore_index=True)


def _list_cells(
    rows: pd.DataFrame, control: str, value: str, ends: tuple[str, str]
) -> pd.DataFrame:
    low, high = ends
    return pd.DataFrame(
        {
            "row": rows["train"],
            "column": rows["test"],
            "control": control,
            "value": rows[value].astype(float),
            "ci_low": rows[low].astype(float),
            "ci_high": rows[high].astype(float),
        }
    )
