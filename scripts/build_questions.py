"""Write the questions of the probe figure, and the rows of the dataset that were left out."""

from pathlib import Path

from llm_figures.core.errors import UserError
from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.questions.option_checks import name_set
from llm_figures.questions.options import Dataset
from llm_figures.questions.questions import load_questions


def main(questions: str, left_out: str, dataset: Dataset, preamble: str) -> None:
    usable, unusable = load_questions(dataset, preamble)
    write_frame(usable, questions)
    write_frame(unusable, left_out)


if "snakemake" in globals():
    with job(snakemake):
        name = Path(snakemake.wildcards.set).name
        try:
            main(
                snakemake.output.questions,
                snakemake.output.left_out,
                read_options(Dataset, snakemake.params.dataset, "config: dataset"),
                snakemake.params.preamble,
            )
        except UserError as error:
            raise UserError(name_set(str(error), name) if name else str(error)) from None
