"""The claims about all figures, as one table and one page."""

import pandas as pd

from llm_figures.claims.page import claims_page
from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(claims: list[str], table: str, page: str, model: str) -> None:
    found = pd.concat([read_frame(path) for path in claims], ignore_index=True)
    write_frame(found, table)
    with whole_file(page) as partial:
        partial.write_text(claims_page(found, model), encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.claims,
            snakemake.output.claims,
            snakemake.output.page,
            snakemake.wildcards.model,
        )
