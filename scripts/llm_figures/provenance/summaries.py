"""One sentence for each figure: what it shows, with its main number."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llm_figures.attention.figure import format_epsilon
from llm_figures.attention.interventions import CLEAN
from llm_figures.core.numbers import low_to_high, three_digits
from llm_figures.modules.metrics import METRICS

CHANGES = {
    "features": "replaced by its mean over the head dimension",
    "tokens": "replaced by its mean over the token positions",
}


def summarise_attention(cells: pd.DataFrame) -> str | None:
    """How much attention the first token is left with, by component that is intervened on.

    It is the mean weight on the first token over all later tokens, then over the texts. Of several
    factors ε the one furthest from 1 is described. None where no text has a second token.

    cells: tidy cells of an attention figure.
    """
    cells = cells[cells["component"] != CLEAN]
    first = cells.iloc[0]
    change = CHANGES.get(first["over"])
    if first["operation"] == "scale":
        factors = cells["epsilon"].unique()
        factor = factors[np.abs(factors - 1).argmax()]
        cells = cells[cells["epsilon"] == factor]
        change = f"multiplied by ε = {format_epsilon(factor)}"
    column = cells[(cells["key_position"] == 0) & (cells["query_position"] > 0)]
    if column.empty:
        return None
    # a row of a long text is a bin of tokens; files of earlier versions have no counts
    tokens = column.get("query_count", 1)
    column = column.assign(tokens=tokens, total=column["weight"] * tokens)
    sums = column.groupby(["component", "input"], sort=False)[["total", "tokens"]].sum()
    means = (sums["total"] / sums["tokens"]).groupby("component", sort=False).mean()
    (name, weight), *others = means.items()
    scope = ", changed in every layer" if first["scope"] == "model" else ""
    return (
        f"Later tokens give the first one {three_digits(weight)} of their attention when "
        f"{name.capitalize()} is {change}"
        + _join([f"{three_digits(value)} when {name.capitalize()} is" for name, value in others])
        + f" (layer {first['layer']}{scope})."
    )


def _join(parts: Sequence[str]) -> str:
    """What follows the first part of a list: ", b and c"."""
    if not parts:
        return ""
    *early, last = parts
    return "".join(f", {part}" for part in early) + f" and {last}"


def summarise_probe(controls: dict | None) -> str | None:
    """The probe's chosen cell and the controls that explain it; None without a score.

    controls: as from `report.tabulate_controls`.
    """
    if controls is None:
        return None
    probe, *rows = controls["rows"]
    score = f"{controls['metric']} {probe['mean']} {probe['interval']}".rstrip()
    sentence = (
        f"A {controls['probe']} whose cell is chosen on the training answers detects a wrong "
        f"answer: {score}"
        if controls["nested"]
        else f"A {controls['probe']} detects a wrong answer; highest, a selection, is "
        f"{controls['cells']}: {score}"
    )
    explaining = [row["name"] for row in rows if row["explains"]]
    if explaining:
        return f"{sentence}, explained by {' and by '.join(explaining)}."
    return f"{sentence}, explained by none of its controls." if rows else f"{sentence}."


def summarise_modules(scores: pd.DataFrame, metric: str) -> str | None:
    """The range of a metric of the module map, and where it is highest; None without a value."""
    shown = scores[scores["metric"] == metric].dropna(subset="value")
    if shown.empty:
        return None
    highest = shown.loc[shown["value"].idxmax()]
    span = low_to_high(shown["value"].min(), highest["value"])
    return (
        f"{METRICS[metric].label} by layer and projection: {span}, highest in "
        f"{highest['projection']} of layer {highest['layer']}."
    )
