"""The questions of the probe figure as one table, the rows that cannot be used as another."""

from llm_figures.job import job
from llm_figures.questions import load_questions
from llm_figures.tensors import write_frame


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
