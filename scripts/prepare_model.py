"""Make the model loadable without a network and describe it in a card."""

import json

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
from llm_figures.models.sources import prepare


def main(card: str, name: str, entry: dict) -> None:
    described = prepare(name, entry)
    with whole_file(card) as partial:
        partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.output.card, snakemake.wildcards.model, snakemake.params.entry)
