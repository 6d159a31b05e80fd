"""Fail where a claim that the config guards is not reproduced; the claims themselves are kept."""

from llm_figures.claims.page import guard
from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
from llm_figures.core.parquet_tensors import read_frame


def main(claims: str, output: str, guarded: list[str]) -> None:
    text = guard(read_frame(claims), guarded, claims)
    with whole_file(output) as partial:
        partial.write_text(text, encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.input.claims, snakemake.output[0], snakemake.params.guarded)
