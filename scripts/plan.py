"""What would run, and the memory, disk and time of each stage."""

from llm_figures.core.job import job, log
from llm_figures.workflow.planning import dry_run, plan


def main(arguments: list[str], config: dict, models: dict, protocols: dict) -> None:
    target = "figures"
    every, now = dry_run(arguments, target, everything=True), dry_run(arguments, target)
    for line in plan(config, models, protocols, every, now):
        print(line)
    log.info("%d of %d jobs of %s would run", len(now), len(every), target)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.params.arguments,
            snakemake.config,
            snakemake.params.models,
            snakemake.params.protocols,
        )
