"""Plan a run: Snakemake's dry run lists the jobs, `resources` estimates what they need."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from snakemake.api import SnakemakeApi
from snakemake.settings import types as settings
from snakemake.settings.enums import Quietness

from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes, format_count, format_duration
from llm_figures.workflow import pass_costs, resources
from llm_figures.workflow.model_size import ASSUMED, ModelSize, find_model_size
from llm_figures.workflow.resources import Need
from llm_figures.workflow.workload import Workload, describe_workload

SMALL = "small jobs"  # of rules without a row in resources.TABLE
HEADER = (
    "stage",
    "jobs",
    "to run",
    "cores",
    "memory",
    "GPUs",
    "disk",
    "time per job",
    "total time",
)
SILENT = settings.OutputSettings(
    dryrun=True,
    quiet={Quietness.RULES, Quietness.PROGRESS},  # and no scheduler
    enable_file_logging=False,
    log_level_override=logging.CRITICAL + 1,
)


class Job(NamedTuple):
    """A job of a dry run."""

    rule: str
    wildcards: Mapping[str, str]
    threads: int
    memory: int  # bytes that it requests
    to_run: bool


def dry_run(
    target: str,
    snakefile: str,
    config: settings.ConfigSettings,
    dag: settings.DAGSettings,
    cores: int,
) -> list[Job]:
    """All jobs for a target in the current folder, each after those that it depends on.

    config, dag: settings of the run to plan; the targets of dag are not used.

    Raises:
        UserError: the Snakefile stops with an error, or a file is missing that no rule makes.
    """
    try:
        with SnakemakeApi(SILENT) as api:
            workflow = api.workflow(
                settings.ResourceSettings(cores=cores), config, snakefile=Path(snakefile)
            )
            workflow.dag(replace(dag, targets={target})).execute_workflow(
                executor="dryrun", execution_settings=settings.ExecutionSettings(lock=False)
            )
            jobs = workflow._workflow.dag  # the API has no access to jobs
            return [
                Job(
                    rule=job.rule.name,
                    wildcards=job.wildcards_dict,
                    threads=job.threads,
                    memory=int(1e6 * job.resources.get("mem_mb", 0)),
                    to_run=jobs.needrun(job),
                )
                for level in jobs.toposorted()
                for job in sorted(level, key=lambda job: job.rule.name)
                if not job.rule.norun  # a target
            ]
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split())
        if not isinstance(error, SystemExit):
            message = f"{type(error).__name__}: {message}"
        raise UserError(f"the dry run of {target} fails: {message[:400]}") from error


def format_plan(
    config: Mapping,
    models: Mapping[str, Mapping],
    protocols: Mapping[str, Mapping],
    jobs: Sequence[Job],
) -> Iterator[str]:
    """Lines of the plan: a table for each model, totals, and the assumptions behind them.

    config: checked and complete. models: {name: entry}. protocols: see `list_protocols`. jobs: as
    from `dry_run`.
    """
    asked = dict.fromkeys(["", *map(_find_set, jobs)])
    works = {name: describe_workload(config, protocols, name) for name in asked}
    work = works[""]
    sizes = {name: find_model_size(name, entry) for name, entry in models.items()}
    peak = seconds = gpu_seconds = 0.0
    for name, size in sizes.items():
        needed = [
            (job, _need(job, size, works[_find_set(job)]))
            for job in jobs
            if job.wildcards.get("model") == name
        ]
        if not needed:  # a checkpoint to compare with, which is not in this run
            continue
        yield from (*_model_lines(name, size, work), "", *_table(needed), "")
        peak += sum(need.disk for _, need in needed)
        seconds += sum(need.seconds for job, need in needed if job.to_run)
        gpu_seconds += sum(need.seconds * need.gpus for job, need in needed if job.to_run)
    gpu_hours = f", {gpu_seconds / 3600:.1f} GPU hours" if gpu_seconds else ""
    yield (
        f"Total: {sum(job.to_run for job in jobs)} of {len(jobs)} jobs to run, "
        f"{_round_up(seconds)} one after the other{gpu_hours}; {format_bytes(peak)} of disk at the "
        "end, which is the peak, since no file is deleted before."
    )
    yield from _assumptions(work, sizes)


def _find_set(job: Job) -> str:
    """The further set of questions that a job is about; "" for the run's own."""
    return Path(job.wildcards.get("set", "")).name


def _need(job: Job, size: ModelSize, work: Workload) -> Need:
    protocol = job.wildcards.get("protocol", "scores")
    need = resources.estimate(job.rule, size, work, job.threads, protocol)
    return need._replace(memory=job.memory or need.memory)


def _model_lines(name: str, size: ModelSize, work: Workload) -> Iterator[str]:
    gpus = pass_costs.gpus_needed(size, work)
    dtype = {4: "float32", 2: "16 bits"}[pass_costs.parameter_bytes(size, work, gpus > 0)]
    yield (
        f"{name}: {format_count(size.parameters)} parameters, {size.layers} layers, "
        f"hidden size {size.hidden_size} ({size.origin}), in {dtype}"
    )
    if not gpus:
        yield "  on the CPU, or on a GPU of this machine (no GPU is requested)"
        return
    needed = pass_costs.gpu_bytes(size, work)
    yield (
        f"  on {gpus} GPU(s) of {work.gpu_memory_gb:g} GB: weights and a batch of "
        f"{work.batch_size} take at most {format_bytes(needed)}"
    )
    if gpus > 1 and work.device_map is None:
        yield f"  ! device_map is null, so one GPU is used; set device_map: auto for {gpus} GPUs"
    elif needed > gpus * work.gpu_memory_gb * 1e9 * pass_costs.GPU_SHARE:
        yield "  ! that is more than these GPUs have; set a smaller batch_size or more gpus"


def _table(needed: Sequence[tuple[Job, Need]]) -> Iterator[str]:
    """A row for each rule, in the order of the jobs; small jobs share a row at the end."""
    groups: dict[str, list[tuple[Job, Need]]] = {}
    for job, need in sorted(needed, key=lambda pair: pair[0].rule not in resources.TABLE):
        groups.setdefault(job.rule if job.rule in resources.TABLE else SMALL, []).append(
            (job, need)
        )
    rows = [HEADER]
    for rule, group in groups.items():
        jobs, needs = zip(*group, strict=True)
        to_run = [need for job, need in group if job.to_run]
        rows.append(
            (
                rule,
                str(len(group)),
                str(len(to_run)),
                str(max(job.threads for job in jobs)),
                format_bytes(max(need.memory for need in needs)),
                str(max(need.gpus for need in needs) or "-"),
                format_bytes(sum(need.disk for need in needs)),
                _round_up(max(need.seconds for need in needs)),
                _round_up(sum(need.seconds for need in to_run)),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join(("", first.ljust(widths[0]), *padded))


def _round_up(seconds: float) -> str:
    unit = 60 if seconds > 59 else 1
    return format_duration(unit * math.ceil(seconds / unit))


def _assumptions(work: Workload, sizes: Mapping[str, ModelSize]) -> Iterator[str]:
    prompt = work.prompts["answer"]
    yield "These are upper bounds. They assume:"
    yield (
        f"  {work.questions:,} questions ({work.origin}) in {work.shards} shard(s); prompts of "
        f"{prompt.shared} shared and {prompt.own} further tokens, answers of {prompt.new} tokens; "
        f"texts of up to {max((*work.texts, *work.map_texts))} tokens"
    )
    rate = f"{pass_costs.CPU_RATE / 1e9:g} Gflop/s per core"
    if any(pass_costs.gpus_needed(size, work) for size in sizes.values()):
        single, half = (pass_costs.GPU_RATE[size] / 1e12 for size in (4, 2))
        bandwidth = pass_costs.GPU_BANDWIDTH / 1e12
        rate = f"{half:g} (float32: {single:g}) Tflop/s and {bandwidth:g} TB/s per GPU"
    yield (
        f"  {rate}; weights read at {format_bytes(pass_costs.STORAGE)}/s, downloaded at "
        f"{format_bytes(pass_costs.DOWNLOAD)}/s"
    )
    yield (
        f"Jobs request at least {format_duration(resources.SHORTEST)}; a job that was killed is "
        "retried with twice the time and one and a half times the memory."
    )
    if any(size.origin == ASSUMED for size in sizes.values()):
        yield "! The model's size is not known; add a shape to its entry in config/models.yaml."
