"""Evaluate claims about a figure that is a table, from the cells that its module lists."""

from collections.abc import Mapping, Sequence

import pandas as pd

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import Spread, assess, build_claims_table
from llm_figures.claims.reference_tables import measure_on_tables
from llm_figures.claims.regions import Region, Table, build_tables, measure_table


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
            lambda: _find_interval(claim, tables),
            references=lambda: references[claim.name],
        )

    return build_claims_table([row(claim) for claim in claims])


def _find_interval(claim: FigureClaim, tables: Mapping[str, Table]) -> Spread | None:
    """The interval of the cell that a claim is about, if it is about a single one."""
    if claim.minus or claim.versus or not isinstance(claim.cells, Region):
        return None
    cells = tables[claim.cells.control or "none"].select(claim.cells, claim.published)
    if cells.values.size != 1 or cells.low is None:
        return None
    return Spread([cells.low.item(), cells.high.item()], "95% interval", counted=False)
