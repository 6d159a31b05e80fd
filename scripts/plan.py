"""Print the plan: the jobs to run, and the memory, disk and time of each stage."""

from llm_figures.core.job import job, log
from llm_figures.workflow.planning import dry_run, format_plan


def main(run: dict, prefix: str, config: dict, models: dict, protocols: dict) -> None:
    target = f"{prefix}figures"
    jobs = dry_run(target, **run)
    own = [job._replace(rule=job.rule.removeprefix(prefix)) for job in jobs]
    for line in format_plan(config, models, protocols, own):
        print(line)
    log.info("%d of %d jobs of %s would run", sum(job.to_run for job in jobs), len(jobs), target)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.params.run,
            # prefix of rule names in a Snakefile that imports this one as a module
            snakemake.rule.removesuffix("plan"),
            snakemake.config,
            snakemake.params.models,
            snakemake.params.protocols,
        )
