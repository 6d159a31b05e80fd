"""Write the manifest: the run's files, and the model, config, code and jobs that made them."""

import json
from collections.abc import Sequence
from pathlib import Path

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.models.model_info import read_model_info
from llm_figures.provenance.manifest import build_manifest, describe_versions


def main(
    model_info: str,
    output: str,
    config: dict,
    stages: dict[str, list[str]],
    passing: Sequence[str] = (),
    earlier: str | None = None,
) -> None:
    """passing: files of the run that are deleted once all that reads them is made.

    earlier: model.json of the checkpoint that the model's weights are compared with.
    """
    compared = read_model_info(earlier) if earlier else None
    folder, model = Path(output).parent, read_model_info(model_info)
    content = build_manifest(folder, model, config, stages, compared, passing)
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    write_text(output, text + "\n")
    log.info("%d files listed", len(content["files"]))
    for line in describe_versions(content["versions"]):
        log.info("versions %s", line)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.manifest,
            snakemake.params.config,
            snakemake.params.stages,
            snakemake.params.passing,
            snakemake.input.get("earlier"),
        )
