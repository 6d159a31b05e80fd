"""Put the scores of all presets into one table."""

import pandas as pd

from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.probe.protocol import PRESETS


def main(files: dict[str, str], scores: str) -> None:
    """files: {preset: its file of scores}."""
    tables = [read_frame(file).assign(preset=preset) for preset, file in files.items()]
    write_frame(pd.concat(tables, ignore_index=True), scores)


if "snakemake" in globals():
    with job(snakemake):
        main({preset: snakemake.input[preset] for preset in PRESETS}, snakemake.output.scores)
