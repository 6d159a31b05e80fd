"""Make the model loadable without a network and describe it in a card."""

import json

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.models.sources import prepare


def main(card: str, name: str, entry: dict) -> None:
    described = prepare(name, entry)
    write_text(card, json.dumps(described, indent=2) + "\n")


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.output.card, snakemake.wildcards.model, snakemake.params.entry)
