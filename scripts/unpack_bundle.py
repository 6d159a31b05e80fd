"""Unpack an archive's files, except its figures."""

from pathlib import Path

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
from llm_figures.core.result_folders import RESULTS
from llm_figures.provenance.bundle import read_members


def main(bundle: str, folder: Path, files: list[str]) -> None:
    members = read_members(bundle)
    for file in map(Path, files):
        with whole_file(file) as partial:
            partial.write_bytes(members[file.relative_to(folder).as_posix()])


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.bundle,
            RESULTS / snakemake.wildcards.model,
            list(snakemake.output),
        )
