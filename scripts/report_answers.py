"""Write a page about the judged answers, for people to check."""

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.questions.answers_report import render_answers_report


def main(answers: str, left_out: str, report: str, seed: int) -> None:
    write_text(report, render_answers_report(read_frame(answers), read_frame(left_out), seed=seed))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.left_out,
            snakemake.output.report,
            snakemake.params.seed,
        )
