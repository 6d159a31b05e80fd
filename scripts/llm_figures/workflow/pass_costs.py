"""Costs of jobs that load a model or read its states, from first principles.

Weights, key-value cache, activations, floating-point operations, bytes read. Sizes are in bytes,
times in seconds.
"""

import math
from typing import NamedTuple

from llm_figures.modules.metrics import METRICS, of_measure
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
FACTOR_RATE = 10e9  # operations, a core: Gram matrices and eigenvalues of weights
WEIGHT_RATE = 25e6  # weights, a core, for one metric of them

# Seconds.
START = 15  # Python and torch
STEP = 0.5e-3  # a layer's kernels, however few the tokens
HOOKED_STEP = 5e-3  # of a layer whose queries and keys are read or changed
ATTENTION_WEIGHT = 30e-9  # one, in double precision, from stored queries and keys
SINK_ROW = 20e-6  # of a table

# Bytes.
BASE = 600e6  # Python with torch, or with pandas
CUDA = 2.6e9
SNAKEMAKE = 400e6  # its two processes on the node, which a cluster counts as part of the job
ROW_GROUP = 64e6  # of a Parquet file of states
ROW, TOKEN = 4096, 48  # of a question in memory, and of one of its tokens
LOGITS = 2**29  # of the copies in one pass of modules/ablation.py
MASK_COPIES, HELD_COPIES = 8, 3  # of a layer's own mask, and of each further one in memory
PIECE = 32  # tokens whose logits are in memory at once, as in inference/responses.py

PROJECTIONS = 7  # of a block
LENGTHS = 24  # sequences of about one length share a batch; so many batches are not full
LOGARITHM = 3000  # operations that the logarithm of one logit is worth
GRAM_MATRICES = {"update_effective_rank": 1, "subspace_rotation": 2}


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


def loading_bytes(job: Job) -> float:
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


def prepare_model(job: Job) -> Cost:
    size, source = job.model.checkpoint_bytes, job.model.source
    if source == "gguf":  # converted to float32, of which the file itself holds less
        size = 4 * job.model.parameters
        return Cost(size / HASHING + size / DOWNLOAD, memory=3 * size, disk=1.5 * size)
    if source == "hub":
        return Cost(size / HASHING + size / DOWNLOAD, memory=BASE, disk=size)
    return Cost(size / HASHING, memory=BASE)


def finetune_model(job: Job) -> Cost:
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


def hidden_values(job: Job) -> int:
    """Numbers stored for a question: its named tokens in every layer."""
    return (job.model.layers + 1) * job.model.hidden_size * len(NAMED_TOKENS)


def module_values(job: Job) -> int:
    """Numbers stored for a question: the outputs of all projections."""
    return job.model.layers * job.model.projection_outputs


def ask_questions(job: Job, purpose: str, values: int = 0) -> Cost:
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
    stored = questions * job.work.states_bytes * values
    return Cost(
        seconds + stored / WRITING,
        memory=ROW_GROUP + 3 * batch * 4 * values + questions * _row_bytes(prompts),
        disk=questions * 4096 + stored,
        on_device=_batch_bytes(model, prompts, batch, job.parameter_bytes),
    )


def ask_p_true(job: Job) -> Cost:
    """The questions in each way of asking, one after the other."""
    purposes = [purpose for purpose in job.work.prompts if purpose.startswith("p_true")]
    costs = [ask_questions(job, purpose) for purpose in purposes]
    largest = max(costs, key=lambda cost: cost.on_device)
    return largest._replace(seconds=sum(cost.seconds for cost in costs))


def _row_bytes(prompts: Prompts) -> float:
    """Memory of a question with its answer: its columns, and its tokens as lists."""
    return ROW + TOKEN * sum(prompts)


def read_responses(job: Job) -> Cost:
    """The questions with their answers through the model, and the answers' logits."""
    cost, model = ask_questions(job, "states"), job.model
    questions = math.ceil(job.work.questions / job.work.shards)
    tokens = questions * job.work.prompts["answer"].new
    seconds = model.vocabulary * tokens * (2 * model.hidden_size + LOGARITHM) / job.rate
    rows = min(job.work.batch_size, questions)
    logits = rows * PIECE * model.vocabulary * (job.parameter_bytes + 8)
    return cost._replace(seconds=cost.seconds + seconds, on_device=cost.on_device + logits)


def queries_and_keys(job: Job, passes: int, layers: int, held: int = 1) -> Cost:
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


def compute_maps(job: Job, times: int) -> Cost:
    """Attention maps of a layer from stored queries and keys, each computed several times."""
    weights = sum(_attention_weights(job.model, tokens) for tokens in job.work.texts)
    tokens = max(job.work.texts)
    memory = 10 * _query_key_bytes(job.model, tokens) + _mask_bytes(job.model, tokens)
    return Cost(times * weights * ATTENTION_WEIGHT, memory, disk=50e6)


def score_sinks(job: Job) -> Cost:
    """The first tokens of each text, and a row for each of their weights and norms."""
    model, cost = job.model, compute_maps(job, 1)
    tokens = [min(tokens, job.work.sink_tokens) for tokens in job.work.texts]
    rows = 2 * (model.heads + model.key_value_heads) * model.layers * sum(tokens)
    seconds = rows * SINK_ROW + model.layers * len(tokens) * HOOKED_STEP
    weights = 12 * model.heads * max(tokens) ** 2
    return Cost(seconds, cost.memory + weights + 300 * rows, disk=16 * rows)


def measure_modules(job: Job) -> Cost:
    texts = job.work.map_texts
    written = sum(texts) * job.model.layers * PROJECTIONS * 96
    seconds = _pass_seconds(job, sum(texts), len(texts))
    return Cost(seconds, 2 * written, written, on_device=_text_bytes(job, texts))


def ablate_modules(job: Job) -> Cost:
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


def weight_metrics(job: Job, measure: str, checkpoints: int, held: int) -> Cost:
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
