"""Render claims as Markdown, log their verdicts, and guard those that must be reproduced."""

from collections.abc import Sequence

import pandas as pd

from llm_figures.claims.definitions import DECIDED, REPRODUCED, SYMBOLS, format_expected
from llm_figures.claims.references import (
    RANDOM_WEIGHTS,
    compute_baseline,
    count_decided,
    count_verdicts,
    show_share,
    summarize,
)
from llm_figures.core.errors import UserError
from llm_figures.core.markdown import one_line, table_row
from llm_figures.core.numbers import at_most_three_decimals

_INTRODUCTION = """\
Statements about the published figures, checked against the numbers behind the figures of this
model. A verdict is a finding about the model. Thresholds follow from the statements, as
config/claims.yaml explains. A claim about several panels, columns or regions is judged by the worst
of them, whose value is shown. The range after a value is its spread over the inputs or texts, or
the middle 95% of bootstrap resamples of the questions; *n/m* counts the inputs, texts or resamples
in which the claim holds, then the heads in which it holds on their own. Where a threshold is one of
*the whole interval*, both ends of that range must meet it. *References* is the share of random or
permuted data of the same shape that satisfy the claim. A claim that nearly all of them satisfy, or
that no data of this shape can, is decided by construction: it is counted apart. The last two
columns of the first table are the baseline of its counts: how many of the claims that could have
failed such data satisfy on average, and how many of those about attention a layer of the same model
with random weights."""
_SOURCES = """
A source that begins with a figure's name is a line of a reader's description of the published
figure, whose original is not at hand: docs/descriptions.md of llm-figures says what these are."""
# Such as mean_qkv a, line 22.
_LINE = r"^\w+_\w+(?: [ab])?, lines? \d"
_NONE = """\
No claim is checked: `claims.built_in` leaves out those of config/claims.yaml, and `claims.files`
names none."""


def render_claims_page(claims: pd.DataFrame, model: str) -> str:
    """claims.md: counts by figure, then a table for every figure.

    claims: as from `evaluation.build_claims_table`.
    """
    introduction = f"{_INTRODUCTION}{_SOURCES if cites_descriptions(claims) else ''}"
    if not len(claims):
        return f"# Claims: {model}\n\n{introduction}\n\n{_NONE}\n"
    # a run's end prints what follows the introduction, up to the first figure
    sections = [f"# Claims: {model}", introduction, f"{summarize(claims)}.", _overview(claims)]
    for figure, part in claims.groupby("figure", sort=False):
        sections += [f"## {figure}", _table(part)]
        if notes := [
            f"- {row.claim}: {one_line(row.note)}" for row in part.itertuples() if _given(row.note)
        ]:
            sections += ["Notes:", "\n".join(notes)]
    return "\n\n".join(sections) + "\n"


def cites_descriptions(claims: pd.DataFrame) -> bool:
    """Whether a claim's source is a line of a description; see docs/descriptions.md."""
    return bool(claims["source"].astype("string").str.contains(_LINE).any())


def guard(claims: pd.DataFrame, guarded: Sequence[str], where: str) -> str:
    """Check that the guarded claims are reproduced; returns one line for each.

    guarded: names of claims, figure/id. where: the file of claims, for the error.

    Raises:
        UserError: one line per guarded claim that is not reproduced.
    """
    names = claims["figure"] + "/" + claims["claim"]
    chosen = claims[names.isin(guarded)]
    failed = [
        f"claims.fail_on: {row.figure}/{row.claim}: {row.verdict} "
        + (f"({row.reason})" if _given(row.reason) else f"({_value(row)}, {_threshold(row)})")
        + f"; see {where}"
        for row in chosen.itertuples()
        if row.verdict != REPRODUCED
    ]
    if failed:
        raise UserError("\n".join(failed))
    return "".join(f"{row.figure}/{row.claim}: reproduced\n" for row in chosen.itertuples())


def _overview(claims: pd.DataFrame) -> str:
    heads = [*SYMBOLS, DECIDED, "random data", "random weights"]
    lines = [f"| figure | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for figure, part in claims.groupby("figure", sort=False):
        baselines = [compute_baseline(part, kind) or "–" for kind in (None, RANDOM_WEIGHTS)]
        counts = [*count_verdicts(part).values(), count_decided(part)]
        lines.append(table_row([figure, *counts, *map(str, baselines)]))
    return "\n".join(lines)


def _table(claims: pd.DataFrame) -> str:
    lines = [
        "| | claim | statement | value | threshold | references | statistic | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in claims.itertuples():
        value = row.reason if _given(row.reason) else _value(row)
        cells = [
            f"{SYMBOLS[row.verdict]} {row.verdict}", row.claim, row.statement, value,
            _threshold(row), show_share(row._asdict()), row.statistic, row.source,
        ]  # fmt: skip
        lines.append(table_row(cells))
    return "\n".join(lines)


def _value(row) -> str:
    text = at_most_three_decimals(row.value, row.threshold, row.threshold_high)
    if _given(row.low):
        ends = at_most_three_decimals(row.low), at_most_three_decimals(row.high)
        text += f" [{', '.join(ends)}]"
    if _given(row.units) and row.units > 1:
        text += f", {row.held}/{row.units}"
    if _given(row.heads):
        text += f", heads {row.held_heads}/{row.heads}"
    return text


def _threshold(row) -> str:
    return format_expected(row._asdict())


def _given(value: object) -> bool:
    return not pd.isna(value)


def log_verdicts(log, claims: pd.DataFrame) -> None:
    """Log how many claims have each verdict and, for debugging, every claim on a line."""
    for row in claims.itertuples():
        value = row.reason if _given(row.reason) else f"{_value(row)}, threshold {_threshold(row)}"
        log.debug("%s: %s: %s", row.claim, row.verdict, value)
    if len(claims):
        log.info("%s: %s", claims["figure"].iloc[0], summarize(claims))
    else:
        log.info("no claim")
