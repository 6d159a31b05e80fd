"""Copy the PDF of a figure for a paper, and write the data that it shows as CSV."""

from pathlib import Path

from llm_figures.core.atomic_files import whole_file, write_text
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.paper.stated_figures import read_stated, select_shown


def main(pdf: str, numbers: str, scores: str, copied: str, csv: str, model: str) -> None:
    stated = read_stated(Path(numbers).read_text(encoding="utf-8"), numbers, model)
    shown = select_shown(read_frame(scores), stated, scores)
    with whole_file(copied) as partial:
        partial.write_bytes(Path(pdf).read_bytes())
    write_text(csv, shown.to_csv(index=False))  # floats are written so that they read back the same
    log.info("%s: %d rows", csv, len(shown))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.pdf,
            snakemake.input.numbers,
            snakemake.input.scores,
            snakemake.output.pdf,
            snakemake.output.csv,
            snakemake.params.model,
        )
