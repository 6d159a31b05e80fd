"""The claims and the probe as booktabs tables.

Each is a float over the whole width of the page, for a longtable stops a document of two columns.
Claims are divided by figure, and further where one table would be longer than a page.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from llm_figures.claims.definitions import format_threshold
from llm_figures.core.numbers import at_most_three_decimals
from llm_figures.paper.latex_text import escape, set_number
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.controls import CONTROLS, LABELS
from llm_figures.probe.protocol_text import name_probe

# Lines of a table that fit on a page, and letters in one line of a statement or of a reason.
PAGE_LINES = 40
LINE_LETTERS = {"statement": 42, "reason": 28}
# Heads of the columns of the probe's table; the caption explains them.
HEADS = {
    "embeddings": "embed.",
    "shuffled_within_group": "in group",
    "group_only": "group",
    "shuffled_labels": "shuffled",
    "answer_log_probability": "answer",
    "exact_answer_log_probability": "exact",
    "p_true": "p(true)",
}


def write_claims_tables(claims: pd.DataFrame, label: str) -> Iterator[str]:
    """Lines of claims.tex: a table for each figure, or several. label: before all labels."""
    for figure, part in claims.groupby("figure", sort=False):
        pages = list(_divide(part.to_dict("records")))
        for number, page in enumerate(pages, start=1):
            of = f" ({number} of {len(pages)})" if len(pages) > 1 else ""
            caption = (
                f"Statements about \\texttt{{{escape(figure)}}}, checked on this model{of}. The "
                "range after a value is over inputs, texts or bootstrap resamples."
            )
            own = label if number == 1 else f"{label}{number}-"
            yield from _write_table(
                caption,
                f"tab:{own}claims-{figure}",
                r"p{0.36\linewidth}p{0.15\linewidth}p{0.1\linewidth}p{0.15\linewidth}l",
                ("Statement", "Statistic", "Threshold", "Value", "Verdict"),
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
    """How many are printed; one that LaTeX cannot set is printed as its code, U+4E2D."""
    if pd.isna(text):
        return 0
    return len(text) + 5 * escape(text).count(r"\llmletter")


def _write_claim(claim: Mapping[str, Any]) -> list[str]:
    cells = [
        rf"\raggedright {escape(claim['statement'])}",
        rf"\raggedright {escape(claim['statistic'].replace('_', ' '))}",
        rf"\raggedright {_set_threshold(claim)}",
    ]
    verdict = escape(claim["verdict"])
    if pd.isna(claim["reason"]):
        return [*cells, rf"\raggedright {_set_value(claim)}", verdict]
    without = rf"\raggedright {verdict}: {escape(claim['reason'])}"
    return [*cells, rf"\multicolumn{{2}}{{p{{0.26\linewidth}}}}{{{without}}}"]


def _set_threshold(claim: Mapping[str, Any]) -> str:
    text = format_threshold(claim["comparison"], claim["threshold"], claim["threshold_high"])
    return " ".join(map(set_number, text.split()))


def _set_value(claim: Mapping[str, Any]) -> str:
    text = set_number(
        at_most_three_decimals(claim["value"], claim["threshold"], claim["threshold_high"])
    )
    if pd.notna(claim["low"]):
        low, high = (set_number(at_most_three_decimals(claim[end])) for end in ("low", "high"))
        text += f" [{low}, {high}]"
    return text


def write_probe_table(
    scores: pd.DataFrame, metric: str, tokens: Sequence[str], model: str, label: str
) -> Iterator[str]:
    """Lines of probe.tex: for each token the probe's best layer, its score and the controls.

    scores: tidy scores of the probe. model: its name. label: before the table's label.
    """
    shown = scores[scores["metric"] == metric]
    beside = [control for control in CONTROLS if (shown["control"] == control).any()]
    rows = []
    for token in tokens:
        cells = [rf"\texttt{{{escape(token)}}}"]
        best = find_best_cell(scores, metric, (token,))
        if best is None:
            rows.append([*cells, *["--"] * (3 + len(beside))])
            continue
        row = best.probe
        interval = f"[{_set_score(row['ci_low'])}, {_set_score(row['ci_high'])}]"
        cells += [f"{row['layer']}", _set_score(row["mean"]), interval]
        means = best.beside["mean"]
        cells += [_set_score(means[name]) if name in means else "--" for name in beside]
        rows.append(cells)
    named = "; ".join(
        f"{escape(HEADS[name])}: {escape(CONTROLS[name])}"
        for name in beside
        if HEADS[name] != CONTROLS[name]
    )
    caption = (
        f"{escape(LABELS[metric])} of the {escape(name_probe(scores))} on {escape(model)} that "
        "detects a wrong answer: for each token the layer where it is highest, with the 95\\% "
        "interval of that cell"
        + (f", and the controls in the same cell. {named}." if beside else ".")
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
