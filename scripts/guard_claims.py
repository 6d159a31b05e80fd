"""Fail if a claim that the config guards is not reproduced; the files of claims are kept."""

from llm_figures.claims.page import guard
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frames


def main(claims: list[str], output: str, guarded: list[str]) -> None:
    write_text(output, guard(read_frames(claims), guarded, claims[0]))


if "snakemake" in globals():
    with job(snakemake):
        main(list(snakemake.input.claims), snakemake.output[0], snakemake.params.guarded)
