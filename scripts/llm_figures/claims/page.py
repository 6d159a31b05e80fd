"""Claims for people: the page claims.md, lines for the log, and the guard."""

from collections.abc import Sequence

import pandas as pd

from llm_figures.claims.definitions import REPRODUCED, SYMBOLS, threshold_text
from llm_figures.core.errors import UserError
from llm_figures.core.markdown import one_line, table_row
from llm_figures.core.numbers import at_most_three_decimals

_INTRODUCTION = """\
What readers of the published figures state about them, checked against the numbers behind ours.
A verdict is a finding about this model. Thresholds come from the statements, see
config/claims.yaml; where a claim is about several panels, columns or regions, the value is the
worst of them. The range after a value is its spread over the inputs or texts, or the middle 95% of
bootstrap resamples of the questions; *n/m* counts those in which the claim holds, then the heads
in which it holds by itself."""


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
            f"- {row.claim}: {one_line(row.note)}" for row in part.itertuples() if _is(row.note)
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
        + (f"({row.reason})" if _is(row.reason) else f"({_value(row)}, {_asked(row)})")
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
        lines.append(table_row([figure, *counts(part).values()]))
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
            _asked(row), row.statistic, row.source,
        ]  # fmt: skip
        lines.append(table_row(cells))
    return "\n".join(lines)


def _value(row) -> str:
    text = at_most_three_decimals(row.value, row.threshold, row.threshold_high)
    if _is(row.low):
        ends = at_most_three_decimals(row.low), at_most_three_decimals(row.high)
        text += f" [{', '.join(ends)}]"
    if _is(row.units) and row.units > 1:
        text += f", {row.held}/{row.units}"
    if _is(row.heads):
        text += f", heads {row.held_heads}/{row.heads}"
    return text


def _asked(row) -> str:
    return threshold_text(row.comparison, row.threshold, row.threshold_high)


def _is(value: object) -> bool:
    return not pd.isna(value)


def log_verdicts(log, claims: pd.DataFrame) -> None:
    """How many of each verdict, and every claim in a line, into the job's log."""
    for row in claims.itertuples():
        value = row.reason if _is(row.reason) else f"{_value(row)}, asked {_asked(row)}"
        log.debug("%s: %s: %s", row.claim, row.verdict, value)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts(claims).items() if count)
    log.info("%s: %s", claims["figure"].iloc[0] if len(claims) else "no claim", told)
