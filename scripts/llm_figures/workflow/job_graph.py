"""The jobs of a run and the files that it is asked for, from Snakemake's own graph of jobs."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from llm_figures.workflow.resources import Need
from llm_figures.workflow.run_progress import Task, expected_seconds, read_benchmark
from llm_figures.workflow.run_summary import State

# Wildcards that say nothing to a reader: parts of a whole are counted.
UNNAMED = ("model", "shard", "shards", "part", "parts")
PAGES = (".md", ".html")
FIRST = ("answers.md", "claims.md", "report.html")


def list_tasks(dag, estimate: Callable[[object], Need]) -> dict[int, Task]:
    """{Snakemake's id: task} of all jobs that are to make files.

    estimate: what a job needs.
    """
    # targets, plan and verify make none
    jobs = [job for job in dag.needrun_jobs() if not job.is_group() and job.output]
    several = len({job.wildcards_dict.get("model") for job in jobs} - {None}) > 1
    return {dag.jobid(job): _describe(job, dag, estimate, several) for job in jobs}


def _describe(job, dag, estimate: Callable[[object], Need], several: bool) -> Task:
    """A job and the time that it is expected to take; several: whether to name its model."""
    # a set of questions is a folder, of which the name says enough
    named = {
        key: PurePosixPath(value).name
        for key, value in job.wildcards_dict.items()
        if key not in UNNAMED and value
    }
    model = [job.wildcards_dict["model"]] if several and "model" in job.wildcards_dict else []
    measured = read_benchmark(job.benchmark and str(job.benchmark))
    return Task(
        rule=job.rule.name,
        detail=" ".join([*named.values(), *model]),
        seconds=expected_seconds(estimate(job)) if measured is None else measured,
        measured=measured is not None,
        threads=job.threads,
        local=job.is_local,
        after=frozenset(map(dag.jobid, dag.dependencies[job])),
        logs=tuple(map(str, job.log)),
        benchmark=job.benchmark and str(job.benchmark),
    )


def list_files(dag) -> tuple[dict[str, State], list[str]]:
    """({file that a target asks for: what became of it}, pages to read, the first ones first)."""
    makers = {str(file): job for job in dag.jobs for file in job.output}

    def state(file: str) -> State:
        job = makers.get(file)
        if job is None or not dag.needrun(job):
            return "there"
        return "made" if dag.finished(job) else "missing"

    targets = sorted(dag.targetjobs, key=dag.jobid)
    asked = [str(file) for job in targets for file in job.output or job.input]
    made = (job for level in dag.toposorted() for job in sorted(level, key=dag.jobid))
    pages = (str(file) for job in made for file in job.output if str(file).endswith(PAGES))
    ready = [page for page in pages if state(page) != "missing" and Path(page).exists()]
    order = {name: rank for rank, name in enumerate(FIRST)}
    ready.sort(key=lambda page: order.get(Path(page).name, len(order)))
    return {file: state(file) for file in asked}, ready
