"""Collect the claims about all figures in one table and render them as Markdown."""

from llm_figures.claims.evaluation import build_claims_table
from llm_figures.claims.page import render_claims_page
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frames, write_frame


def main(claims: list[str], table: str, page: str, model: str) -> None:
    """claims: the tables of the figures that there are claims about, which may be none."""
    whole = read_frames(claims) if claims else build_claims_table([])
    write_frame(whole, table)
    write_text(page, render_claims_page(whole, model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            list(snakemake.input.claims),
            snakemake.output.claims,
            snakemake.output.page,
            snakemake.wildcards.model,
        )
