"""Estimate the cores, memory, disk, time and GPUs of every job.

`TABLE` has a row for each rule that needs more than any job. The formulas are upper bounds from
first principles: weights, key-value cache, activations, floating-point operations, bytes read.
Their rates are set so that each rule of the default model, measured on two CPU cores, takes between
a quarter and all of what it requests. Sizes are in bytes, times in seconds. The Snakefile imports
this module, so it must not import torch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from llm_figures.workflow.model_size import ModelSize
from llm_figures.workflow.pass_costs import (
    BASE,
    CPU_BANDWIDTH,
    CPU_RATE,
    GPU_BANDWIDTH,
    GPU_RATE,
    LARGE,
    SNAKEMAKE,
    START,
    STORAGE,
    Cost,
    Job,
    ablate_modules,
    ask_p_true,
    ask_questions,
    compute_maps,
    finetune_model,
    gpus_needed,
    hidden_values,
    loading_bytes,
    measure_modules,
    module_values,
    parameter_bytes,
    prepare_model,
    queries_and_keys,
    read_responses,
    score_sinks,
    weight_metrics,
)
from llm_figures.workflow.probe_costs import (
    INNER_FITS,
    KIND_LABELS,
    ask_samples,
    collect_probe_scores,
    export_probes,
    read_predictions,
    score_best_cell,
    score_kinds,
    score_module_probes,
    score_probe_heads,
    score_probes,
    score_transfer,
)
from llm_figures.workflow.workload import Workload

SHORTEST = 30 * 60  # seconds that a job requests at least
MORE_MEMORY, MORE_TIME = 1.5, 2  # times the last attempt's


class Need(NamedTuple):
    """What a job needs: seconds, bytes of host memory and of disk, GPUs."""

    seconds: float
    memory: float
    disk: float
    gpus: int


# {rule: (cores for a model up to LARGE and above it, formula)}
ONE, SOME, MANY = (1, 1), (1, 8), (8, 8)
SMALL = (ONE, lambda job: Cost())
TABLE: dict[str, tuple[tuple[int, int], Callable[[Job], Cost]]] = {
    "prepare_model": (ONE, prepare_model),
    "finetune_model": (MANY, finetune_model),
    "finetune_step": (MANY, finetune_model),
    "extract_attention_states": (
        SOME,
        # twice, the second time with random weights
        lambda job: queries_and_keys(job, 2 * len(job.work.texts), job.model.layers),
    ),
    "extract_intervened_states": (
        SOME,
        lambda job: queries_and_keys(job, job.work.intervention_passes, 5),
    ),
    "extract_choice_states": (
        SOME,
        lambda job: queries_and_keys(job, job.work.choice_passes, 5, held=5),
    ),
    "score_attention": (ONE, lambda job: compute_maps(job, 5)),
    "score_sink_map": (ONE, score_sinks),
    "check_attention_claims": (ONE, lambda job: compute_maps(job, 10)),
    "compare_choices": (ONE, lambda job: compute_maps(job, 200)),
    "measure_modules": (SOME, measure_modules),
    "ablate_modules": (MANY, ablate_modules),
    "measure_updates": (SOME, lambda job: weight_metrics(job, "updates", 2, held=20)),
    "measure_quantization": (SOME, lambda job: weight_metrics(job, "quantization", 1, held=4)),
    "generate_answers": (MANY, lambda job: ask_questions(job, "answer")),
    "read_responses": (MANY, read_responses),
    "quote_answers": (MANY, lambda job: ask_questions(job, "quote")),
    "ask_judge": (MANY, lambda job: ask_questions(job, "judge")),
    "ask_p_true": (MANY, ask_p_true),
    "extract_hidden_states": (MANY, lambda job: ask_questions(job, "states", hidden_values(job))),
    "extract_module_states": (MANY, lambda job: ask_questions(job, "states", module_values(job))),
    "score_probes": (MANY, score_probes),
    "sample_answers": (MANY, lambda job: ask_samples(job, "answer")),
    "extract_sample_states": (
        MANY,
        lambda job: ask_samples(job, "states", (job.model.layers + 1) * job.model.hidden_size),
    ),
    "score_error_kinds": (MANY, lambda job: score_kinds(job, job.work.kind_tokens, KIND_LABELS)),
    "choose_answers": (MANY, lambda job: score_kinds(job, 1, INNER_FITS)),
    "score_module_probes": (MANY, score_module_probes),
    "score_transfer": (MANY, score_transfer),
    "score_probe_heads": (MANY, score_probe_heads),
    "export_probes": (ONE, export_probes),
    "score_best_cell": (MANY, score_best_cell),
    "collect_probe_scores": (SOME, collect_probe_scores),
    "check_probe_claims": (ONE, read_predictions),
    "write_manifest": (ONE, read_predictions),
    "build_report": (ONE, read_predictions),
}


# Neither needs the other's files, and both are there after the answers are judged.
SIDE_BY_SIDE = ("ask_p_true", "extract_hidden_states")


def threads_needed(rule: str, model: ModelSize) -> int:
    """Number of CPU cores of a job."""
    (few, many), _ = TABLE.get(rule, SMALL)
    return many if model.parameters > LARGE else few


def run_side_by_side(rule: str, model: ModelSize) -> bool:
    """Whether a job runs beside another one, with a model of which two fit the memory."""
    return rule in SIDE_BY_SIDE and model.parameters <= LARGE


def estimate(
    rule: str, model: ModelSize, work: Workload, threads: int = 8, protocol: str = "scores"
) -> Need:
    """What one job of a rule needs; threads: its CPU cores."""
    gpus = gpus_needed(model, work)
    size = parameter_bytes(model, work, gpus > 0)
    rate, bandwidth = CPU_RATE * threads, CPU_BANDWIDTH
    if gpus:
        rate, bandwidth = GPU_RATE[size], GPU_BANDWIDTH
    job = Job(model, work, threads, protocol, gpus, size, rate, bandwidth)
    _, formula = TABLE.get(rule, SMALL)
    cost = formula(job)
    seconds, memory = START + cost.seconds, BASE + cost.memory
    if cost.on_device is None:
        return Need(seconds, memory, cost.disk, gpus=0)
    memory += loading_bytes(job) + (0 if gpus else cost.on_device)
    seconds += model.checkpoint_bytes / STORAGE
    return Need(seconds, memory, cost.disk, min(gpus, cost.gpus))


def request(need: Need, attempt: int = 1) -> dict[str, int | None]:
    """The resources of a Snakemake rule; `gpu` is None if none is needed.

    Memory includes that of the Snakemake that starts the script. attempt: counted from 1; each
    further one requests one and a half times the memory and twice the time.
    """
    memory = (need.memory + SNAKEMAKE) * MORE_MEMORY ** (attempt - 1)
    seconds = max(SHORTEST, need.seconds) * MORE_TIME ** (attempt - 1)
    return {
        "mem_mb": math.ceil(memory / 1e8) * 100,
        "disk_mb": max(10, math.ceil(need.disk / 1e6)),
        "runtime": math.ceil(seconds / 60),
        "gpu": need.gpus or None,
    }
