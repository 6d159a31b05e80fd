"""What a job will need: memory, disk, minutes and GPUs, from the model's size and the data.

Estimates are upper bounds from first principles (weights, key-value cache, activations, floating-
point operations), with rates set so that no stage of the default model, measured on two CPU cores,
needs more than is asked for it, nor less than a quarter. Light enough for the reading of the
Snakefile.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from llm_figures.models.gguf import named_gguf
from llm_figures.models.model_info import count_parameters, shape_of, stated
from llm_figures.probe.token_positions import NAMED_TOKENS

MB = 2**20
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Models above this go to a GPU where `gpus` is auto.
GPU_PARAMETERS = 1_000_000_000
# A GPU's memory that weights and activations may fill; the rest is the driver's and lost in gaps.
GPU_SHARE = 0.9
# Layers are not divided, so several GPUs are not filled alike.
UNEVEN = 1.05
# Assumed where nothing is known: of the model, and of a dataset that is not on this machine yet.
UNKNOWN = {
    "layers": 40,
    "hidden_size": 5120,
    "heads": 40,
    "key_value_heads": 40,
    "head_dim": 128,
    "intermediate_size": 13824,
    "vocabulary": 152064,
    "dtype": "bfloat16",
}
ASSUMED = "assumed, as no size is known"
FACTS = 1023  # the built-in questions
UNKNOWN_QUESTIONS = 10_000
QUESTION_BYTES = {"facts": 60, "unknown": 400}
BYTES_PER_TOKEN = 3.5  # of English text; other scripts take more tokens
# Rows of a text file are counted in its first so many bytes.
SAMPLE = 8 * MB

# Stages that load the model: for all questions, or for a few texts.
QUESTION_STAGES = (
    "generate_answers",
    "quote_answers",
    "extract_hidden_states",
    "extract_module_states",
    "ask_p_true",
)
TEXT_STAGES = (
    "extract_attention_states",
    "measure_modules",
    "ablate_modules",
    "extract_altered_states",
    "extract_choice_states",
)
# Stages that make maps of cached states: maps of every text, all heads together counting as one.
MAP_STAGES = {"score_attention": 5, "check_attention_claims": 10, "compare_choices": 200}
# Stages that read weights one matrix after the other.
CHECKPOINT_STAGES = ("measure_updates", "measure_quantization")
PROBE_STAGES = ("score_probes", "score_module_probes")
MODULES = 7  # projections of a block
PREDICTION_STAGES = ("collect_probe_scores", "check_probe_claims", "write_manifest", "build_report")

# Rates, operations or bytes a second. A device map's GPUs work one after the other.
CPU_RATE = 50e9  # a thread
GPU_RATE = {4: 10e12, 2: 50e12}  # by bytes per parameter
CPU_BANDWIDTH, GPU_BANDWIDTH = 10e9, 0.8e12  # weights read once for every generated token
STORAGE = 0.25e9  # a checkpoint read by a job
WRITING = 0.1e9  # hidden states, compressed
DOWNLOAD = 0.02e9
HASHING = 0.5e9
PROBE_RATE = 25e9  # a thread, products and factors of a few hundred examples
FACTORS = 3  # of a fit
MORE_EXAMPLES = 1.5  # newton's own, whose imports would slow every start of Snakemake
FIT_SECONDS = 0.003  # of a fit, its small steps
# metrics of weights: weights a second of a thread, and Gram matrices of those of singular values
WEIGHT_RATES = {
    "measure_updates": {
        "relative_update": 50e6,
        "update_density": 25e6,
        "update_effective_rank": math.inf,
        "subspace_rotation": math.inf,
    },
    "measure_quantization": {"quantization_error": 40e6, "gguf_error": 30e6},
}
GRAMS = {"update_effective_rank": 1, "subspace_rotation": 2}
FACTOR_RATE = 10e9
LOGARITHM = 3000  # operations that the logarithm of one logit is worth
LOGIT_BYTES = 2**29  # of the copies in one pass, see module_ablation
ROW_GROUP_MB = 64
STEP = 0.5e-3  # seconds a layer takes at least
# and where attention is tapped: rotary embedding is found, or undone for a change before it
TAPPED = {
    "extract_attention_states": 0.05,
    "extract_altered_states": 0.005,
    "extract_choice_states": 0.005,
}
WEIGHT = 30e-9  # seconds for one attention weight in double precision, made from cached states
START = 15  # seconds until Python and torch are up
LENGTHS = 24  # prompts of equal length share a batch; so many batches are not full
SHORTEST = 30  # minutes that a job asks for at least
SMALLEST_MB = 500
# What each further attempt has of the last one's.
MORE_MEMORY = 1.5
MORE_TIME = 2
BASE_MB = 450  # Python, torch and the tokenizer
# Snakemake on the node: a cluster counts its two processes, of 190 MB, as part of the job.
SNAKEMAKE_MB = 400
CUDA_MB = 2500  # and CUDA's libraries
WORKER_MB = 300  # Python, NumPy, pandas


class Need(NamedTuple):
    """What one job needs; memory is the host's, gpus what it asks for."""

    memory_mb: int
    disk_mb: int
    minutes: float
    gpus: int = 0


@dataclass(frozen=True)
class Shape:
    """A model's size; see `shapes.shape_of`. origin: where it is known from.

    training: the entry of a model that is fine-tuned here.
    """

    parameters: int
    layers: int
    hidden_size: int
    heads: int
    key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocabulary: int
    dtype: str
    source: str
    origin: str
    training: Mapping | None = None

    @property
    def checkpoint(self) -> int:
        """Bytes of the weights on disk."""
        return self.parameters * BYTES.get(self.dtype, 4)


@dataclass(frozen=True)
class Prompts:
    """Tokens of one row of a batch: shared by all, its own, and generated."""

    shared: int
    own: int
    new: int

    @property
    def all(self) -> int:
        return self.shared + self.own + self.new


@dataclass(frozen=True)
class Probe:
    """The probes of one layer: tokens × divisions × labels, of a solver."""

    tokens: int
    divisions: int
    labels: int
    solver: str
    share: float  # of the questions that are fitted on


@dataclass(frozen=True)
class Work:
    """What a run asks of a model.

    prompts: by stage. texts: tokens of each text of the attention figures; map_texts: of the module
    map. changes: passes over one text with an alteration. map_metrics: of the module map. origin:
    how the questions were counted.
    """

    questions: int
    origin: str
    shards: int
    batch_size: int
    prompts: Mapping[str, Prompts]
    texts: tuple[int, ...]
    map_texts: tuple[int, ...]
    changes: Mapping[str, int]
    map_metrics: tuple[str, ...]
    probes: Mapping[str, Probe]
    probe_jobs: int
    device: str = "auto"
    dtype: str = "auto"
    device_map: str | None = None
    gpus: int | str = "auto"
    gpu_memory_gb: float = 80


def model_shape(name: str, entry: Mapping, results: Path = Path("results")) -> Shape:
    """The size of a model of models.yaml: from its card, its folder, its entry, or assumed.

    results: where an earlier run may have left the model's card.
    """
    known, origin = _known_shape(name, entry, results)
    values = {key: known.get(key) for key in (*UNKNOWN, "parameters")}
    if not (values["layers"] and values["hidden_size"]):
        values, origin = dict(UNKNOWN), ASSUMED
    hidden = values["hidden_size"]
    heads = values["heads"] = values["heads"] or max(1, hidden // 128)
    values["head_dim"] = values["head_dim"] or max(1, hidden // heads)
    values["key_value_heads"] = values["key_value_heads"] or heads
    values["intermediate_size"] = values["intermediate_size"] or 4 * hidden
    values["vocabulary"] = values["vocabulary"] or UNKNOWN["vocabulary"]
    if values["dtype"] not in BYTES:
        values["dtype"] = "float32"
    values["parameters"] = values.get("parameters") or counted(
        {**known, **{key: value for key, value in values.items() if key != "parameters"}}
    )
    training = entry if entry["source"] == "finetune" else None
    source = "gguf" if _is_gguf(entry) else entry["source"]
    return Shape(**values, source=source, origin=origin, training=training)


def _is_gguf(entry: Mapping) -> bool:
    """Whether the weights are converted from a GGUF file."""
    if entry["source"] == "path":
        return named_gguf(entry) is not None
    return entry["source"] == "pypi" or bool(entry.get("file"))


def _known_shape(name: str, entry: Mapping, results: Path) -> tuple[dict, str]:
    card = results / name / "model.json"
    made = _json(card)
    if made.get("entry") == stated(entry) and made.get("parameters"):
        return made, str(card)
    if entry["source"] == "path" and named_gguf(entry) is None:
        folder = Path(entry["path"]).expanduser()
        config = _json(folder / "config.json")
        if config:
            shape = shape_of(config.get("text_config", config))
            return shape | {"parameters": count_parameters(folder)}, str(folder / "config.json")
    if entry["source"] == "finetune":
        known, origin = _known_shape(entry["base"], entry["base_entry"], results)
        return known | {"dtype": "float32"} if known else known, origin
    return dict(entry.get("shape", {})), "shape in the model's entry"


def counted(shape: Mapping) -> int:
    """Parameters of a decoder with gated feed-forward parts, from its sizes."""
    hidden, width = shape["hidden_size"], shape["head_dim"]
    attention = 2 * hidden * width * (shape["heads"] + shape["key_value_heads"])
    feed_forward = 3 * hidden * shape["intermediate_size"] * (shape.get("experts") or 1)
    embeddings = shape["vocabulary"] * hidden * (1 if shape.get("tied") else 2)
    return embeddings + hidden + shape["layers"] * (attention + feed_forward + 2 * hidden)


def workload(config: Mapping, protocols: Mapping[str, Mapping]) -> Work:
    """What the checked config asks of each model; reads the beginning of files of questions."""
    questions, bytes_each, origin = count_questions(config["dataset"])
    prompt, ask = config["prompt"], config["probe"]["p_true"]
    quote = config["exact_answer"]
    question = _tokens(bytes_each)
    shared = {
        "few_shot": _tokens(prompt["preamble"]),
        "completion": 0,
        "chat": _tokens(prompt["system"] or "") + 30,  # the template's own tokens
    }[prompt["style"]]
    frame = prompt["user"] if prompt["style"] == "chat" else prompt["template"]
    own, new = question + _tokens(frame), prompt["max_new_tokens"]
    prompts = {
        "generate_answers": Prompts(shared, own, new),
        "finetune_model": Prompts(shared, _tokens(QUESTION_BYTES["facts"]) + _tokens(frame), 16),
        "extract_hidden_states": Prompts(shared, own + new, 0),
        "extract_module_states": Prompts(shared, own + new, 0),
        "quote_answers": _asked(quote["prompt"], question + new, quote["max_new_tokens"]),
    }
    if ask:
        prompts["ask_p_true"] = _asked(ask["prompt"], question + new // 2, 0)
    figures, choices = config["figures"], config["choices"]
    inputs = tuple(_tokens(text) for text in config["inputs"])
    texts = figures["module_map"]["texts"] or config["inputs"]
    metric = figures["module_map"]["metric"]
    epsilon = len(figures["scale_qkv"].get("epsilon", []))
    choice_passes = len(choices["stage"]) * (3 * len(choices["over"]) * len(inputs) + 3 * epsilon)
    return Work(
        questions=questions,
        origin=origin,
        shards=config["shards"],
        batch_size=config["batch_size"],
        prompts=prompts,
        texts=inputs,
        map_texts=tuple(_tokens(text) for text in texts),
        changes={"extract_altered_states": 3 * len(inputs), "extract_choice_states": choice_passes},
        map_metrics=(metric,) if isinstance(metric, str) else tuple(metric),
        probes={name: _probe(asked) for name, asked in protocols.items()},
        probe_jobs=config["probe"]["jobs"],
        **{key: config[key] for key in ("device", "dtype", "device_map", "gpus", "gpu_memory_gb")},
    )


def _asked(prompt: str, filled: int, new: int) -> Prompts:
    """A prompt of solved examples: all before the last empty line is taken for shared."""
    shared, _, own = prompt.rpartition("\n\n")
    return Prompts(_tokens(shared), _tokens(own) + filled, new)


def _probe(asked: Mapping) -> Probe:
    protocol = asked["protocol"]
    labels = 1 + len(protocol["controls"])
    if protocol["C"] == "cv":
        labels *= 16  # five strengths in three inner folds, and the last fit
    folds = protocol["folds"]
    return Probe(
        tokens=len(asked["tokens"]),
        divisions=folds * protocol["repeats"] if protocol["split"] == "folds" else 1,
        labels=labels,
        solver=protocol["solver"],
        share=1 - 1 / folds if protocol["split"] == "folds" else 1,
    )


def count_questions(dataset: Mapping) -> tuple[int, float, str]:
    """Questions of the config's dataset, bytes of one, and how that is known; no download."""
    limit = dataset["limit"]
    if dataset["source"] == "facts":
        count, size, origin = FACTS, float(QUESTION_BYTES["facts"]), "built-in facts"
    elif dataset["source"] == "path":
        count, size, origin = _count_rows(Path(dataset["path"]).expanduser())
        if dataset["hold_out"]:
            held_out, _, _ = _count_rows(Path(dataset["hold_out"]).expanduser())
            return min(count, limit or count) + held_out, size, f"{origin}, hold_out"
    else:
        count, size, origin = UNKNOWN_QUESTIONS, float(QUESTION_BYTES["unknown"]), "assumed"
    if limit and limit < count:
        return limit, size, "dataset.limit"
    return count, size, origin


def _count_rows(path: Path) -> tuple[int, float, str]:
    unknown = float(QUESTION_BYTES["unknown"])
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return max(1, pq.read_metadata(path).num_rows), unknown, f"rows of {path.name}"
        with path.open("rb") as file:
            begin = file.read(SAMPLE)
        lines, size = begin.count(b"\n") + 1, path.stat().st_size
    except (OSError, ValueError):
        return UNKNOWN_QUESTIONS, unknown, "assumed"
    count = math.ceil(lines * size / max(1, len(begin)))
    return max(1, count), min(len(begin) / lines, 8000), f"lines of {path.name}"


def _tokens(text: str | float) -> int:
    size = len(text.encode()) if isinstance(text, str) else text
    return math.ceil(size / BYTES_PER_TOKEN)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def threads_needed(stage: str, shape: Shape) -> int:
    """CPU cores of a job: many for a stage that goes through all questions, or a large model."""
    if stage in (*TEXT_STAGES, *CHECKPOINT_STAGES):
        if stage != "ablate_modules":  # many passes, even over a few texts
            return 8 if shape.parameters > GPU_PARAMETERS else 1
        return 8
    return 8 if stage in (*QUESTION_STAGES, "finetune_model", *PROBE_STAGES) else 1


def gpus_needed(shape: Shape, work: Work) -> int:
    """GPUs that a job asks for so that the model and a batch fit; 0 for a job on the CPU."""
    if work.device in ("cpu", "mps"):
        return 0
    if work.gpus != "auto":
        return int(work.gpus)
    if shape.parameters <= GPU_PARAMETERS:
        return 0
    full = gpu_bytes(shape, work) / (work.gpu_memory_gb * 1e9 * GPU_SHARE)
    return math.ceil(full if full <= 1 else full * UNEVEN)


def gpu_bytes(shape: Shape, work: Work) -> float:
    """GPU memory of the weights and the largest batch, all devices together."""
    size = parameter_bytes(shape, work, True)
    return shape.parameters * size + max(
        _batch_bytes(shape, prompts, work.batch_size, size) for prompts in work.prompts.values()
    )


def parameter_bytes(shape: Shape, work: Work, on_gpu: bool) -> int:
    """Bytes of one parameter as it is loaded."""
    if work.dtype != "auto":
        return BYTES[work.dtype]
    return BYTES.get(shape.dtype, 4) if on_gpu else 4


def _batch_bytes(shape: Shape, prompts: Prompts, batch: int, size: int) -> float:
    """Key-value cache (twice: it is copied as it grows), activations and logits of a batch."""
    cache = prompts.all * 2 * shape.layers * shape.key_value_heads * shape.head_dim * size
    activations = prompts.own * (8 * shape.hidden_size + 3 * shape.intermediate_size) * size
    logits = shape.vocabulary * (size + 8)
    return batch * (2 * cache + activations + logits)


def estimate(
    stage: str,
    shape: Shape,
    work: Work,
    attempt: int = 1,
    threads: int = 8,
    protocol: str = "scores",
) -> Need:
    """What one job of `stage` (a rule's name) needs, as an upper bound.

    attempt: from 1; each further one has half as much memory again, and twice the time.
    threads: CPU cores of the job. protocol: which probes, of score_probes.
    """
    if stage in QUESTION_STAGES:
        need = _questions_stage(stage, shape, work, threads)
    elif stage == "ablate_modules":
        need = _ablation(shape, work, threads)
    elif stage in TEXT_STAGES:
        need = _texts_stage(stage, shape, work, threads)
    elif stage in CHECKPOINT_STAGES:
        need = _checkpoint_stage(stage, shape, work, threads)
    elif stage == "score_probes":
        need = _score_probes(shape, work, threads, work.probes[protocol])
    elif stage == "finetune_model":
        need = _finetune_model(shape, work, threads)
    elif stage == "score_module_probes":
        need = _score_module_probes(shape, work, threads, work.probes["scores"])
    elif stage == "prepare_model":
        need = _prepare_model(shape)
    else:
        need = _local(stage, shape, work)
    return Need(
        math.ceil(need.memory_mb * MORE_MEMORY ** (attempt - 1)),
        math.ceil(need.disk_mb),
        need.minutes * MORE_TIME ** (attempt - 1),
        need.gpus,
    )


def _model_in_memory(shape: Shape, work: Work, gpus: int) -> tuple[float, float]:
    """Host memory, MB, and seconds until the model is ready."""
    seconds = START + shape.checkpoint / STORAGE
    weights = shape.parameters * parameter_bytes(shape, work, gpus > 0)
    if not gpus:
        # cast while it is read: the checkpoint's own pages count until they are dropped
        read = shape.checkpoint if weights != shape.checkpoint else 0
        return BASE_MB + (1.1 * weights + read) / MB, seconds
    # With a device map the weights pass through the host piece by piece.
    through = min(weights, max(10e9, weights / 4)) if work.device_map else weights
    return BASE_MB + CUDA_MB + through / MB, seconds


def _forward_seconds(shape: Shape, work: Work, gpus: int, threads: int, tokens: float) -> float:
    """Seconds for `tokens` that go through the layers together."""
    size = parameter_bytes(shape, work, gpus > 0)
    rate = GPU_RATE[size] if gpus else CPU_RATE * threads
    return tokens * 2 * (shape.parameters - shape.vocabulary * shape.hidden_size) / rate


def _questions_stage(stage: str, shape: Shape, work: Work, threads: int) -> Need:
    gpus = gpus_needed(shape, work)
    prompts = work.prompts[stage]
    questions = math.ceil(work.questions / work.shards)
    batch = min(work.batch_size, questions)
    size = parameter_bytes(shape, work, gpus > 0)
    memory, seconds = _model_in_memory(shape, work, gpus)
    if not gpus:
        memory += _batch_bytes(shape, prompts, batch, size) / MB
    batches = math.ceil(questions / batch) + min(questions, LENGTHS)
    seconds += _forward_seconds(
        shape, work, gpus, threads, questions * prompts.own + prompts.shared
    )
    seconds += batches * shape.layers * STEP
    if prompts.new:
        # Each new token of a batch reads all weights once, or computes, whichever is slower.
        rate = GPU_RATE[size] if gpus else CPU_RATE * threads
        computed = questions * prompts.new * 2 * shape.parameters / rate
        steps = batches * prompts.new
        weights = shape.parameters * size
        read = steps * weights / (GPU_BANDWIDTH if gpus else CPU_BANDWIDTH)
        seconds += max(computed, read) + steps * shape.layers * STEP
    written = questions * 4096.0
    if stage == "extract_hidden_states":
        state = (shape.layers + 1) * shape.hidden_size * 4 * len(NAMED_TOKENS)
        written = questions * state
        seconds += written / WRITING
        memory += 2 * batch * state / MB
    elif stage == "extract_module_states":
        state = shape.layers * _outputs(shape) * 4
        written = questions * state
        seconds += written / WRITING
        # what is kept of a batch, and the row group that it goes into
        memory += 3 * batch * state / MB + ROW_GROUP_MB
    return Need(math.ceil(memory), math.ceil(written / MB), seconds / 60, gpus)


def _texts_stage(stage: str, shape: Shape, work: Work, threads: int) -> Need:
    gpus = gpus_needed(shape, work)
    texts = work.map_texts if stage == "measure_modules" else work.texts
    size = parameter_bytes(shape, work, gpus > 0)
    memory, seconds = _model_in_memory(shape, work, gpus)
    if not gpus:
        memory += _batch_bytes(shape, Prompts(0, max(texts), 0), 1, size) / MB
    passes = work.changes.get(stage, len(texts))
    seconds += _forward_seconds(shape, work, gpus, threads, passes * max(texts))
    seconds += passes * shape.layers * TAPPED.get(stage, STEP)
    if stage == "measure_modules":
        written = held = sum(texts) * shape.layers * MODULES * 96
    else:
        unaltered = stage == "extract_attention_states"
        layers = shape.layers if unaltered else 5
        one = _row_bytes(shape, max(texts))
        written = passes * layers * one
        # a layer at a time, or those that are kept of a pass; in several forms, while it is written
        held = min(written, (4 if unaltered else 8) * one)
        rate = GPU_RATE[size] if gpus else CPU_RATE * threads
        seconds += passes * shape.layers * 4 * shape.head_dim * _weights(shape, max(texts)) / rate
        if unaltered:  # the strength of every sink
            seconds += sum(shape.layers * _weights(shape, text) for text in texts) * WEIGHT
    memory += 2 * held / MB
    return Need(math.ceil(memory), math.ceil(written / MB), seconds / 60, gpus)


def _row_bytes(shape: Shape, tokens: int) -> int:
    """A row of an attention states file: queries, keys, two numbers for each rotated feature."""
    return (shape.heads + shape.key_value_heads + 2) * tokens * shape.head_dim * 4


def _weights(shape: Shape, tokens: int) -> float:
    """Attention weights of one layer: what every head's queries give to the keys they see."""
    return shape.heads * tokens**2 / 2


def _ablation(shape: Shape, work: Work, threads: int) -> Need:
    """A copy of each text per projection of each layer, through the layers above it."""
    gpus = gpus_needed(shape, work)
    size = parameter_bytes(shape, work, gpus > 0)
    memory, seconds = _model_in_memory(shape, work, gpus)
    if not gpus:
        longest = max(work.map_texts)
        copies = _batch_bytes(shape, Prompts(0, longest, 0), MODULES, size)
        # logits of the copies, and two sets of log-probabilities of one
        one = longest * shape.vocabulary * 4
        memory += (2 * max(one, min(MODULES * one, LOGIT_BYTES)) + 3 * one) / MB
        memory += (copies + longest * shape.layers * shape.hidden_size * size) / MB
    tokens = sum(work.map_texts) * MODULES
    seconds += _forward_seconds(shape, work, gpus, threads, tokens * (shape.layers + 1) / 2)
    # logits, of every copy, and their logarithms in double precision
    logits = tokens * shape.layers * shape.vocabulary
    rate = GPU_RATE[size] if gpus else CPU_RATE * threads
    seconds += logits * (2 * shape.hidden_size + LOGARITHM) / rate
    seconds += len(work.map_texts) * shape.layers * shape.layers * STEP
    return Need(math.ceil(memory), 1, seconds / 60, gpus)


def _outputs(shape: Shape) -> int:
    """Outputs of all projections of a block."""
    heads = shape.head_dim * (shape.heads + 2 * shape.key_value_heads)
    return heads + 2 * shape.hidden_size + 2 * shape.intermediate_size


def _score_module_probes(shape: Shape, work: Work, threads: int, probe: Probe) -> Need:
    """One probe for every projection, the widest of which has the feed-forward part's size."""
    one = _score_probes(shape, work, threads, replace(probe, tokens=1, labels=1))
    widest = replace(shape, hidden_size=max(shape.intermediate_size, shape.hidden_size))
    wide = _score_probes(widest, work, threads, replace(probe, tokens=1, labels=1))
    minutes = (MODULES - 2) * one.minutes + 2 * wide.minutes
    return Need(wide.memory_mb, 1, work.probe_jobs * minutes)


def _checkpoint_stage(stage: str, shape: Shape, work: Work, threads: int) -> Need:
    """One pair of matrices, its difference and its Gram matrices; see `weight_metrics`."""
    hidden = shape.hidden_size
    widest = max(shape.intermediate_size, shape.heads * shape.head_dim)
    entries, side = hidden * widest, min(hidden, widest)
    size = BYTES.get(shape.dtype, 4)
    rates = WEIGHT_RATES[stage]
    # nothing asked for by the config: a file asked for by name has them all
    asked = rates.keys() & {*work.map_metrics} or rates.keys()
    two = stage == "measure_updates"
    seconds = START + (1 + two) * shape.checkpoint / STORAGE
    seconds += sum(shape.parameters / rates[metric] for metric in asked) / threads
    # products, and eigenvalues of one matrix after the other
    factored = 2 * shape.parameters * side + 4 * side**3 * shape.parameters / entries
    seconds += sum(GRAMS.get(metric, 0) for metric in asked) * factored / FACTOR_RATE / threads
    memory = entries * (2 * size + 3 * 4) + 3 * 8 * side * side if two else entries * size
    return Need(math.ceil(BASE_MB + 200 + memory / MB), 1, seconds / 60)


def _score_probes(shape: Shape, work: Work, threads: int, probe: Probe) -> Need:
    questions, hidden = work.questions, shape.hidden_size
    layers = math.ceil((shape.layers + 1) / work.probe_jobs)
    # one layer's column, read whole by each process that fits probes of it
    column = questions * len(NAMED_TOKENS) * hidden * 4
    fitted = questions * probe.share
    dual = fitted < MORE_EXAMPLES * hidden
    side = fitted if dual else hidden
    worker = (2 * questions * hidden * (1 if dual else 2) + 4 * side * side) * 4
    memory = BASE_MB + threads * (WORKER_MB + (2 * column + worker) / MB)
    if probe.solver == "newton":
        # the product that the labels share, and for each the factors of its systems
        product = fitted * side * (hidden if dual else FACTORS * probe.labels * hidden)
        one = product / probe.labels + FACTORS * side**3 / 3
        seconds = one / PROBE_RATE + FIT_SECONDS
    else:
        seconds = 100 * 4 * fitted * hidden / 1e9 + 0.01  # bound by memory, not by arithmetic
    fits = layers * probe.tokens * probe.divisions * probe.labels
    seconds = START + fits * seconds / threads + layers * 2 * column / STORAGE
    rows = fits * questions / max(1, probe.divisions)
    return Need(math.ceil(memory), math.ceil(rows * 16 / MB), seconds / 60)


def _finetune_model(shape: Shape, work: Work, threads: int) -> Need:
    """Weights, gradients and AdamW's two moments in float32, and a batch's activations."""
    steps, batch = shape.training["steps"], shape.training["batch_size"]
    gpus = min(1, gpus_needed(shape, work))
    prompts = work.prompts["finetune_model"]
    rows = batch * (prompts.own + prompts.new)
    tokens = prompts.shared + rows
    # what a layer keeps for the way back: about these many numbers a token, and the logits thrice
    kept = shape.layers * (20 * shape.hidden_size + 5 * shape.intermediate_size)
    logits = 3 * rows * shape.vocabulary
    memory = (17 * shape.parameters + 4 * (tokens * kept + logits)) / MB
    rate = GPU_RATE[4] if gpus else CPU_RATE * threads
    # forward, and twice as much backward; then the facts' losses before and after
    seconds = steps * (
        6 * shape.parameters * tokens / rate
        + 80 * shape.parameters / (GPU_BANDWIDTH if gpus else CPU_BANDWIDTH)
        + 3 * shape.layers * STEP
    )
    facts = FACTS * min(1, 2 * shape.training["share"])  # whose loss is measured
    asked = facts * (prompts.own + prompts.new + prompts.shared / (4 * batch))
    seconds += 2 * 2 * shape.parameters * asked / rate
    seconds += START + 2 * 4 * shape.parameters / STORAGE
    through = CUDA_MB + 8 * shape.parameters / MB if gpus else memory
    return Need(
        math.ceil(BASE_MB + through), math.ceil(4.1 * shape.parameters / MB), seconds / 60, gpus
    )


def _prepare_model(shape: Shape) -> Need:
    size = shape.checkpoint
    seconds = START + size / HASHING
    if shape.source in ("path", "finetune"):
        return Need(1200, 1, seconds / 60)
    seconds += size / DOWNLOAD
    if shape.source == "hub":
        return Need(1200, math.ceil(size / MB), seconds / 60)
    # a GGUF file, which holds less than the checkpoint in float32 that is made of it
    size = 4 * shape.parameters
    return Need(math.ceil(BASE_MB + 3 * size / MB), math.ceil(1.5 * size / MB), seconds / 60)


def _local(stage: str, shape: Shape, work: Work) -> Need:
    """The small rules; those of the probe hold its predictions or bootstrap its scores."""
    if stage in MAP_STAGES:
        memory = 600 + 10 * _row_bytes(shape, max(work.texts)) / MB
        weights = MAP_STAGES[stage] * sum(_weights(shape, text) for text in work.texts)
        return Need(math.ceil(memory), 50, 0.25 + weights * WEIGHT / 60)
    if stage not in PREDICTION_STAGES:
        return Need(600, 10, 0.25)
    rows = max(
        (shape.layers + 1) * probe.tokens * probe.labels * work.questions
        for probe in work.probes.values()
    )
    return Need(math.ceil(500 + rows * 160 / MB), 10, 0.25 + rows / 5e6)


def request(need: Need, attempt: int = 1) -> dict[str, int | None]:
    """The resources of a Snakemake rule; nothing is asked of GPUs where none is needed.

    need: what `estimate` says of this attempt; the least that is asked for grows as it does.
    Memory is that of the script and of the Snakemake that starts it.
    """
    memory = max(SMALLEST_MB * MORE_MEMORY ** (attempt - 1), need.memory_mb) + SNAKEMAKE_MB
    return {
        "mem_mb": math.ceil(memory / 100) * 100,
        "disk_mb": max(10, need.disk_mb),
        "runtime": max(SHORTEST * MORE_TIME ** (attempt - 1), math.ceil(need.minutes)),
        "gpu": need.gpus or None,
    }
