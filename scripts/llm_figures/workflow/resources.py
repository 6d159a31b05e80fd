"""Estimate the cores, memory, disk, time and GPUs of every job.

`TABLE` has a row for each rule that needs more than any job. The formulas are upper bounds from
first principles: weights, key-value cache, activations, floating-point operations, bytes read.
Their rates are set so that each rule of the default model, measured on two CPU cores, takes between
a quarter and all of what it requests. Sizes are in bytes, times in seconds. The Snakefile imports
this module, so it must not import torch.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from llm_figures.modules.metrics import METRICS, of_measure
from llm_figures.probe.protocol import BATCH, EPOCHS, HIDDEN_UNITS, STEPS
from llm_figures.probe.token_positions import NAMED_TOKENS
from llm_figures.workflow.model_size import BYTES, ModelSize
from llm_figures.workflow.workload import FACTS, Prompts, Workload

# Models with more parameters use a GPU if `gpus` is auto, and many cores even for a few texts.
LARGE = 1_000_000_000
# Share of a GPU's memory for weights and a batch; the driver and fragmentation take the rest.
GPU_SHARE = 0.9
UNEVEN = 1.05  # layers are not divided, so several GPUs are not filled alike

# Rates per second. The GPUs of a device map work one after the other.
CPU_RATE = 50e9  # operations, a core
GPU_RATE = {4: 10e12, 2: 50e12}  # operations, by bytes of a parameter
CPU_BANDWIDTH, GPU_BANDWIDTH = 10e9, 0.8e12  # bytes of weights, read once for every new token
STORAGE = 0.25e9  # bytes of a checkpoint, read or written
WRITING = 0.1e9  # bytes of hidden states, compressed
DOWNLOAD, HASHING = 0.02e9, 0.5e9  # bytes
PROBE_RATE = 25e9  # operations, a core: products and Cholesky factors of a few hundred examples
FACTOR_RATE = 10e9  # operations, a core: Gram matrices and eigenvalues of weights
WEIGHT_RATE = 25e6  # weights, a core, for one metric of them
PREDICTION_RATE = 80e3  # predictions that are bootstrapped

# Seconds.
START = 15  # Python and torch
STEP = 0.5e-3  # a layer's kernels, however few the tokens
HOOKED_STEP = 5e-3  # of a layer whose queries and keys are read or changed
ATTENTION_WEIGHT = 30e-9  # one, in double precision, from stored queries and keys
SINK_ROW = 20e-6  # of a table
FIT = 3e-3  # a fit's small steps
MEMORY_RATE = 1e9  # bytes of features, a core, read for sums

# Bytes.
BASE = 600e6  # Python with torch, or with pandas
CUDA = 2.6e9
PROBE_PROCESS = 300e6  # NumPy and pandas
SNAKEMAKE = 400e6  # its two processes on the node, which a cluster counts as part of the job
ROW_GROUP = 64e6  # of a Parquet file of states
LOGITS = 2**29  # of the copies in one pass of modules/ablation.py
MASK_COPIES, HELD_COPIES = 8, 3  # of a layer's own mask, and of each further one in memory
PIECE = 32  # tokens whose logits are in memory at once, as in inference/responses.py

PROJECTIONS = 7  # of a block
LENGTHS = 24  # prompts of equal length share a batch; this many batches are not full
MORE_EXAMPLES = 1.5  # as in probe/newton.py, which imports more than the Snakefile should
FACTORS = 3  # Cholesky factors of a fit
LOGARITHM = 3000  # operations that the logarithm of one logit is worth
DIFFERENT = 1 / 3  # of sampled answers, those that are no beginning of another
KIND_LABELS = 16  # kinds of error, and each shuffled
INNER_FITS = 4  # folds among the training questions, and the final fit
EXPORTED_VECTORS = 4  # of a probe, in double precision
NESTED_FITS, NESTED_PREDICTIONS = 15, 5  # of five folds and their pairs; of one answer
GRAM_MATRICES = {"update_effective_rank": 1, "subspace_rotation": 2}

SHORTEST = 30 * 60  # seconds that a job requests at least
MORE_MEMORY, MORE_TIME = 1.5, 2  # times the last attempt's


class Need(NamedTuple):
    """What a job needs: seconds, bytes of host memory and of disk, GPUs."""

    seconds: float
    memory: float
    disk: float
    gpus: int


class Cost(NamedTuple):
    """Result of a formula: seconds and bytes in addition to what every job needs.

    on_device: bytes in addition to the weights where the model runs, on GPUs or in host memory;
    None for a job that loads no model.
    """

    seconds: float = 0
    memory: float = 0
    disk: float = 1e6
    on_device: float | None = None
    gpus: int = 64  # at most


class Job(NamedTuple):
    """The arguments of a formula.

    protocol: of the probes that the job fits. rate: operations per second. bandwidth: bytes per
    second of the memory that holds the weights.
    """

    model: ModelSize
    work: Workload
    threads: int
    protocol: str
    gpus: int
    parameter_bytes: int
    rate: float
    bandwidth: float


def gpus_needed(model: ModelSize, work: Workload) -> int:
    """Number of GPUs on which the model and a batch fit; 0 for a job on the CPU."""
    if work.device in ("cpu", "mps"):
        return 0
    if work.gpus != "auto":
        return int(work.gpus)
    if model.parameters <= LARGE:
        return 0
    full = gpu_bytes(model, work) / (work.gpu_memory_gb * 1e9 * GPU_SHARE)
    return math.ceil(full if full <= 1 else full * UNEVEN)


def gpu_bytes(model: ModelSize, work: Workload) -> float:
    """Memory of the weights and the largest batch, summed over all GPUs."""
    size = parameter_bytes(model, work, on_gpu=True)
    return model.parameters * size + max(
        _batch_bytes(model, prompts, work.batch_size, size) for prompts in work.prompts.values()
    )


def parameter_bytes(model: ModelSize, work: Workload, on_gpu: bool) -> int:
    """Bytes of one parameter as it is loaded."""
    if work.dtype != "auto":
        return BYTES[work.dtype]
    return BYTES[model.dtype] if on_gpu else 4


def _batch_bytes(model: ModelSize, prompts: Prompts, batch: int, size: int) -> float:
    """Key-value cache (twice: it is copied as it grows), activations and logits of a batch."""
    cache = sum(prompts) * 2 * model.layers * model.key_value_heads * model.head_dim * size
    activations = prompts.own * (8 * model.hidden_size + 3 * model.intermediate_size) * size
    logits = model.vocabulary * (size + 8)
    return batch * (2 * cache + activations + logits)


def _text_bytes(job: Job, texts: tuple[int, ...], copies: int = 1) -> float:
    return _batch_bytes(job.model, Prompts(0, max(texts), 0), copies, job.parameter_bytes)


def _loading_bytes(job: Job) -> float:
    """Host memory of a model that is being loaded."""
    weights, read = job.model.parameters * job.parameter_bytes, job.model.checkpoint_bytes
    if job.gpus:  # with a device map the weights pass through the host piece by piece
        return CUDA + (min(weights, max(10e9, weights / 4)) if job.work.device_map else weights)
    # cast while it is read: the checkpoint's own pages count until they are dropped
    return 1.1 * weights + (read if weights != read else 0)


def _pass_seconds(job: Job, tokens: float, passes: float, step: float = STEP) -> float:
    """Seconds of forward passes through all layers over a total number of tokens."""
    in_layers = job.model.parameters - job.model.vocabulary * job.model.hidden_size
    return 2 * in_layers * tokens / job.rate + passes * job.model.layers * step


def _attention_weights(model: ModelSize, tokens: int) -> float:
    """Number of attention weights of one layer, all heads, in the causal lower triangle."""
    return model.heads * tokens**2 / 2


def _query_key_bytes(model: ModelSize, tokens: int) -> int:
    """Bytes of a layer's queries and keys in float32, with two numbers per rotated feature."""
    return (model.heads + model.key_value_heads + 2) * tokens * model.head_dim * 4


def _mask_bytes(model: ModelSize, tokens: int, held: int = 1) -> int:
    """Bytes for the masks that a family's layers keep for a text; held: layers at once."""
    copies = MASK_COPIES + HELD_COPIES * (held - 1)
    return copies * 4 * model.mask_heads * tokens**2


def _prepare_model(job: Job) -> Cost:
    size, source = job.model.checkpoint_bytes, job.model.source
    if source == "gguf":  # converted to float32, of which the file itself holds less
        size = 4 * job.model.parameters
        return Cost(size / HASHING + size / DOWNLOAD, memory=3 * size, disk=1.5 * size)
    if source == "hub":
        return Cost(size / HASHING + size / DOWNLOAD, memory=BASE, disk=size)
    return Cost(size / HASHING, memory=BASE)


def _finetune_model(job: Job) -> Cost:
    """AdamW in float32 on one device, and the facts' losses before and after."""
    model, entry, prompts = job.model, job.model.training, job.work.prompts["training"]
    own = prompts.own + prompts.new
    rows = entry["batch_size"] * own
    part = entry.get("part") or {"done": 0, "until": entry["steps"]}
    steps = part["until"] - part["done"]
    facts = FACTS * min(1, 2 * entry["share"]) * (own + prompts.shared / (4 * entry["batch_size"]))
    # forward, and twice as much backward; the losses twice forward
    tokens = 6 * steps * (prompts.shared + rows) + 4 * facts
    rate = GPU_RATE[4] if job.gpus else job.rate
    step = 80 * model.parameters / job.bandwidth + 3 * model.layers * STEP
    saved = 4 * model.parameters
    # numbers that a layer stores of a token for the backward pass
    stored = model.layers * (20 * model.hidden_size + 5 * model.intermediate_size)
    activations = 4 * ((prompts.shared + rows) * stored + 3 * rows * model.vocabulary)
    return Cost(
        tokens * model.parameters / rate + steps * step + saved / STORAGE,
        memory=saved,
        disk=(3.03 if "part" in entry else 1.03) * saved,  # with the optimizer's state
        on_device=3 * saved + activations,  # gradients and two moments
        gpus=1,
    )


def _hidden_values(job: Job) -> int:
    """Numbers stored for a question: its named tokens in every layer."""
    return (job.model.layers + 1) * job.model.hidden_size * len(NAMED_TOKENS)


def _module_values(job: Job) -> int:
    """Numbers stored for a question: the outputs of all projections."""
    return job.model.layers * job.model.projection_outputs


def _questions(job: Job, purpose: str, values: int = 0) -> Cost:
    """The questions of a shard through the model; values: numbers stored for each."""
    model, prompts = job.model, job.work.prompts[purpose]
    questions = math.ceil(job.work.questions / job.work.shards)
    batch = min(job.work.batch_size, questions)
    batches = math.ceil(questions / batch) + min(questions, LENGTHS)
    seconds = _pass_seconds(job, questions * prompts.own + prompts.shared, batches)
    # a new token of a batch reads all weights once, or computes, whichever takes longer
    steps = batches * prompts.new
    computed = 2 * model.parameters * questions * prompts.new / job.rate
    read = steps * model.parameters * job.parameter_bytes / job.bandwidth
    seconds += max(computed, read) + steps * model.layers * STEP
    return Cost(
        seconds + questions * 4 * values / WRITING,
        memory=ROW_GROUP + 3 * batch * 4 * values,
        disk=questions * (4096 + 4 * values),
        on_device=_batch_bytes(model, prompts, batch, job.parameter_bytes),
    )


def _read_responses(job: Job) -> Cost:
    """The questions with their answers through the model, and the answers' logits."""
    cost, model = _questions(job, "states"), job.model
    questions = math.ceil(job.work.questions / job.work.shards)
    tokens = questions * job.work.prompts["answer"].new
    seconds = model.vocabulary * tokens * (2 * model.hidden_size + LOGARITHM) / job.rate
    rows = min(job.work.batch_size, questions)
    logits = rows * PIECE * model.vocabulary * (job.parameter_bytes + 8)
    return cost._replace(seconds=cost.seconds + seconds, on_device=cost.on_device + logits)


def _queries_and_keys(job: Job, passes: int, layers: int, held: int = 1) -> Cost:
    """Passes over one text each, with some layers stored and their maps computed once.

    held: layers of a pass that are in memory at once.
    """
    model, tokens = job.model, max(job.work.texts)
    stored, weights = _query_key_bytes(model, tokens), _attention_weights(model, tokens)
    layer = 4 * model.head_dim * model.layers / job.rate + layers * ATTENTION_WEIGHT
    return Cost(
        _pass_seconds(job, passes * tokens, passes, HOOKED_STEP) + passes * weights * layer,
        # a layer at a time, or those of a pass; copied while they are written
        memory=16 * stored + _mask_bytes(model, tokens, held),
        disk=passes * layers * (stored + 4 * model.mask_heads * tokens**2),
        on_device=_text_bytes(job, job.work.texts),
    )


def _maps(job: Job, times: int) -> Cost:
    """Attention maps of a layer from stored queries and keys, each computed several times."""
    weights = sum(_attention_weights(job.model, tokens) for tokens in job.work.texts)
    tokens = max(job.work.texts)
    memory = 10 * _query_key_bytes(job.model, tokens) + _mask_bytes(job.model, tokens)
    return Cost(times * weights * ATTENTION_WEIGHT, memory, disk=50e6)


def _score_sinks(job: Job) -> Cost:
    """The first tokens of each text, and a row for each of their weights and norms."""
    model, cost = job.model, _maps(job, 1)
    tokens = [min(tokens, job.work.sink_tokens) for tokens in job.work.texts]
    rows = 2 * (model.heads + model.key_value_heads) * model.layers * sum(tokens)
    seconds = rows * SINK_ROW + model.layers * len(tokens) * HOOKED_STEP
    weights = 12 * model.heads * max(tokens) ** 2
    return Cost(seconds, cost.memory + weights + 300 * rows, disk=16 * rows)


def _measure_modules(job: Job) -> Cost:
    texts = job.work.map_texts
    written = sum(texts) * job.model.layers * PROJECTIONS * 96
    seconds = _pass_seconds(job, sum(texts), len(texts))
    return Cost(seconds, 2 * written, written, on_device=_text_bytes(job, texts))


def _ablate_modules(job: Job) -> Cost:
    """A copy of each text per projection of each layer, through the layers above it."""
    model, texts = job.model, job.work.map_texts
    copied = PROJECTIONS * sum(texts)
    seconds = _pass_seconds(job, copied * (model.layers + 1) / 2, len(texts) * model.layers)
    logits = copied * model.layers * model.vocabulary
    seconds += logits * (2 * model.hidden_size + LOGARITHM) / job.rate
    one = 4 * max(texts) * model.vocabulary  # logits of one copy
    states = max(texts) * model.layers * model.hidden_size * job.parameter_bytes
    device = _text_bytes(job, texts, PROJECTIONS) + states
    return Cost(seconds, on_device=device + 5 * one + 2 * min(PROJECTIONS * one, LOGITS))


def _weight_metrics(job: Job, measure: str, checkpoints: int, held: int) -> Cost:
    """Metrics of one matrix after the other; held: bytes in memory for each of its weights."""
    model, hidden = job.model, job.model.hidden_size
    widest = max(model.intermediate_size, model.heads * model.head_dim)
    # a file that is requested by name, without a metric of the config, has them all
    metrics = of_measure(job.work.map_metrics, measure) or of_measure(METRICS, measure)
    grams = sum(GRAM_MATRICES.get(metric, 0) for metric in metrics)
    # products, and eigenvalues of one matrix after the other
    factored = grams * (2 + 4 * hidden / widest) * model.parameters * hidden / FACTOR_RATE
    seconds = (len(metrics) * model.parameters / WEIGHT_RATE + factored) / job.threads
    seconds += checkpoints * model.checkpoint_bytes / STORAGE
    return Cost(seconds, memory=held * hidden * widest + bool(grams) * 24 * hidden**2)


def _fit_seconds(job: Job, protocol: str, features: int, labels: int) -> float:
    """Seconds of one fit of a probe; labels: the number of labels that share a product."""
    probe = job.work.probes[protocol]
    fitted = job.work.questions * probe.share
    if probe.kind == "mean_difference":
        return 8 * fitted * features / MEMORY_RATE + FIT
    if probe.kind == "mlp":  # forward, and the weights' gradient
        examples = max(EPOCHS * fitted, STEPS * min(BATCH, fitted))
        return 4 * examples * features * HIDDEN_UNITS / PROBE_RATE + STEPS * FIT / 12
    if probe.kind == "lda":  # two shrunk covariances, and least squares
        return (6 * fitted * features**2 + 12 * features**3) / PROBE_RATE + FIT
    if probe.solver != "newton":  # limited by memory, not by arithmetic
        return 100 * 4 * fitted * features / 1e9 + 0.01
    if fitted < MORE_EXAMPLES * features:  # the dual problem, in the examples
        side, product = fitted, fitted**2 * features / labels
    else:
        side, product = features, FACTORS * fitted * features**2
    return (product + FACTORS * side**3 / 3) / PROBE_RATE + FIT


def _probe_bytes(job: Job, features: int) -> float:
    """Each process reads a layer, all tokens of all questions, twice; a fit uses ten tokens."""
    token = 4 * job.work.questions * features
    return job.threads * (PROBE_PROCESS + (2 * len(NAMED_TOKENS) + 10) * token)


def _score_probes(job: Job) -> Cost:
    probe, hidden, jobs = job.work.probes[job.protocol], job.model.hidden_size, job.work.probe_jobs
    layers = math.ceil((job.model.layers + 1) / jobs)
    fits = layers * probe.tokens * probe.divisions * probe.labels
    seconds = fits * _fit_seconds(job, job.protocol, hidden, probe.labels) / job.threads
    read = 2 * 4 * job.work.questions * _hidden_values(job) / jobs / STORAGE
    predictions = fits * job.work.questions / probe.divisions
    return Cost(seconds + read, _probe_bytes(job, hidden), disk=16 * predictions)


def _score_best_cell(job: Job) -> Cost:
    """One factor per cell and split, and a product with the labels of every permutation."""
    hidden, probe, columns = job.model.hidden_size, job.work.probes["scores"], job.work.permutations
    fits = (job.model.layers + 1) * probe.tokens * probe.divisions
    fitted = job.work.questions * probe.share
    operations = fitted * columns * (fitted + 2 * hidden)
    seconds = _fit_seconds(job, "scores", hidden, labels=1) + operations / PROBE_RATE
    read = 2 * 4 * job.work.questions * _hidden_values(job) / STORAGE
    predictions = 160 * (job.model.layers + 1) * probe.tokens * job.work.questions
    memory = _probe_bytes(job, hidden) + predictions + 12 * job.threads * 4 * fitted * columns
    return Cost(fits * seconds / job.threads + read, memory)


def _score_transfer(job: Job) -> Cost:
    """Probes of every fold and pair of folds, in every cell of every set."""
    hidden, tokens = job.model.hidden_size, job.work.transfer_tokens
    fits = (job.model.layers + 1) * tokens * NESTED_FITS
    of_sets = [job._replace(work=replace(job.work, questions=n)) for n in job.work.transferred]
    each = sum(_fit_seconds(one, "scores", hidden, labels=1) for one in of_sets)
    questions = sum(job.work.transferred)
    read = 2 * 4 * questions * _hidden_values(job) / STORAGE
    states = job.threads * (PROBE_PROCESS + (2 * len(NAMED_TOKENS) + 10) * 4 * questions * hidden)
    predictions = (job.model.layers + 1) * tokens * questions * NESTED_PREDICTIONS
    return Cost(fits * each / job.threads + read, states + 160 * predictions)


def _score_probe_heads(job: Job) -> Cost:
    """A probe for every head, at one token, and all tokens of a layer read for it."""
    model, probe = job.model, job.work.probes["scores"]
    fits = model.layers * model.heads * probe.divisions * probe.labels
    seconds = fits * _fit_seconds(job, "scores", model.head_dim, probe.labels) / job.threads
    width = model.heads * model.head_dim
    read = 4 * job.work.questions * width * model.layers * len(NAMED_TOKENS) / STORAGE
    predictions = fits * job.work.questions / probe.divisions / PREDICTION_RATE
    memory = _probe_bytes(job, width) + 160 * fits * job.work.questions / probe.divisions
    return Cost(seconds + read + predictions, memory)


def _export_probes(job: Job) -> Cost:
    """One probe per token, each of another layer at most."""
    hidden, probe = job.model.hidden_size, job.work.probes["scores"]
    fits = probe.tokens * probe.labels * _fit_seconds(job, "scores", hidden, labels=1)
    read = 2 * 4 * job.work.questions * probe.tokens * hidden * len(NAMED_TOKENS) / STORAGE
    written = probe.tokens * EXPORTED_VECTORS * 8 * hidden
    return Cost(fits + read, _probe_bytes(job, hidden), disk=1e6 + written)


def _samples(job: Job, purpose: str, values: int = 0) -> Cost:
    """The different ones of all sampled answers, as if each were a question."""
    different = math.ceil(job.work.sampled * job.work.samples * DIFFERENT)
    return _questions(job._replace(work=replace(job.work, questions=different)), purpose, values)


def _score_kinds(job: Job, tokens: int, labels: int) -> Cost:
    """Fits of each layer at some tokens, on the folds of the probe."""
    layers, hidden = job.model.layers + 1, job.model.hidden_size
    fits = layers * tokens * job.work.probes["scores"].divisions * labels
    seconds = fits * _fit_seconds(job, "scores", hidden, labels) / job.threads
    read = 2 * 4 * job.work.questions * _hidden_values(job) / STORAGE
    return Cost(seconds + read, _probe_bytes(job, hidden))


def _score_module_probes(job: Job) -> Cost:
    """One probe for every projection; two have as many outputs as the feed-forward part."""
    model, widest = job.model, max(job.model.intermediate_size, job.model.hidden_size)
    block = 5 * _fit_seconds(job, "scores", model.hidden_size, labels=1)
    block += 2 * _fit_seconds(job, "scores", widest, labels=1)
    fits = model.layers * job.work.probes["scores"].divisions * block / job.threads
    read = 2 * 4 * job.work.questions * _module_values(job) / STORAGE
    return Cost(fits + read, _probe_bytes(job, widest))


def _predictions(job: Job) -> Cost:
    """A probe's predictions, in memory or bootstrapped."""
    count = max(probe.tokens * probe.labels for probe in job.work.probes.values())
    count *= (job.model.layers + 1) * job.work.questions
    return Cost(count / PREDICTION_RATE, memory=160 * count)


# {rule: (cores for a model up to LARGE and above it, formula)}
ONE, SOME, MANY = (1, 1), (1, 8), (8, 8)
SMALL = (ONE, lambda job: Cost())
TABLE: dict[str, tuple[tuple[int, int], Callable[[Job], Cost]]] = {
    "prepare_model": (ONE, _prepare_model),
    "finetune_model": (MANY, _finetune_model),
    "finetune_step": (MANY, _finetune_model),
    "extract_attention_states": (
        SOME,
        # twice, the second time with random weights
        lambda job: _queries_and_keys(job, 2 * len(job.work.texts), job.model.layers),
    ),
    "extract_intervened_states": (
        SOME,
        lambda job: _queries_and_keys(job, job.work.intervention_passes, 5),
    ),
    "extract_choice_states": (
        SOME,
        lambda job: _queries_and_keys(job, job.work.choice_passes, 5, held=5),
    ),
    "score_attention": (ONE, lambda job: _maps(job, 5)),
    "score_sink_map": (ONE, _score_sinks),
    "check_attention_claims": (ONE, lambda job: _maps(job, 10)),
    "compare_choices": (ONE, lambda job: _maps(job, 200)),
    "measure_modules": (SOME, _measure_modules),
    "ablate_modules": (MANY, _ablate_modules),
    "measure_updates": (SOME, lambda job: _weight_metrics(job, "updates", 2, held=20)),
    "measure_quantization": (SOME, lambda job: _weight_metrics(job, "quantization", 1, held=4)),
    "generate_answers": (MANY, lambda job: _questions(job, "answer")),
    "read_responses": (MANY, _read_responses),
    "quote_answers": (MANY, lambda job: _questions(job, "quote")),
    "ask_judge": (MANY, lambda job: _questions(job, "judge")),
    "ask_p_true": (MANY, lambda job: _questions(job, "p_true")),
    "extract_hidden_states": (MANY, lambda job: _questions(job, "states", _hidden_values(job))),
    "extract_module_states": (MANY, lambda job: _questions(job, "states", _module_values(job))),
    "score_probes": (MANY, _score_probes),
    "sample_answers": (MANY, lambda job: _samples(job, "answer")),
    "extract_sample_states": (
        MANY,
        lambda job: _samples(job, "states", (job.model.layers + 1) * job.model.hidden_size),
    ),
    "score_error_kinds": (MANY, lambda job: _score_kinds(job, job.work.kind_tokens, KIND_LABELS)),
    "choose_answers": (MANY, lambda job: _score_kinds(job, 1, INNER_FITS)),
    "score_module_probes": (MANY, _score_module_probes),
    "score_transfer": (MANY, _score_transfer),
    "score_probe_heads": (MANY, _score_probe_heads),
    "export_probes": (ONE, _export_probes),
    "score_best_cell": (MANY, _score_best_cell),
    "collect_probe_scores": (ONE, _predictions),
    "check_probe_claims": (ONE, _predictions),
    "write_manifest": (ONE, _predictions),
    "build_report": (ONE, _predictions),
}


def threads_needed(rule: str, model: ModelSize) -> int:
    """Number of CPU cores of a job."""
    (few, many), _ = TABLE.get(rule, SMALL)
    return many if model.parameters > LARGE else few


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
    memory += _loading_bytes(job) + (0 if gpus else cost.on_device)
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
