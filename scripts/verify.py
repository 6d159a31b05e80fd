"""Verify that every file is the one that its manifest lists."""

from llm_figures.core.errors import UserError
from llm_figures.core.job import job, log
from llm_figures.provenance.verification import find_changed_options, verify


def main(manifests: list[str], config: dict, command: str) -> None:
    """config, command: of this run, see `verify`."""
    problems = []
    for manifest in manifests:
        try:
            listed, since = verify(manifest, config, command)
        except UserError as error:
            problems.append(str(error))
            continue
        log.info("%d files agree with %s", listed, manifest)
        for name, what in since.items():
            log.info("  %s: %s since; not part of the manifest's run", name, what)
        if keys := find_changed_options(manifest, config):
            log.info("  options of this run differ from the manifest's: %s", ", ".join(keys))
    if problems:
        raise UserError("\n".join(problems))


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.params.manifests, snakemake.config, snakemake.params.command)
