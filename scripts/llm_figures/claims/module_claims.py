"""Claims about the module map."""

from collections.abc import Mapping, Sequence

import pandas as pd

from llm_figures.claims.evaluation import Spread, assess, attempt, claim_rows
from llm_figures.claims.regions import Table, colour_positions, measure_table, table_of
from llm_figures.modules.metrics import METRICS
from llm_figures.modules.scores import scores_of_measure


def module_claims(
    model: str,
    claims: Sequence[Mapping],
    scores: pd.DataFrame,
    measured: pd.DataFrame | None,
    metric: str,
) -> pd.DataFrame:
    """Rows of claims.parquet for the module map.

    scores: tidy scores, layer × module × metric. measured: what they were made from, text by text,
    for the spread over texts; None for a metric without texts. Values are places on the figure's
    colour scale, from 0 to 1 (see `regions.colour_positions`): models differ in the size
    of the numbers, the published statements are about colours.
    """
    table = _table(scores, metric)
    measure = METRICS[metric].measure
    texts = [
        {"none": _table(scores_of_measure(measure, {measure: part}, metric), metric)}
        for _, part in (() if measured is None else measured.groupby("text"))
    ]

    def row(claim: Mapping) -> dict:
        def spread() -> Spread | None:
            if not texts:
                return None
            values = [attempt(claim, measure_table, tables) for tables in texts]
            return Spread(values, f"range over {len(values)} texts")

        return assess(model, claim, lambda: measure_table(claim, {"none": table}), spread)

    return claim_rows([row(claim) for claim in claims])


def _table(scores: pd.DataFrame, metric: str) -> Table:
    table = table_of(scores[scores["metric"] == metric], "projection", "value")
    return Table(table.columns, table.layers, colour_positions(table.values))
