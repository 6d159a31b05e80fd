"""The claims about all figures, as one table and one page."""

from llm_figures.claims.page import claims_page
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frames, write_frame


def main(claims: list[str], table: str, page: str, model: str) -> None:
    found = read_frames(claims)
    write_frame(found, table)
    write_text(page, claims_page(found, model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.claims,
            snakemake.output.claims,
            snakemake.output.page,
            snakemake.wildcards.model,
        )
