"""What a run would take: Snakemake's own dry run says which jobs, `resources` what they need."""

import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from llm_figures.core.errors import UserError
from llm_figures.workflow import resources
from llm_figures.workflow.resources import Need, Shape, Work

# Rows of the table, in the order of the flow; the other rules are small and counted together.
STAGES = (
    "prepare_model",
    "finetune_model",
    "extract_attention_states",
    "extract_altered_states",
    "extract_choice_states",
    "measure_modules",
    "ablate_modules",
    "measure_updates",
    "measure_quantization",
    "generate_answers",
    "quote_answers",
    "extract_hidden_states",
    "extract_module_states",
    "ask_p_true",
    "score_probes",
    "score_module_probes",
)
SMALL = "small ones"
HEADER = ("stage", "jobs", "to run", "cores", "memory", "GPUs", "disk", "time each", "time in all")


class Job(NamedTuple):
    """A job of a dry run; memory and GPUs as it would ask for them, by default none."""

    rule: str
    wildcards: dict[str, str]
    threads: int
    resources: dict[str, str]

    @property
    def key(self) -> tuple:
        return (self.rule, *sorted(self.wildcards.items()))


def dry_run(arguments: Sequence[str], target: str, everything: bool = False) -> list[Job]:
    """The jobs that Snakemake would run for `target`, without the target's own.

    everything: also those whose files are there.

    Raises:
        UserError: Snakemake refuses.
    """
    command = [sys.executable, "-m", "snakemake", target, *arguments, "--dry-run", "--nocolor"]
    done = subprocess.run(
        command + ["--forceall"] * everything,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        start = next((at for at, line in enumerate(lines) if re.search("Error|Exception", line)), 0)
        raise UserError(f"the dry run of {target} fails: {' '.join(lines[start:])[:400]}")
    return [job for job in jobs_of(done.stdout) if job.rule != target]


def jobs_of(output: str) -> Iterator[Job]:
    """The jobs that a dry run has printed."""
    for block in re.findall(r"^(?:local)?rule \w+:\n(?: {4}.*\n)*", output, re.MULTILINE):
        lines = dict(re.findall(r"^ {4}(\w+): (.*)$", block, re.MULTILINE))
        yield Job(
            rule=re.findall(r"rule (\w+):", block)[0],
            wildcards=_pairs(lines.get("wildcards", "")),
            threads=int(lines.get("threads", 1)),
            resources=_pairs(lines.get("resources", "")),
        )


def _pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(", ") if "=" in part)


def plan(
    config: Mapping,
    models: Mapping[str, Mapping],
    protocols: Mapping[str, Mapping],
    every: Sequence[Job],
    now: Sequence[Job],
) -> Iterator[str]:
    """Lines of the plan: a table for each model, totals, and what they rest on.

    every: all jobs of the run; now: those of them that would run.
    """
    work = resources.workload(config, protocols)
    shapes = {name: resources.model_shape(name, entry) for name, entry in models.items()}
    waiting = {job.key for job in now}
    peak, hours, gpu_hours = 0, 0.0, 0.0
    for name, shape in shapes.items():
        own = [job for job in every if job.wildcards.get("model") == name]
        if not own:  # compared with, but not in this run
            continue
        needs = {job.key: _need(job, shape, work) for job in own}
        yield from _model_lines(name, shape, work)
        yield ""
        yield from _table(own, needs, waiting)
        yield ""
        peak += sum(need.disk_mb for need in needs.values())
        todo = [needs[job.key] for job in own if job.key in waiting]
        hours += sum(need.minutes for need in todo) / 60
        gpu_hours += sum(need.minutes * need.gpus for need in todo) / 60
    yield (
        f"In all: {len(now)} of {len(every)} jobs to run, {_time(60 * hours)} one after the other"
        + (f", {gpu_hours:.1f} GPU hours" if gpu_hours else "")
        + f"; {_size(peak)} of disk at the end, which is the peak: nothing is deleted on the way."
    )
    yield from _assumptions(work, shapes)


def _need(job: Job, shape: Shape, work: Work) -> Need:
    protocol = job.wildcards.get("protocol", "scores")
    need = resources.estimate(job.rule, shape, work, threads=job.threads, protocol=protocol)
    return need._replace(memory_mb=int(job.resources.get("mem_mb", need.memory_mb)))


def _model_lines(name: str, shape: Shape, work: Work) -> Iterator[str]:
    gpus = resources.gpus_needed(shape, work)
    dtype = {4: "float32", 2: "16 bits"}[resources.parameter_bytes(shape, work, gpus > 0)]
    yield (
        f"{name}: {_count(shape.parameters)} parameters, {shape.layers} layers, "
        f"hidden size {shape.hidden_size} ({shape.origin}), in {dtype}"
    )
    if not gpus:
        yield "  on the CPU, or a GPU that is there anyway (gpus: 0)"
        return
    size = resources.gpu_bytes(shape, work) / 1e9
    yield (
        f"  on {gpus} GPU(s) of {work.gpu_memory_gb:g} GB: weights and a batch of "
        f"{work.batch_size} take {size:.0f} GB at most"
    )
    if gpus > 1 and work.device_map is None:
        yield f"  ! device_map is null, so one GPU holds it all; set device_map: auto for {gpus}"
    elif size > gpus * work.gpu_memory_gb * resources.GPU_SHARE:
        yield "  ! that is more than there is; set a smaller batch_size, or more gpus"


def _table(jobs: Sequence[Job], needs: Mapping[tuple, Need], waiting: set) -> Iterator[str]:
    rows = [HEADER]
    groups: dict[str, list[Job]] = {stage: [] for stage in (*STAGES, SMALL)}
    for job in jobs:
        groups[job.rule if job.rule in STAGES else SMALL].append(job)
    for stage, group in groups.items():
        if not group:
            continue
        own = [needs[job.key] for job in group]
        todo = [needs[job.key] for job in group if job.key in waiting]
        rows.append(
            (
                stage,
                str(len(group)),
                str(len(todo)),
                str(max(job.threads for job in group)),
                _size(max(need.memory_mb for need in own)),
                str(max(need.gpus for need in own) or "-"),
                _size(sum(need.disk_mb for need in own)),
                _time(max(need.minutes for need in own)),
                _time(sum(need.minutes for need in todo)),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells)


def _assumptions(work: Work, shapes: Mapping[str, Shape]) -> Iterator[str]:
    asked = work.prompts["generate_answers"]
    yield "Upper bounds, which rest on:"
    yield (
        f"  {work.questions:,} questions ({work.origin}) in {work.shards} shard(s), of "
        f"{asked.shared} shared and {asked.own} own tokens, with {asked.new} new ones; texts of "
        f"up to {max((*work.texts, *work.map_texts))} tokens"
    )
    on_gpu = any(resources.gpus_needed(shape, work) for shape in shapes.values())
    rate = (
        f"{resources.GPU_RATE[2] / 1e12:g} (float32: {resources.GPU_RATE[4] / 1e12:g}) Tflop/s and "
        f"{resources.GPU_BANDWIDTH / 1e12:g} TB/s of a GPU"
        if on_gpu
        else f"{resources.CPU_RATE / 1e9:g} Gflop/s of a core"
    )
    yield (
        f"  {rate}; weights read at {resources.STORAGE / 1e9:g} GB/s, fetched at "
        f"{resources.DOWNLOAD / 1e6:g} MB/s"
    )
    yield (
        f"  A job asks for {resources.SHORTEST} minutes at least, and, killed, for twice the time "
        "and half as much memory again."
    )
    if any(shape.origin == resources.ASSUMED for shape in shapes.values()):
        yield "  ! The model's size is not known; give its entry a shape (config/models.yaml)."


def _count(number: float) -> str:
    return f"{number / 1e9:.3g} B" if number >= 1e9 else f"{number / 1e6:.3g} M"


def _size(mb: float) -> str:
    return f"{math.ceil(mb)} MB" if mb < 1000 else f"{mb / 1000:,.1f} GB"


def _time(minutes: float) -> str:
    if minutes < 1:
        return f"{math.ceil(60 * minutes)} s"
    return f"{math.ceil(minutes)} min" if minutes < 120 else f"{minutes / 60:.1f} h"
