"""Write a page that compares a fine-tuned model's answers with those of its base."""

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.questions.training_page import render_training_page, tabulate_training


def main(questions: str, before: str, after: str, page: str, model: str, base: str) -> None:
    columns = ["question", "correct"]
    table = tabulate_training(
        read_frame(questions), read_frame(before, columns), read_frame(after, columns)
    )
    write_text(page, render_training_page(table, model, base))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.questions,
            snakemake.input.before,
            snakemake.input.after,
            snakemake.output.page,
            snakemake.wildcards.model,
            snakemake.params.base,
        )
