"""How often the answer is right that each strategy chooses among the samples."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.drawing import find_colours
from llm_figures.plotting.layout import add_legend, find_layout, make_grid
from llm_figures.probe import protocol_text
from llm_figures.probe.answer_choice import ALL, DETECTORS, STRATEGIES
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.protocol_text import PROBES, SITES, describe_intervals
from llm_figures.probe.resampling_options import AnswerChoice
from llm_figures.questions.error_kinds import KINDS
from llm_figures.questions.resampling_options import Resamples


class DrawnAnswerChoice(AnswerChoice):
    """Options of the figure, with the protocol of its scores and what was sampled."""

    protocol: Protocol
    resamples: Resamples


OPTIONS = DrawnAnswerChoice
CONSTANTS = protocol_text.CONSTANTS | {
    "Orgad et al. 2025": "the year of a publication",
    "Farquhar et al. 2024": "the year of a publication",
}
MARKERS = ("o", "x", "s", "^", "D", "|")
WORDS = 20  # letters of a line of a name
SPREAD = 0.72  # of a row, over which its strategies lie
# Names that stand in the caption and in the rows of claims.
BEHIND = ("greedy", "random", "majority", "most_probable")


def draw(scores: pd.DataFrame, options: DrawnAnswerChoice) -> Figure:
    """Accuracy of the strategies, overall and by kind; below, AUC of detecting a wrong answer.

    Points have their intervals. Strategies of one row are below each other in the order of the
    legend.
    """
    accuracies = scores[scores["metric"] == "accuracy"]
    detections = scores[scores["metric"] == "auc"].set_index("strategy")
    kinds = [kind for kind in (ALL, *KINDS) if (accuracies["kind"] == kind).any()]
    detectors = [name for name in DETECTORS if name in detections.index]
    layout = find_layout()
    heights = [0.5 * len(kinds) + 0.2, 0.2 * max(len(detectors), 1) + 0.15]
    fig, axes = make_grid(
        2,
        1,
        own=(6.2, sum(heights) + 1.7),
        height=0.9 * sum(heights) + 1.5,
        height_ratios=heights,
    )
    top, below = axes[:, 0]
    colours = find_colours(options.palette, len(STRATEGIES))
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(STRATEGIES))
    for (name, label), colour, marker, offset in zip(
        STRATEGIES.items(), colours, MARKERS, offsets, strict=True
    ):
        own = accuracies[accuracies["strategy"] == name].set_index("kind").loc[kinds]
        places = np.arange(len(kinds)) + offset
        _draw_points(top, own, places, colour, marker, label)
    counts = accuracies.drop_duplicates("kind").set_index("kind")["n"]
    names = [
        textwrap.fill("all questions" if kind == ALL else KINDS[kind], WORDS)
        + f" ({counts[kind]:,})"
        for kind in kinds
    ]
    top.set_yticks(range(len(kinds)), names)
    for place in range(len(kinds) - 1):
        top.axhline(place + 0.5, color="0.85", lw=0.6)
    top.set(xlabel="Share of right answers", xlim=(-0.03, 1.03), ylim=(len(kinds) - 0.5, -0.5))
    _draw_points(
        below, detections.loc[detectors], np.arange(len(detectors)), "0.1", "o", "_detectors"
    )
    below.axvline(0.5, color="0.6", lw=0.8, zorder=0)  # chance
    below.set_yticks(range(len(detectors)), [DETECTORS[name] for name in detectors])
    below.set(xlabel="AUC of detecting a wrong greedy answer", ylim=(len(detectors) - 0.5, -0.5))
    for ax in (top, below):
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.92", lw=0.6)
        ax.set_axisbelow(True)
    handles, labels = top.get_legend_handles_labels()
    add_legend(fig, handles, labels, 3 if layout.sized else 6)
    return fig


def _draw_points(ax, rows: pd.DataFrame, places, colour, marker: str, label: str) -> None:
    ax.hlines(places, rows["ci_low"], rows["ci_high"], color=colour, lw=1.0, label="_interval")
    ax.scatter(rows["mean"], places, s=16, color=colour, marker=marker, label=label, zorder=3)


def _find(scores: pd.DataFrame, metric: str, kind: str, strategy: str) -> pd.Series | None:
    own = scores[
        (scores["metric"] == metric) & (scores["kind"] == kind) & (scores["strategy"] == strategy)
    ]
    return None if own.empty else own.iloc[0]


def state_numbers(scores: pd.DataFrame, options: DrawnAnswerChoice) -> StatedNumbers:
    """Accuracies over all questions, what the probe gains, and the detectors' AUC."""
    numbers = StatedNumbers()
    keys = ("metric", "kind", "strategy")
    probe = _find(scores, "accuracy", ALL, "probe")
    numbers.take("questions", probe, "n", ",d", keys)
    numbers.take("samples", probe, "samples", "d", keys)
    numbers.take("layers", probe, "layers", "", keys)
    numbers.take_option("temperature", options.resamples.temperature, str, "resamples.temperature")
    numbers.take_option("token", options.token, str, "figures.answer_choice.token")
    for name in STRATEGIES:
        _take_interval(numbers, name, _find(scores, "accuracy", ALL, name), "", keys)
    for name in BEHIND:
        row = _find(scores, "accuracy", ALL, name)
        _take_interval(numbers, f"probe_minus_{name}", row, "probe_gain", keys)
    for name in DETECTORS:
        row = _find(scores, "auc", ALL, name)
        _take_interval(numbers, f"detect_{name}", row, "", keys)
    row = _find(scores, "auc", ALL, "semantic_entropy")
    _take_interval(numbers, "detect_gain", row, "probe_gain", keys)
    for kind in KINDS:
        row = _find(scores, "accuracy", kind, "probe")
        numbers.take(f"{kind}_questions", row, "n", ",d", keys)
        _take_interval(numbers, f"{kind}_gain", row, "gain", keys)
    return numbers


def _take_interval(numbers, name: str, row, column: str, keys) -> None:
    columns = (
        (column, f"{column}_low", f"{column}_high") if column else ("mean", "ci_low", "ci_high")
    )
    for end, own in zip(("", "_low", "_high"), columns, strict=True):
        numbers.take(f"{name}{end}", row, own, "+.3f" if column else ".3f", keys)


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnAnswerChoice,
    numbers: StatedNumbers | None = None,
) -> str:
    """What is chosen how, the accuracies over all questions, and what the probe gains by kind."""
    numbers = numbers or state_numbers(scores, options)

    def ends(name: str) -> str:
        return f"{numbers[name]} [{numbers[f'{name}_low']}, {numbers[f'{name}_high']}]"

    kinds = [kind for kind in KINDS if numbers[f"{kind}_gain"].value is not None]
    chosen = ", ".join(f"{label} {ends(name)}" for name, label in STRATEGIES.items())
    gains = "; ".join(f"{KINDS[kind]} {ends(f'{kind}_gain')}" for kind in kinds)
    detectors = [name for name in DETECTORS if numbers[f"detect_{name}"].value is not None]
    detected = ", ".join(f"{DETECTORS[name]} {ends(f'detect_{name}')}" for name in detectors)
    sentences = [
        f"Share of right answers of {model} when one of {numbers['samples']} samples at "
        f"temperature {numbers['temperature']} is chosen (Orgad et al. 2025), over "
        f"{numbers['questions']} questions and by kind of error (numbers of questions in "
        "brackets), with 95% bootstrap intervals over questions.",
        f"The probe of a wrong answer, a {PROBES[options.protocol.kind]}, is trained on the greedy "
        "answers to other questions, reads "
        f"{SITES[options.protocol.site]} at {numbers['token']} of each sample, and takes the one "
        f"that it finds least wrong; its layer is chosen on the training questions (chosen: "
        f"{numbers['layers']}). Any sample right is the upper bound of every choice.",
        f"Overall: {chosen}. Probe minus greedy decoding {ends('probe_minus_greedy')}, minus "
        f"majority vote {ends('probe_minus_majority')}, minus random sample "
        f"{ends('probe_minus_random')}, minus most probable sample "
        f"{ends('probe_minus_most_probable')}.",
        f"Probe minus greedy decoding by kind: {gains}. Kinds follow from the same samples, so by "
        "kind only differences between strategies mean something.",
    ]
    if detectors:
        sentences.append(
            "Below: AUC of detecting a wrong greedy answer on the same questions and folds, "
            f"{describe_intervals(options.protocol)}: {detected}. Semantic entropy (Farquhar et "
            "al. 2024) is over clusters of equal exact answers."
        )
    return " ".join(sentences) + "\n"


def list_claim_cells(scores: pd.DataFrame, options: DrawnAnswerChoice) -> pd.DataFrame:
    """Accuracies, strategy × kind; controls: gain_over_greedy, probe_gain (probe − strategy), and
    detection (AUC)."""
    own = scores.rename(columns={"strategy": "row", "kind": "column"})
    accuracy = own[own["metric"] == "accuracy"]
    parts = [
        accuracy.assign(control="none", value=accuracy["mean"]),
        *(
            accuracy.assign(
                control=control,
                value=accuracy[name],
                ci_low=accuracy[f"{name}_low"],
                ci_high=accuracy[f"{name}_high"],
            )
            for control, name in (("gain_over_greedy", "gain"), ("probe_gain", "probe_gain"))
        ),
    ]
    detection = own[own["metric"] == "auc"]
    parts.append(detection.assign(control="detection", value=detection["mean"]))
    cells = pd.concat(parts, ignore_index=True)
    return cells[["row", "column", "control", "value", "ci_low", "ci_high"]]
