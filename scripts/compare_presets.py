"""The scores of both presets in one table."""

import pandas as pd

from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(strict: str, published: str, scores: str) -> None:
    parts = {"strict": read_frame(strict), "published": read_frame(published)}
    tables = [table.assign(preset=preset) for preset, table in parts.items()]
    write_frame(pd.concat(tables, ignore_index=True), scores)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.input.strict, snakemake.input.published, snakemake.output.scores)
