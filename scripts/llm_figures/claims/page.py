"""Claims for people: the page claims.md, lines for the log, and the guard."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llm_figures.claims.definitions import COMPARISONS, REPRODUCED, SYMBOLS
from llm_figures.core.errors import UserError

_INTRODUCTION = """\
What readers of the published figures state about them, checked against the numbers behind ours.
A verdict is a finding about this model. Thresholds come from the statements, see
config/claims.yaml; where a claim is about several panels, columns or regions, the value is the
worst of them. The range after a value is its spread over the inputs or texts, or the middle 95% of
bootstrap resamples of the questions; *n/m* counts those in which the claim holds, then the heads
in which it holds by itself."""


def number(value: float, *thresholds: float) -> str:
    """Three decimals at most, more only for what they would hide.

    thresholds: what the value is compared with; 0.8996 does not become 0.9 beside it, nor 0.99985
        become 1 beside 0.9999.
    """
    form, digits = ("f", 3) if value == 0 or abs(value) >= 0.0005 else ("e", 0)
    while digits < 12 and any(
        np.sign(float(f"{value:.{digits}{form}}") - threshold) != np.sign(value - threshold)
        for threshold in thresholds
        if not pd.isna(threshold)
    ):
        digits += 1
    text = f"{value:.{digits}{form}}"
    if form == "f":
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−").replace("e−0", "e−")


def threshold_text(row) -> str:
    """≥ 0.9, or 13 to 17: as the claim says it, not rounded."""
    low, high = (
        f"{end:.12g}".replace("-", "−").replace("e−0", "e−")
        for end in (row.threshold, row.threshold_high)
    )
    return (
        f"{low} to {high}" if row.comparison == "within" else f"{COMPARISONS[row.comparison]} {low}"
    )


def counts(claims: pd.DataFrame) -> dict[str, int]:
    """{verdict: how many}, every verdict named."""
    found = claims["verdict"].value_counts()
    return {verdict: int(found.get(verdict, 0)) for verdict in SYMBOLS}


def claims_page(claims: pd.DataFrame, model: str) -> str:
    """Markdown: counts by figure, then a table for every figure.

    claims: as from `evaluation.claim_rows`.
    """
    sections = [f"# Claims: {model}", _INTRODUCTION, _overview(claims)]
    for figure, part in claims.groupby("figure", sort=False):
        sections += [f"## {figure}", _table(part)]
        if notes := [
            f"- {row.claim}: {_cell(row.note)}" for row in part.itertuples() if _is(row.note)
        ]:
            sections += ["Notes:", "\n".join(notes)]
    return "\n\n".join(sections) + "\n"


def guard(claims: pd.DataFrame, guarded: Sequence[str], where: str) -> str:
    """One line per guarded claim, each reproduced.

    guarded: "figure/claim".

    Raises:
        UserError: one line per guarded claim that is not.
    """
    names = claims["figure"] + "/" + claims["claim"]
    chosen = claims[names.isin(guarded)]
    failed = [
        f"claims.fail_on: {row.figure}/{row.claim}: {row.verdict} "
        + (f"({row.reason})" if _is(row.reason) else f"({_value(row)}, {threshold_text(row)})")
        + f"; see {where}"
        for row in chosen.itertuples()
        if row.verdict != REPRODUCED
    ]
    if failed:
        raise UserError("\n".join(failed))
    return "".join(f"{row.figure}/{row.claim}: reproduced\n" for row in chosen.itertuples())


def _overview(claims: pd.DataFrame) -> str:
    lines = [f"| figure | {' | '.join(SYMBOLS)} |", "|---|" + "---:|" * len(SYMBOLS)]
    for figure, part in claims.groupby("figure", sort=False):
        lines.append(f"| {figure} | {' | '.join(map(str, counts(part).values()))} |")
    return "\n".join(lines)


def _table(claims: pd.DataFrame) -> str:
    lines = [
        "| | claim | statement | value | asked | statistic | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in claims.itertuples():
        value = row.reason if _is(row.reason) else _value(row)
        cells = [
            f"{SYMBOLS[row.verdict]} {row.verdict}", row.claim, row.statement, value,
            threshold_text(row), row.statistic, row.source,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _cell(content: object) -> str:
    """One line, whatever line breaks a statement has."""
    return " ".join(str(content).split()).replace("|", "\\|")


def _value(row) -> str:
    text = number(row.value, row.threshold, row.threshold_high)
    if _is(row.low):
        text += f" [{number(row.low)}, {number(row.high)}]"
    if _is(row.units) and row.units > 1:
        text += f", {row.held}/{row.units}"
    if _is(row.heads):
        text += f", heads {row.held_heads}/{row.heads}"
    return text


def _is(value: object) -> bool:
    return not pd.isna(value)


def log_verdicts(log, claims: pd.DataFrame) -> None:
    """How many of each verdict, and every claim in a line, into the job's log."""
    for row in claims.itertuples():
        value = row.reason if _is(row.reason) else f"{_value(row)}, asked {threshold_text(row)}"
        log.debug("%s: %s: %s", row.claim, row.verdict, value)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts(claims).items() if count)
    log.info("%s: %s", claims["figure"].iloc[0] if len(claims) else "no claim", told)
