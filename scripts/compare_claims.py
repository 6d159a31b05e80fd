"""Collect the claims of several models in one file and render them as Markdown."""

from collections.abc import Sequence

from llm_figures.claims.comparison import (
    find_claims_problem,
    render_claims_comparison,
    stack_claims,
)
from llm_figures.comparison.tables import read_usable_tables
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import write_frame


def main(models: dict[str, str], missing: Sequence[str], claims: str, table: str) -> None:
    """models: files of claims by model. missing: files that result folders lack."""
    tables, left_out = read_usable_tables(models, missing, find_claims_problem, "claims")
    whole = stack_claims(tables)
    write_frame(whole, claims)
    write_text(table, render_claims_comparison(whole, left_out))


if "snakemake" in globals():
    with job(snakemake):
        main(
            dict(zip(snakemake.params.names, snakemake.input.tables, strict=True)),
            snakemake.params.missing,
            snakemake.output.claims,
            snakemake.output.table,
        )
