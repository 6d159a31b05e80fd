"""Put the scores of both presets into one table."""

import pandas as pd

from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(strict: str, published: str, scores: str) -> None:
    files = {"strict": strict, "published": published}
    tables = [read_frame(file).assign(preset=preset) for preset, file in files.items()]
    write_frame(pd.concat(tables, ignore_index=True), scores)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.input.strict, snakemake.input.published, snakemake.output.scores)
