"""Kinds of error: the share of every kind, and how well a probe tells it, by layer."""

import textwrap

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from llm_figures.core.numbers import minus_signs
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.captions import Shown
from llm_figures.plotting.drawing import find_colours
from llm_figures.plotting.layout import add_legend, find_layout, make_figure
from llm_figures.probe import protocol_text
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.protocol_text import PROBES, SITES, describe_intervals
from llm_figures.probe.resampling_options import ErrorKinds
from llm_figures.questions.answers import FEWEST_OF_A_LABEL
from llm_figures.questions.error_kinds import KINDS
from llm_figures.questions.resampling_options import Resamples


class DrawnErrorKinds(ErrorKinds):
    """Options of the figure, with the protocol of its scores and what was sampled."""

    protocol: Protocol
    resamples: Resamples


OPTIONS = DrawnErrorKinds
CONSTANTS = protocol_text.CONSTANTS | {
    f"fewer than {FEWEST_OF_A_LABEL} questions": "the least number of a label that is probed",
    "Orgad et al. 2025": "the year of a publication",
    "0 is the embeddings": "how layers are numbered",
}
CONTROLS = {
    "group_only": ("group of the question alone", (0, (5, 1.5)), "0.35"),
    "shuffled_labels": ("kinds shuffled", (0, (1, 1.2)), "0.15"),
}
# Of the tokens' lines, from the last to the first, so that they differ without their colours.
DASHES = ("-", (0, (7, 1.5, 2.5, 1.5)), (0, (3, 1)), (0, (9, 2)))
NARROWEST = 1.2  # inches, of a panel on a page
WORDS = 17  # letters of a line of a title


def draw(scores: pd.DataFrame, options: DrawnErrorKinds) -> Figure:
    """A bar per kind, and below one panel per kind that is probed: AUC by layer.

    Bars have their interval and number of questions. A line per token has the probe's band; the
    group alone is dashed, shuffled kinds are dotted, both at the last token.
    """
    shares, curves = _shares(scores), scores[scores["metric"] == "auc"]
    kinds = [kind for kind in KINDS if (curves["kind"] == kind).any()]
    layout = find_layout()
    columns = layout.count(min(4, max(len(kinds), 1)), NARROWEST, 0.4)
    rows = -(-len(kinds) // columns)
    panel = min(layout.share(columns, 0.4), 2.2)
    bars = 0.19 * len(shares) + 0.45
    fig = make_figure(
        (2.2 * columns + 0.6, 1.25 * bars + 1.95 * rows + 0.7),
        bars + (0.75 * panel + 0.45) * rows + 0.8,
        layout="constrained",
    )
    # in units of a row of panels
    heights = [bars / (0.75 * panel + 0.45 if layout.sized else 1.95), *[1] * rows]
    grid = fig.add_gridspec(rows + 1, columns, height_ratios=heights)
    _draw_shares(fig.add_subplot(grid[0, :]), shares, layout.small)
    styles = _choose_styles(options, 0.75 if layout.sized else 1.0)
    first = None
    for at, kind in enumerate(kinds):
        row, column = divmod(at, columns)
        ax = fig.add_subplot(grid[1 + row, column], sharex=first, sharey=first)
        first = first or ax
        _draw_curves(ax, curves[curves["kind"] == kind], options, styles)
        ax.set_title(textwrap.fill(KINDS[kind], WORDS), size=layout.small)
        last_row = at + columns >= len(kinds)
        ax.set(xlabel="Layer" if last_row else "", ylabel="AUC" if column == 0 else "")
        ax.tick_params(labelbottom=last_row, labelleft=column == 0)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    handles = [Line2D([], [], **style) for style in styles.values()]
    labels = [CONTROLS[name][0] if name in CONTROLS else minus_signs(name) for name in styles]
    if kinds:
        add_legend(fig, handles, labels, 2)
    return fig


def _shares(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["metric"] == "share"].set_index("kind").loc[[*KINDS]]


def _draw_shares(ax, shares: pd.DataFrame, size: float) -> None:
    places = range(len(shares))
    probed = "0.6"
    errors = [shares["mean"] - shares["ci_low"], shares["ci_high"] - shares["mean"]]
    ax.barh(
        places, shares["mean"], height=0.7, color=probed, xerr=errors,
        error_kw={"lw": 0.8, "ecolor": "0.1"},
    )  # fmt: skip
    for place, row in zip(places, shares.itertuples(), strict=True):
        ax.annotate(
            f"{row.n}", (max(row.ci_high, row.mean), place), (3, 0), textcoords="offset points",
            va="center", size=size,
        )  # fmt: skip
    ax.set_yticks(places, [KINDS[kind] for kind in shares.index])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="Share of questions", ylim=(len(shares) - 0.5, -0.5))
    ax.set_xlim(0, 1.12 * max(shares["ci_high"].max(), 0.01) + 0.03)


def _choose_styles(options: DrawnErrorKinds, width: float) -> dict[str, dict]:
    """Of the tokens, the last first, and of the controls."""
    tokens = [*reversed(options.tokens)]
    colours = find_colours(options.palette, len(tokens))
    lines = {
        token: {"color": colour, "linestyle": dashes, "lw": 1.6 * width}
        for token, colour, dashes in zip(tokens, colours, DASHES[: len(tokens)], strict=True)
    }
    controls = {
        name: {"color": grey, "linestyle": dashes, "lw": width}
        for name, (_, dashes, grey) in CONTROLS.items()
    }
    return lines | controls


def _draw_curves(ax, curves: pd.DataFrame, options: DrawnErrorKinds, styles) -> None:
    for token in reversed(options.tokens):
        own = curves[(curves["token"] == token) & (curves["control"] == "none")]
        own = own.sort_values("layer")
        ax.fill_between(
            own["layer"],
            own["ci_low"],
            own["ci_high"],
            color=styles[token]["color"],
            alpha=0.2,
            lw=0,
        )
        ax.plot(own["layer"], own["mean"], label=token, **styles[token])
    for name in CONTROLS:
        own = curves[(curves["token"] == options.tokens[-1]) & (curves["control"] == name)]
        own = own.sort_values("layer")
        ax.plot(own["layer"], own["mean"], label=name, **styles[name])
    ax.axhline(0.5, color="0.8", lw=0.6, zorder=0)  # chance
    ax.margins(x=0.01)


def find_shown(scores: pd.DataFrame, options: DrawnErrorKinds) -> Shown:
    """All rows of the table, whose tokens are those of the figure."""
    return Shown()


def _find_best(scores: pd.DataFrame, kind: str, token: str) -> pd.Series | None:
    """The row of the layer with the highest AUC; None where the kind is not probed."""
    own = scores[
        (scores["metric"] == "auc")
        & (scores["kind"] == kind)
        & (scores["token"] == token)
        & (scores["control"] == "none")
    ].dropna(subset="mean")
    return None if own.empty else own.loc[own["mean"].idxmax()]


def state_numbers(scores: pd.DataFrame, options: DrawnErrorKinds) -> StatedNumbers:
    """Share and questions of every kind, and its best AUC at the last token with the controls."""
    numbers = StatedNumbers()
    first = scores.iloc[0]
    numbers.take("questions", first, "total", ",d")
    numbers.take("samples", first, "samples", "d")
    numbers.take_option("temperature", options.resamples.temperature, str, "resamples.temperature")
    token = options.tokens[-1]
    key = "figures.error_kinds.tokens"
    numbers.take_option("token", token, str, key)
    numbers.take_option("tokens", " and ".join(options.tokens), str, key)
    for kind, share in _shares(scores).iterrows():
        row = {**share, "kind": kind}
        keys = ("metric", "kind")
        numbers.take(f"{kind}_questions", row, "n", ",d", keys)
        numbers.take(f"{kind}_share", row, "mean", ".1%", keys)
        best = _find_best(scores, kind, token)
        keys = ("metric", "kind", "token", "layer", "control")
        numbers.take(f"{kind}_auc", best, "mean", ".3f", keys)
        numbers.take(f"{kind}_auc_low", best, "ci_low", ".3f", keys)
        numbers.take(f"{kind}_auc_high", best, "ci_high", ".3f", keys)
        numbers.take(f"{kind}_layer", best, "layer", ".0f", keys)
        for control in CONTROLS:
            beside = None
            if best is not None:
                same = (scores["metric"] == "auc") & (scores["control"] == control)
                for key in ("kind", "token", "layer"):
                    same &= scores[key] == best[key]
                beside = scores[same].iloc[0] if same.any() else None
            numbers.take(f"{kind}_{control}", beside, "mean", ".3f", keys)
    return numbers


def describe(
    scores: pd.DataFrame,
    model: str,
    options: DrawnErrorKinds,
    numbers: StatedNumbers | None = None,
) -> str:
    """What the kinds are, how frequent, and how well the probe tells each; which are not probed."""
    numbers = numbers or state_numbers(scores, options)
    token = options.tokens[-1]
    probed = [kind for kind in KINDS if _find_best(scores, kind, token) is not None]
    absent = [kind for kind in KINDS if kind not in probed]
    sentences = [
        f"Kinds of error of {model} (Orgad et al. 2025), by {numbers['samples']} samples at "
        f"temperature {numbers['temperature']} of each of {numbers['questions']} questions. Every "
        "question is of one kind. Top: the share of each and its number of questions, with "
        "95% bootstrap intervals over questions."
    ]
    if probed:
        sentences.append(
            "Below: AUC by layer (0 is the embeddings) of a "
            f"{PROBES[options.protocol.kind]} on "
            f"{SITES[options.protocol.site]} at {numbers['tokens']} of the greedy answer that "
            "tells one kind from all others, trained and tested on the splits of the probe of "
            f"wrong answers. Bands: {describe_intervals(options.protocol)}. Controls at "
            f"{numbers['token']}: the group of the question alone (dashed), kinds shuffled "
            "(dotted)."
        )
        best = [_describe_kind(kind, numbers) for kind in probed]
        sentences.append(f"The best layer at {numbers['token']}, a selection: {'; '.join(best)}.")
    if absent:
        names = [f"{KINDS[kind]} ({numbers[f'{kind}_questions']})" for kind in absent]
        sentences.append(
            f"Not probed, of fewer than {FEWEST_OF_A_LABEL} questions with a state or without "
            f"enough in the test sets: {', '.join(names)}."
        )
    return " ".join(sentences) + "\n"


def _describe_kind(kind: str, numbers: StatedNumbers) -> str:
    beside = [
        f"{label} {numbers[f'{kind}_{control}']}"
        for control, label in (("group_only", "group"), ("shuffled_labels", "shuffled"))
        if numbers[f"{kind}_{control}"].value is not None
    ]
    return (
        f"{KINDS[kind]} ({numbers[f'{kind}_share']}) {numbers[f'{kind}_auc']} "
        f"[{numbers[f'{kind}_auc_low']}, {numbers[f'{kind}_auc_high']}] in layer "
        f"{numbers[f'{kind}_layer']} ({', '.join(beside)})"
    )


def list_claim_cells(scores: pd.DataFrame, options: DrawnErrorKinds) -> pd.DataFrame:
    """AUC at the last token, layer × kind; the controls are shuffled_labels and group_only."""
    own = scores[(scores["metric"] == "auc") & (scores["token"] == options.tokens[-1])]
    cells = own.rename(columns={"layer": "row", "kind": "column", "mean": "value"})
    return cells[["row", "column", "control", "value", "ci_low", "ci_high"]].astype({"row": int})
