"""Verify that every file is the one that its manifest lists."""

from llm_figures.core.errors import UserError
from llm_figures.core.job import job, log
from llm_figures.provenance.verification import verify


def main(manifests: list[str]) -> None:
    problems = []
    for manifest in manifests:
        try:
            listed, since = verify(manifest)
        except UserError as error:
            problems.append(str(error))
            continue
        log.info("%d files agree with %s", listed, manifest)
        for name, what in since.items():
            log.info("  %s: %s since; not part of the manifest's run", name, what)
    if problems:
        raise UserError("\n".join(problems))


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.params.manifests)
