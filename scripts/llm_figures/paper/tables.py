"""The claims and the probe as booktabs tables.

Each is a float over the whole width of the page, for a longtable stops a document of two columns.
Claims are divided by figure, and further where one table would be longer than a page.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from llm_figures.claims.definitions import format_threshold, is_certain
from llm_figures.claims.references import find_share
from llm_figures.core.numbers import at_most_three_decimals
from llm_figures.paper.latex_text import escape, set_number
from llm_figures.probe.best_cell import (
    HighestCell,
    NestedCell,
    find_highest_cell,
    find_nested_cell,
)
from llm_figures.probe.controls import CONTROLS, LABELS
from llm_figures.probe.protocol import OUTPUT_AND_GROUP, OUTPUT_COMBINED
from llm_figures.probe.protocol_text import name_probe

# Lines of a table that fit on a page, and letters in one line of a statement or of a reason.
PAGE_LINES = 40
LINE_LETTERS = {"statement": 37, "reason": 28}
# Heads of the columns of the probe's table, as many controls as fit a page; the caption explains
# them.
HEADS = {
    "embeddings": "embed.",
    "shuffled_within_group": "in group",
    "group_only": "group",
    "answer_log_probability": "answer",
    "p_true": "p(true)",
    OUTPUT_COMBINED: "all",
    OUTPUT_AND_GROUP: "+ group",
}


def write_claims_tables(claims: pd.DataFrame, label: str) -> Iterator[str]:
    """Lines of claims.tex: a table for each figure, or several. label: before all labels."""
    for figure, part in claims.groupby("figure", sort=False):
        pages = list(_divide(part.to_dict("records")))
        for number, page in enumerate(pages, start=1):
            of = f" ({number} of {len(pages)})" if len(pages) > 1 else ""
            caption = (
                f"Statements about \\texttt{{{escape(figure)}}}, checked on this model{of}. The "
                "range after a value is over inputs, texts or bootstrap resamples. The share is "
                "that of random or permuted data that satisfy the statement; a verdict in "
                "parentheses is decided by construction."
            )
            own = label if number == 1 else f"{label}{number}-"
            yield from _write_table(
                caption,
                f"tab:{own}claims-{figure}",
                r"p{0.32\linewidth}p{0.12\linewidth}p{0.1\linewidth}p{0.13\linewidth}rl",
                ("Statement", "Statistic", "Threshold", "Value", "Share", "Verdict"),
                [_write_claim(claim) for claim in page],
            )


def _divide(claims: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Groups of claims whose statements and reasons fill at most `PAGE_LINES`."""
    page: list[Mapping[str, Any]] = []
    lines = 0
    for claim in claims:
        own = max(
            1 + _count_letters(claim[column]) // letters for column, letters in LINE_LETTERS.items()
        )
        if page and lines + own > PAGE_LINES:
            yield page
            page, lines = [], 0
        page.append(claim)
        lines += own
    if page:
        yield page


def _count_letters(text: object) -> int:
    """How many are printed; one that LaTeX cannot set is its code, U+4E2D, undivided."""
    if pd.isna(text):
        return 0
    return len(text) + 8 * escape(text).count(r"\llmletter")


def _write_claim(claim: Mapping[str, Any]) -> list[str]:
    cells = [
        rf"\raggedright {escape(claim['statement'])}",
        rf"\raggedright {escape(claim['statistic'].replace('_', ' '))}",
        rf"\raggedright {_set_threshold(claim)}",
    ]
    verdict = escape(claim["verdict"])
    if pd.isna(claim["reason"]):
        if claim.get("decided") is True:
            verdict = f"({verdict})"
        return [*cells, rf"\raggedright {_set_value(claim)}", _set_share(claim), verdict]
    without = rf"\raggedright {verdict}: {escape(claim['reason'])}"
    return [*cells, rf"\multicolumn{{3}}{{p{{0.3\linewidth}}}}{{{without}}}"]


def _set_share(claim: Mapping[str, Any]) -> str:
    """The share of references that satisfy the claim; -- in a file of an earlier version."""
    share = find_share(claim)
    return "--" if share is None else rf"{100 * share:.0f}\,\%"


def _set_threshold(claim: Mapping[str, Any]) -> str:
    text = format_threshold(claim["comparison"], claim["threshold"], claim["threshold_high"])
    threshold = " ".join(map(set_number, text.split()))
    return f"{threshold}, the whole interval" if is_certain(claim) else threshold


def _set_value(claim: Mapping[str, Any]) -> str:
    text = set_number(
        at_most_three_decimals(claim["value"], claim["threshold"], claim["threshold_high"])
    )
    if pd.notna(claim["low"]):
        low, high = (set_number(at_most_three_decimals(claim[end])) for end in ("low", "high"))
        text += f" [{low}, {high}]"
    return text


def _set_layers(nested: NestedCell | None, highest: HighestCell) -> str:
    """The chosen layers, as a range; without a choice that of the highest score."""
    if nested is None:
        return f"{highest.probe['layer']}"
    low, high = nested.chosen["layer"].min(), nested.chosen["layer"].max()
    return f"{low}" if low == high else f"{low}--{high}"


def write_probe_table(
    scores: pd.DataFrame, metric: str, tokens: Sequence[str], model: str, label: str
) -> Iterator[str]:
    """Lines of probe.tex: for each token the score of the chosen layer, and its controls.

    The layer is chosen in every split on the training answers (`probe.nested`); without such a
    choice at any token, it is that of the highest score. scores: tidy scores of the probe. model:
    its name. label: before the table's label.
    """
    shown = scores[scores["metric"] == metric]
    beside = [control for control in HEADS if (shown["control"] == control).any()]
    choices = {token: find_nested_cell(scores, metric, token) for token in tokens}
    chosen = any(choices.values())
    rows = []
    for token, nested in choices.items():
        cells = [rf"\texttt{{{escape(token)}}}"]
        highest = find_highest_cell(scores, metric, (token,))
        if highest is None or (chosen and nested is None):
            rows.append([*cells, *["--"] * (3 + len(beside))])
            continue
        row = (nested or highest).probe
        interval = f"[{_set_score(row['ci_low'])}, {_set_score(row['ci_high'])}]"
        cells += [_set_layers(nested, highest), _set_score(row["mean"]), interval]
        means = (nested or highest).beside["mean"]
        cells += [_set_score(means[name]) if name in means else "--" for name in beside]
        rows.append(cells)
    named = "; ".join(
        f"{escape(HEADS[name])}: {escape(CONTROLS[name])}"
        for name in beside
        if HEADS[name] != CONTROLS[name]
    )
    how = (
        "the score of the layer that is chosen for each test set, on the training answers alone, "
        "with its 95\\% interval and the layers that were chosen"
        if chosen
        else "the layer where it is highest, a selection, with the 95\\% interval of that cell"
    )
    caption = (
        f"{escape(LABELS[metric])} of the {escape(name_probe(scores))} on {escape(model)} that "
        f"detects a wrong answer: for each token {how}"
        + (f", and the controls there. {named}." if beside else ".")
    )
    yield from _write_table(
        caption,
        f"tab:{label}probe",
        "lrrl" + "r" * len(beside),
        ("Token", "Layer", escape(LABELS[metric]), r"95\% interval", *map(HEADS.get, beside)),
        rows,
        # the table of all controls fits a page of one column, 5.5 inches wide
        *(("scriptsize", 2) if len(beside) > 4 else ()),
    )


def _set_score(value: float) -> str:
    return "--" if pd.isna(value) else set_number(f"{value:.3f}")


def _write_table(
    caption: str,
    label: str,
    columns: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    size: str = "footnotesize",
    separation: int = 3,
) -> Iterator[str]:
    """A table over the whole width. All texts are LaTeX. separation: half of it, in points."""
    yield from (
        r"\begin{table*}[tp]",
        r"\centering",
        f"\\caption{{{caption}}}",
        f"\\label{{{label}}}",
        # classes for captions below leave no room between a caption and its table
        rf"\vspace{{4pt}}\{size}\setlength{{\tabcolsep}}{{{separation}pt}}",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(heads)} \\\\",
        r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
        "",
    )
