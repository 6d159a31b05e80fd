"""Evaluate claims about a figure that is a table, from the cells that its module lists."""

from collections.abc import Sequence

import pandas as pd

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import assess, build_claims_table
from llm_figures.claims.reference_tables import measure_on_tables
from llm_figures.claims.regions import build_tables, measure_table


def check_table_claims(
    model: str, claims: Sequence[FigureClaim], cells: pd.DataFrame
) -> pd.DataFrame:
    """Rows of claims/{figure}.parquet. cells: see `regions.build_tables`."""
    tables = build_tables(cells)
    references = measure_on_tables(claims, tables)

    def row(claim: FigureClaim) -> dict:
        return assess(
            model,
            claim,
            lambda: measure_table(claim, tables),
            references=lambda: references[claim.name],
        )

    return build_claims_table([row(claim) for claim in claims])
