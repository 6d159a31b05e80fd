"""Compare the figures drawn from an archive with those in it, byte for byte."""

import json
from pathlib import Path

from llm_figures.core.atomic_files import write_text
from llm_figures.core.checksums import sha256
from llm_figures.core.job import job, log
from llm_figures.provenance.bundle import compare_redraw, read_bundle


def main(bundle: str, figures: list[str], output: str, libraries: dict, changed: list[str]) -> None:
    drawn = {path.name: sha256(path) for path in map(Path, figures)}
    record, line = compare_redraw(read_bundle(bundle), drawn, libraries, changed)
    write_text(output, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    log.info("%s", line)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.bundle,
            list(snakemake.input.figures),
            snakemake.output.record,
            snakemake.params.libraries,
            snakemake.params.changed,
        )
