"""Score the module map: its metrics, one value per layer and projection."""

from collections.abc import Mapping, Sequence

import pandas as pd

from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.models.model_info import read_model_info
from llm_figures.modules.metrics import METRICS
from llm_figures.modules.scores import compute_scores


def main(model_info: str, measured: Mapping[str, str], scores: str, metrics: Sequence[str]) -> None:
    """measured: {measure: its file} for the measures of the metrics."""
    tables = {measure: read_frame(path) for measure, path in measured.items()}
    known = read_model_info(model_info)
    parts = [compute_scores(METRICS[name].measure, tables, name, known) for name in metrics]
    write_frame(pd.concat(parts, ignore_index=True), scores)


if "snakemake" in globals():
    with job(snakemake):
        measured = dict(snakemake.input.items())
        main(
            measured.pop("model_info"),
            measured,
            snakemake.output.scores,
            snakemake.params.metrics,
        )
