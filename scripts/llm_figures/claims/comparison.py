"""Compare the claims of several models in one table."""

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from llm_figures.claims.definitions import COMPARISONS, DECIDED, SYMBOLS
from llm_figures.claims.references import find_decided, summarize
from llm_figures.core.markdown import one_line, table_row
from llm_figures.core.numbers import at_most_three_decimals

# Rows that agree in these are of the same claim; their verdicts share a row.
KEY = ["figure", "claim"]
NEEDED = {*KEY, "statement", "statistic", "comparison", "threshold", "value", "verdict"}


def find_claims_problem(table: pd.DataFrame) -> str | None:
    """Why a model's claims cannot be compared with others; None if they can."""
    if lacking := sorted(NEEDED - set(table)):
        return f"has no column {', '.join(lacking)}"
    return None if len(table) else "is empty"


def stack_claims(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of all models, in their order; the column `model` holds the table's key."""
    # empty columns have no type; the type of the stacked column follows from the others
    filled = [table.dropna(axis="columns", how="all") for table in tables.values()]
    whole = pd.concat([part.assign(model=name) for name, part in zip(tables, filled, strict=True)])
    columns = dict.fromkeys(column for table in tables.values() for column in table)
    return whole.reindex(columns=["model", *(c for c in columns if c != "model")]).reset_index(
        drop=True
    )


def render_claims_comparison(claims: pd.DataFrame, left_out: Sequence[str] = ()) -> str:
    """Markdown: counts per model, then a table of one row per claim and one column per model.

    claims: as from `stack_claims`. left_out: a line for each model that is not compared. A claim
    whose test differs between models is noted below the table; where its statement differs in
    words, the first model's is shown.
    """
    models = list(claims["model"].unique())
    lines = ["# Claims across models", ""]
    for model in models:
        lines.append(f"- {one_line(model)}: {summarize(claims[claims['model'] == model])}")
    lines += [
        "",
        table_row(["figure", "claim", "statement", *models]),
        table_row(["---"] * (3 + len(models))),
    ]
    notes = []
    for (figure, claim), rows in claims.groupby(KEY, sort=False):
        verdicts = rows.set_index("model")
        shown = [_verdict(verdicts, model) for model in models]
        lines.append(table_row([figure, claim, rows["statement"].iloc[0], *shown]))
        tests = _tests(verdicts)
        if len(set(tests.values())) > 1:
            listed = "; ".join(f"{model}: {test}" for model, test in tests.items())
            notes.append(
                f"- {one_line(f'{figure}, {claim}')} has different tests: {one_line(listed)}"
            )
    lines += ["", "✓ reproduced, ✗ not reproduced, – not applicable; with the statistic's value."]
    if find_decided(claims).any():
        lines.append(f"In parentheses: the claim is {DECIDED} with this model, and counted apart.")
    if any(_missing(claims, model) for model in models):
        lines.append("An empty cell: the model's file has no such claim.")
    if notes:
        lines += ["", *notes]
    if left_out:
        lines += ["", *(f"- left out: {one_line(line)}" for line in left_out)]
    return "\n".join(lines) + "\n"


def _missing(claims: pd.DataFrame, model: str) -> bool:
    keys = claims[KEY].drop_duplicates()
    return len(claims.loc[claims["model"] == model, KEY].drop_duplicates()) < len(keys)


def _verdict(verdicts: pd.DataFrame, model: str) -> str:
    if model not in verdicts.index:
        return ""
    row = verdicts.loc[[model]].iloc[0]
    value = "" if pd.isna(row["value"]) else f" ({at_most_three_decimals(row['value'])})"
    text = f"{SYMBOLS.get(row['verdict'], '')} {row['verdict']}{value}".strip()
    return f"({text})" if find_decided(verdicts.loc[[model]]).iloc[0] else text


def _tests(verdicts: pd.DataFrame) -> dict[str, str]:
    """{model: its test of one claim in one line, with the keys in which the tests differ}.

    verdicts: the claim's rows by model. Where a file of an earlier version has no column `test`,
    only its statistic and threshold are compared.
    """
    rows = {model: verdicts.loc[[model]].iloc[0] for model in verdicts.index}
    parts = {
        model: {} if pd.isna(row.get("test")) else json.loads(row["test"])
        for model, row in rows.items()
    }
    known = [part for part in parts.values() if part]
    shown = {"statistic", "comparison", "threshold"}
    differing = [
        key
        for key in sorted({key for part in known for key in part} - shown)
        if any(part.get(key) != known[0].get(key) for part in known)
    ]
    lines = {}
    for model, row in rows.items():
        more = [
            f"{key} {json.dumps(parts[model].get(key), ensure_ascii=False)}"
            for key in differing
            if parts[model]
        ]
        lines[model] = ", ".join([_test(row), *more])
    return lines


def _test(row: pd.Series) -> str:
    """The statistic and its threshold in one line."""
    threshold = "" if pd.isna(row["threshold"]) else f"{row['threshold']:g}"
    high = row.get("threshold_high")
    if high is not None and not pd.isna(high):
        threshold += f" to {high:g}"
    return f"{row['statistic']} {COMPARISONS[row['comparison']]} {threshold}".strip()
