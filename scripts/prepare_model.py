"""Make a model loadable without a network and describe it in its model info."""

import json

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.models.sources import prepare_model


def main(model_info: str, name: str, entry: dict) -> None:
    write_text(model_info, json.dumps(prepare_model(name, entry), indent=2) + "\n")


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.output.model_info, snakemake.wildcards.model, snakemake.params.entry)
