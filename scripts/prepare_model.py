"""Make a model loadable without a network and describe it in its model info."""

import json

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.result_folders import name_model
from llm_figures.models.sources import prepare_model


def main(model_info: str, name: str, entry: dict) -> None:
    write_text(model_info, json.dumps(prepare_model(name, entry), indent=2) + "\n")


if "snakemake" in globals():
    with job(snakemake):
        name = name_model(snakemake.wildcards.model, snakemake.config["run"])
        main(snakemake.output.model_info, name, snakemake.params.entry)
