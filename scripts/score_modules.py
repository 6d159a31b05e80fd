"""One score per layer and module."""

from llm_figures.job import job
from llm_figures.module_scores import operation_strength
from llm_figures.tensors import read_frame, write_frame


def main(activity: str, scores: str) -> None:
    write_frame(operation_strength(read_frame(activity)), scores)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.input.activity, snakemake.output.scores)
