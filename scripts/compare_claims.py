"""The claims of several models in one file, and as a table for people."""

from collections.abc import Sequence

from llm_figures.claims.comparison import claims_table, stacked_claims, unusable_claims
from llm_figures.comparison.tables import usable_tables
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import write_frame


def main(models: dict[str, str], missing: Sequence[str], claims: str, table: str) -> None:
    """models: files of claims by name. missing: those that a folder lacks."""
    tables, left_out = usable_tables(models, missing, unusable_claims, "claims")
    whole = stacked_claims(tables)
    write_frame(whole, claims)
    write_text(table, claims_table(whole, left_out))


if "snakemake" in globals():
    with job(snakemake):
        main(
            dict(zip(snakemake.params.names, snakemake.input.tables, strict=True)),
            snakemake.params.missing,
            snakemake.output.claims,
            snakemake.output.table,
        )
