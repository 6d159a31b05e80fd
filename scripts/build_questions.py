"""The questions of the probe figure as one table."""

from llm_figures.job import job
from llm_figures.questions import load_questions
from llm_figures.tensors import write_frame


def main(questions: str, dataset: dict, preamble: str) -> None:
    write_frame(load_questions(dataset, preamble), questions)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.output.questions, snakemake.params.dataset, snakemake.params.preamble)
