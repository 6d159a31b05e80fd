"""Evaluate claims about a figure that is a table, from the cells that its module lists."""

from collections.abc import Sequence

import pandas as pd

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import assess, build_claims_table
from llm_figures.claims.regions import build_tables, measure_table


def check_table_claims(
    model: str, claims: Sequence[FigureClaim], cells: pd.DataFrame
) -> pd.DataFrame:
    """Rows of claims/{figure}.parquet. cells: see `regions.build_tables`."""
    tables = build_tables(cells)
    return build_claims_table(
        [assess(model, claim, lambda claim=claim: measure_table(claim, tables)) for claim in claims]
    )
