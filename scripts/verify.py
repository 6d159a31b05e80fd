"""Whether every file is as the manifest says."""

from pathlib import Path

from llm_figures.job import job, log
from llm_figures.verification import verify


def main(manifest: str) -> None:
    log.info("%d files as %s says", verify(Path(manifest)), manifest)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.params.manifest)
