"""Evaluate claims about the module map."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import Spread, assess, attempt, build_claims_table
from llm_figures.claims.reference_tables import measure_on_tables
from llm_figures.claims.regions import Table, build_table, measure_table, place_on_colours
from llm_figures.modules.metrics import METRICS
from llm_figures.modules.scores import compute_scores


def check_module_claims(
    model: str,
    claims: Sequence[FigureClaim],
    scores: pd.DataFrame,
    measured: pd.DataFrame | None,
    metric: str,
) -> pd.DataFrame:
    """Rows of claims.parquet for the module map.

    scores: tidy scores, layer × projection × metric. measured: the measurements behind them, by
    text, for the spread over texts; None for a metric without texts.

    The published statements are about colours, and models differ in the size of the numbers, so
    values are positions on the figure's colour scale, from 0 to 1 (see
    `regions.place_on_colours`).
    """
    numbers = build_table(scores[scores["metric"] == metric], "projection", "value")
    table = _place(numbers)
    references = measure_on_tables(claims, {"none": numbers}, place=_place)
    measure = METRICS[metric].measure
    texts = [
        {"none": _table(compute_scores(measure, {measure: part}, metric), metric)}
        for _, part in (() if measured is None else measured.groupby("text"))
    ]

    def row(claim: FigureClaim) -> dict:
        def spread() -> Spread | None:
            if not texts:
                return None
            values = [attempt(claim, measure_table, tables) for tables in texts]
            return Spread(values, f"range over {len(values)} texts")

        return assess(
            model,
            claim,
            lambda: measure_table(claim, {"none": table}),
            spread,
            references=lambda: references[claim.name],
        )

    return build_claims_table([row(claim) for claim in claims])


def _table(scores: pd.DataFrame, metric: str) -> Table:
    return _place(build_table(scores[scores["metric"] == metric], "projection", "value"))


def _place(table: Table) -> Table:
    return replace(table, values=place_on_colours(table.values))
