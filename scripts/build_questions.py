"""The questions of the probe figure as one table, the rows that cannot be used as another."""

from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.questions.questions import load_questions


def main(questions: str, left_out: str, dataset: dict, preamble: str) -> None:
    usable, unusable = load_questions(dataset, preamble)
    write_frame(usable, questions)
    write_frame(unusable, left_out)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.output.questions,
            snakemake.output.left_out,
            snakemake.params.dataset,
            snakemake.params.preamble,
        )
