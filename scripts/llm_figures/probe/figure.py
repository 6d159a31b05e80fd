"""How well a probe detects a wrong answer: the layer × token heatmap, and curves with intervals."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from llm_figures.core.numbers import with_interval
from llm_figures.models.layer_checks import check_shape
from llm_figures.plotting.drawing import colour_bar, colour_list, colour_map, heatmap, tick_step
from llm_figures.probe.best_cell import BestCell, find_best_cell
from llm_figures.probe.controls import CONTROLS, EXPLANATIONS, FITTED, LABELS
from llm_figures.probe.protocol import OUTPUT_BASELINES, TOKENS

SITES = {
    "residual": "the residual stream",
    "attention": "the attention output of each block",
    "mlp": "the MLP output of each block",
}
GREYS = ("0.15", "0.35", "0.55")
DOTS = ((0, (1, 1)), (0, (1, 2.5)), (0, (4, 1.2, 1, 1.2)))


def highlighted_layers(layers: list[int | str], depth: int) -> tuple[int, int]:
    """First and last row of the rectangle; "12.5%" is a share of the model's `depth` layers."""
    first, last = (
        round(float(layer.removesuffix("%")) / 100 * depth) if isinstance(layer, str) else layer
        for layer in layers
    )
    return min(first, last), max(first, last)


def draw_probe(scores: pd.DataFrame, options: dict) -> Figure:
    """Draw the tidy scores: layers from 0 (the embeddings) at the top, tokens left to right.

    Cells without a score are grey.
    """
    tokens = options["tokens"]
    values = probe_values(scores, options["metric"], tokens)
    rows = len(values)
    fig, ax = plt.subplots(
        figsize=(0.42 * len(tokens) + 1.4, max(0.17 * rows, 2.2) + 1.3), layout="constrained"
    )
    mesh = probe_panel(values, ax, options["palette"], options["limits"], tick_step(rows))
    ax.set(xlabel="Token", ylabel="Layer")
    if options["highlight"]:
        check_shape({"probe_auc": options}, {"layers": rows - 1, "heads": None})
        draw_highlight(ax, options["highlight"], tokens, rows - 1)
    probe_bar(fig, mesh, options, ax=ax, pad=0.02)
    return fig


def draw_highlight(ax, highlight: dict, tokens: list[str], depth: int) -> None:
    """The black rectangle on a panel of these tokens; depth: the model's layers."""
    first, last = highlighted_layers(highlight["layers"], depth)
    left, right = sorted(tokens.index(token) for token in highlight["tokens"])
    ax.add_patch(
        Rectangle(
            (left, first),
            right - left + 1,
            last - first + 1,
            fill=False,
            edgecolor="black",
            linewidth=1.8,
            gid="highlight",
            clip_on=False,
        )
    )


def probe_bar(fig: Figure, mesh, options: dict, **place):
    """The colour bar of a metric, between the options' limits."""
    low, high = options["limits"]
    return colour_bar(
        fig,
        mesh,
        LABELS[options["metric"]],
        ticks=np.round(np.linspace(low, high, 6), 10),
        aspect=30,
        **place,
    )


def draw_presets(scores: pd.DataFrame, options: dict) -> Figure:
    """The presets side by side on one scale, and strict minus published.

    scores: tidy scores with a further column preset. The tokens are those of both.
    """
    presets = ["strict", "published"]
    parts = {preset: scores[scores["preset"] == preset] for preset in presets}
    tokens = [
        token
        for token in TOKENS["strict"]
        if all((parts[p]["token"] == token).any() for p in parts)
    ]
    values = {
        preset: probe_values(part, options["metric"], tokens) for preset, part in parts.items()
    }
    difference = values["strict"] - values["published"]
    extent = float(np.nanmax(np.abs(difference.to_numpy()), initial=0.01))
    rows = len(difference)
    fig, axes = plt.subplots(
        1,
        3,
        figsize=(3 * (0.3 * len(tokens) + 0.9) + 0.8, max(0.14 * rows, 2.2) + 1.4),
        sharey=True,
        layout="constrained",
    )
    for ax, preset in zip(axes, presets, strict=False):
        mesh = probe_panel(
            values[preset], ax, options["palette"], options["limits"], tick_step(rows), preset
        )
        ax.set(title=preset, xlabel="Token", ylabel="Layer" if preset == presets[0] else "")
    colour_bar(fig, mesh, LABELS[options["metric"]], ax=axes[:2], pad=0.02, aspect=30)
    title = "strict − published"
    mesh = probe_panel(difference, axes[2], "coolwarm", [-extent, extent], tick_step(rows), title)
    axes[2].set(title=title, xlabel="Token", ylabel="")
    colour_bar(fig, mesh, f"Difference in {LABELS[options['metric']]}", ax=axes[2], aspect=30)
    return fig


def presets_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """Both protocols, their best cells, and how they differ on average."""
    chosen = scores[(scores["metric"] == options["metric"]) & (scores["control"] == "none")]
    parts = [
        f"{LABELS[options['metric']]} of linear probes on {model} that detect a wrong answer, by "
        "two protocols on the same answers."
    ]
    for preset, rows in chosen.groupby("preset", sort=False):
        setting = options["protocols"][preset]
        best = find_best_cell(rows, options["metric"])
        unconverged = int(rows["unconverged"].sum())
        parts.append(
            f"{preset.capitalize()}: {SITES[setting['site']]}. {_method(setting)}"
            + (f" {_best_words(best)}." if best else "")
            + (
                f" {unconverged} of {int(rows['folds'].sum())} fits did not converge."
                if unconverged
                else ""
            )
        )
    strict, published = (
        chosen[chosen["preset"] == preset].set_index(["layer", "token"])["mean"]
        for preset in ("strict", "published")
    )
    gap = (strict - published).dropna()
    if len(gap):
        parts.append(
            f"Over the {len(gap)} cells of both, strict is higher by {gap.mean():.3f} on average "
            f"(from {gap.min():.3f} to {gap.max():.3f})."
        )
    return " ".join(parts) + "\n"


def probe_values(scores: pd.DataFrame, metric: str, tokens: list[str]) -> pd.DataFrame:
    """Means of the probe itself, one row per layer, one column per token."""
    shown = scores[(scores["metric"] == metric) & (scores["control"] == "none")]
    return shown.pivot(index="layer", columns="token", values="mean").reindex(columns=tokens)


def probe_panel(
    values: pd.DataFrame, ax, palette: str, limits: list[float], step: int, title: str = ""
):
    """One heatmap with layers from 0 at the top and every `step`th layer labelled.

    values: as from `probe_values`. title: what tells it from other panels of the figure. Returns
    the mesh for a colour bar.
    """
    tokens, rows = list(values.columns), len(values)
    mesh = heatmap(
        values,
        ax,
        cmap=colour_map(palette),
        limits=limits,
        title=title,
        xticklabels=tokens,
        yticklabels=False,
    )
    ax.set_yticks(np.arange(0, rows, step) + 0.5, labels=[str(n) for n in range(0, rows, step)])
    ax.tick_params(axis="y", rotation=0)
    ax.set_xticks(ax.get_xticks(), labels=tokens, rotation=45, ha="right", rotation_mode="anchor")
    return mesh


def draw_curves(scores: pd.DataFrame, options: dict) -> Figure:
    """One panel per token: the metric by layer with its 95% band, controls dashed or dotted.

    Dashed are probes that should fail, dotted the output's own confidence.
    """
    tokens, metric = options["tokens"], options["metric"]
    shown = scores[(scores["metric"] == metric) & scores["token"].isin(tokens)]
    beside = [control for control in CONTROLS if (shown["control"] == control).any()]
    fitted = [control for control in beside if control not in OUTPUT_BASELINES]
    colour, *colours = colour_list(options["palette"], 1 + len(fitted))
    looks = {
        control: {"color": colour, "linestyle": "--"}
        for control, colour in zip(fitted, colours, strict=True)
    } | {
        control: {"color": grey, "linestyle": dots}
        for control, grey, dots in zip(OUTPUT_BASELINES, GREYS, DOTS, strict=True)
    }
    columns = min(len(tokens), 4)
    rows = -(-len(tokens) // columns)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.2 * columns + 0.6, 2.3 * rows + 0.9),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, token in zip(axes.flat, tokens, strict=False):
        panel = shown[shown["token"] == token].sort_values("layer")
        probe = panel[panel["control"] == "none"]
        ax.fill_between(
            probe["layer"], probe["ci_low"], probe["ci_high"], color=colour, alpha=0.25, lw=0
        )
        lines = {"x": "layer", "y": "mean", "ax": ax, "errorbar": None}
        sns.lineplot(probe, **lines, color=colour, lw=1.6, label="probe")
        for control in beside:
            sns.lineplot(
                panel[panel["control"] == control],
                **lines,
                **looks[control],
                lw=1.0,
                label=CONTROLS[control],
            )
        ax.set(title=token, xlabel="Layer", ylabel=LABELS[metric])
        ax.get_legend().remove()
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.margins(x=0.01)
    for ax in axes.flat[len(tokens) :]:
        ax.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=min(columns, 3), fontsize="small")
    return fig


def curves_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """What the bands and the dashed lines are."""
    return (
        f"{LABELS[options['metric']]} by layer (0 is the embeddings) of a linear probe on "
        f"{SITES[options['protocol']['site']]} of {model} that detects a wrong answer, one panel "
        f"per token. Bands: {_interval_kind(options['protocol'])}. Dashed: probes without the "
        "signal, on the same splits. Dotted: the confidence of the output itself.\n"
    )


def probe_caption(scores: pd.DataFrame, model: str, options: dict) -> str:
    """What the probe is, the best cell, its controls, what explains it, and what is missing."""
    protocol = options["protocol"]
    chosen = scores[
        (scores["metric"] == options["metric"]) & scores["token"].isin(options["tokens"])
    ]
    shown = chosen[chosen["control"] == "none"]
    low, high = options["limits"]
    parts = [
        f"{LABELS[options['metric']]} of a linear probe on {SITES[protocol['site']]} of {model} "
        "that detects a wrong answer, by layer (0 is the embeddings) and token.",
        _method(protocol),
        _counts(shown),
    ]
    if best := find_best_cell(scores, options["metric"], options["tokens"]):
        parts += _finding(chosen, best)
    if fits := int(chosen.loc[chosen["control"].isin(FITTED), "unconverged"].sum()):
        parts.append(f"{fits} fits did not converge.")
    parts.append(f"Colours span {low:g} to {high:g}; lower values take the lightest.")
    return " ".join(part for part in parts if part) + "\n"


def _method(protocol: dict) -> str:
    scaled = (
        "features standardised on the training examples"
        if protocol["standardise"]
        else ("features as they are")
    )
    fitted = {
        "newton": "fitted to convergence",
        "lbfgs": "fitted by at most 100 steps of L-BFGS",
    }[protocol["solver"]]
    C = {"auto": "1 / hidden size", "cv": "chosen inside the training examples"}
    split = {
        "folds": f"{protocol['folds']} folds by question"
        + (f", {protocol['repeats']} times" if protocol["repeats"] > 1 else ""),
        "single": "one random split, a fifth tested",
        "hold_out": "fitted on all other questions, tested on the held-out ones",
    }[protocol["split"]]
    penalty = C.get(protocol["C"], f"{protocol['C']}")
    return (
        f"Logistic regression, {scaled}, C {penalty}, {fitted}; {split}; "
        f"{_interval_kind(protocol)} in brackets."
    )


def _interval_kind(protocol: dict) -> str:
    if protocol["split"] == "folds":
        return "95% intervals over folds (Nadeau & Bengio 2003)"
    return "95% bootstrap intervals over the tested answers"


def _best_words(best: BestCell) -> str:
    row = best.probe
    score = with_interval(row["mean"], row["ci_low"], row["ci_high"])
    return f"Best cell: layer {row['layer']}, {row['token']}: {score}"


def _counts(shown: pd.DataFrame) -> str:
    """How many answers the cells rest on, with the tokens that rest on fewer."""
    counts = shown.drop_duplicates("token").set_index("token")["n"]
    most = counts.max()
    fewer = ", ".join(f"{token} on {count:,}" for token, count in counts.items() if count < most)
    empty = shown.loc[shown["mean"].isna(), "token"].unique()
    missing = f" Too few answers for a score (grey): {', '.join(empty)}." if len(empty) else ""
    return f"Cells rest on {most:,} answers{f' ({fewer})' if fewer else ''}.{missing}"


def _finding(chosen: pd.DataFrame, best: BestCell) -> list[str]:
    """The best cell with its controls, and how many cells no control explains."""
    beside = best.beside
    parts = [
        f"{_best_words(best)}, the highest of {best.scored}; intervals are those of single cells."
    ]
    listed = [
        f"{name} {beside.loc[control, 'mean']:.3f}"
        for control, name in CONTROLS.items()
        if control in beside.index
    ]
    parts.append(f"Beside it: {', '.join(listed)}.")
    reasons = [
        reason
        for control, reason in EXPLANATIONS.items()
        if control in beside.index and not beside.loc[control, "gain_low"] > 0
    ]
    parts.append(
        f"The best cell is explained by {' and by '.join(reasons)}: the interval of its gain over "
        "that control includes zero."
        if reasons
        else "No control explains the best cell: the intervals of its gains exclude zero."
    )
    outputs = beside[beside.index.isin(OUTPUT_BASELINES)]
    if len(outputs):
        strongest = outputs.loc[outputs["mean"].idxmax()]
        gain = with_interval(strongest["gain"], strongest["gain_low"], strongest["gain_high"])
        parts.append(
            f"Over the strongest of the output's own signs, {CONTROLS[strongest.name]}, it gains "
            f"{gain}."
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
                for token, found in above.groupby(rows["token"], sort=False)
                if not found.any()
            ]
            parts.append(
                f"{above.sum()} of {len(rows)} cells are above {name} in this sense"
                + (f", none at {', '.join(never)}." if never else ".")
            )
    return parts
