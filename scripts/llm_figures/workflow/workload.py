"""Describe the workload of a run for each model: questions, tokens, passes, probes."""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llm_figures.core.text_files import open_binary
from llm_figures.modules.metrics import shown_metrics
from llm_figures.probe.protocol import CROSS_VALIDATIONS, VARIANT
from llm_figures.questions.question_files import find_kind

# Questions of the built-in sets.
BUILT_IN = {"facts": 1023, "airports": 384, "elements": 320, "arithmetic": 300}
FACTS = BUILT_IN["facts"]
UNKNOWN_QUESTIONS = 10_000  # assumed for a dataset that is not on this machine yet
FACT_BYTES, UNKNOWN_BYTES = 60.0, 400.0  # bytes of a question
BYTES_PER_TOKEN = 3.5  # in English; other scripts need more tokens
SAMPLE = 8 * 2**20  # bytes at the beginning of a file in which lines are counted


class Prompts(NamedTuple):
    """Numbers of tokens of a row of a batch: shared by all rows, its own, and generated."""

    shared: int
    own: int
    new: int


@dataclass(frozen=True)
class Probe:
    """The probes of one layer: tokens × divisions × labels fits of a kind and, if any, a solver.

    share: of the questions that one fit trains on. shuffled: fits with shuffled labels in each
    division of the chosen cells.
    """

    tokens: int
    divisions: int
    labels: int
    kind: str
    solver: str | None
    share: float
    shuffled: int


@dataclass(frozen=True)
class Workload:
    """The work that a run has for a model, and where it runs.

    origin: how the number of questions is known, in words. states_bytes: of a stored number of
    hidden states. prompts: by purpose: "answer", "quote", "judge", "p_true" and its variants
    ("p_true_NAME"), "states" (question and answer), "training". texts, map_texts: tokens of each
    text of the attention figures and of the module map. sink_tokens: of each text that count in
    sink_map. intervention_passes, choice_passes: passes
    over one text with an intervention, for the figures and for the choices. probes: by protocol.
    permutations: of the labels, for the probe's best cell. best_repeats: draws of folds there.
    sampled, samples: questions of which answers are sampled, and how many of each. kind_tokens:
    tokens at which kinds of error are probed. transfer_layers: in which transferred probes are
    fitted; None for all.
    """

    questions: int
    origin: str
    shards: int
    batch_size: int
    states_bytes: int
    prompts: Mapping[str, Prompts]
    texts: tuple[int, ...]
    map_texts: tuple[int, ...]
    sink_tokens: int
    map_metrics: tuple[str, ...]
    intervention_passes: int
    choice_passes: int
    probes: Mapping[str, Probe]
    probe_jobs: int
    permutations: int
    best_repeats: int
    transferred: tuple[int, ...]
    transfer_tokens: int
    transfer_layers: int | None
    sampled: int
    samples: int
    kind_tokens: int
    device: str
    dtype: str
    device_map: str | None
    gpus: int | str
    gpu_memory_gb: float


# Groups of the questions, where each is a fold.
ASSUMED_GROUPS = 10
# Tokens of the right answers that a judge is shown.
GOLD = 16


def describe_workload(
    config: Mapping, protocols: Mapping[str, Mapping], asked: str = ""
) -> Workload:
    """The workload of a checked config; reads only the beginning of files of questions.

    asked: the set of `datasets` whose questions are asked; "" for the run's own.
    """
    further = {name: one for name, one in config["datasets"].items() if one is not None}
    own = further[asked] if asked else config["dataset"]
    questions, question_bytes, origin = count_questions(own)
    figures, choices = config["figures"], config["choices"]
    texts = tuple(count_tokens(text) for text in config["inputs"])
    map_texts = figures["module_map"]["texts"] or config["inputs"]
    epsilons = len(figures["scale_qkv"].get("epsilon", []))
    return Workload(
        questions=questions,
        origin=origin,
        prompts=_prompts(config, own, count_tokens(question_bytes)),
        states_bytes={"float32": 4, "float16": 2}[config["states_dtype"]],
        texts=texts,
        map_texts=tuple(count_tokens(text) for text in map_texts),
        sink_tokens=figures["sink_map"]["tokens"],
        map_metrics=tuple(shown_metrics(figures["module_map"]["metric"])),
        intervention_passes=3 * len(texts),
        choice_passes=3 * len(choices["stage"]) * (len(choices["over"]) * len(texts) + epsilons),
        probes={
            name: _describe_probe(entry, config["probe"]["shuffles"])
            for name, entry in protocols.items()
        },
        probe_jobs=config["probe"]["jobs"],
        permutations=figures["probe_best"]["permutations"],
        best_repeats=figures["probe_best"]["repeats"],
        transferred=tuple(
            count_questions(one)[0] for one in (config["dataset"], *further.values())
        ),
        transfer_tokens=len(figures["probe_transfer"]["tokens"]),
        transfer_layers=None if figures["probe_transfer"]["layer"] is None else 1,
        sampled=min(questions, config["resamples"]["limit"] or questions),
        samples=config["resamples"]["count"],
        kind_tokens=len(figures["error_kinds"]["tokens"]),
        **{
            key: config[key]
            for key in (
                *("shards", "batch_size", "device", "dtype", "device_map"),
                *("gpus", "gpu_memory_gb"),
            )
        },
    )


def _prompts(config: Mapping, dataset: Mapping, question: int) -> dict[str, Prompts]:
    """Tokens of every prompt about a dataset. question: tokens of one question."""
    prompt, quote, ask = config["prompt"], config["exact_answer"], config["probe"]["p_true"]
    shared = {
        "few_shot": count_tokens(prompt["preamble"]),
        "completion": 0,
        "chat": count_tokens(prompt["system"] or "") + 30,  # the template's own tokens
    }[prompt["style"]]
    frame = count_tokens(prompt["user"] if prompt["style"] == "chat" else prompt["template"])
    own, new = question + frame, prompt["max_new_tokens"]
    if dataset["response"] is not None:
        new = question  # at most: the whole row of the file

    def after_examples(text: str, filled: int, new: int) -> Prompts:
        examples, _, last = text.rpartition("\n\n")
        return Prompts(count_tokens(examples), count_tokens(last) + filled, new)

    prompts = {
        "answer": Prompts(shared, own, new),
        "states": Prompts(shared, own + new, 0),
        "quote": after_examples(quote["prompt"], question + new, quote["max_new_tokens"]),
        "judge": after_examples(config["judge"]["prompt"], question + new + GOLD, 4),
        "training": Prompts(shared, count_tokens(FACT_BYTES) + frame, 16),
    }
    if ask:
        variants = {f"{VARIANT}{name}": variant for name, variant in ask["variants"].items()}
        for name, one in {"p_true": ask, **variants}.items():
            prompts[name] = after_examples(one["prompt"], question + new // 2, 0)
    return prompts


def _describe_probe(entry: Mapping, shuffles: int) -> Probe:
    protocol = entry["protocol"]
    labels = 1 + len(protocol["controls"])
    if protocol["C"] == "cv":
        labels *= 16  # five penalties in three inner folds, and the final fit
    in_folds, folds = protocol["split"] in CROSS_VALIDATIONS, protocol["folds"]
    if protocol["split"] == "groups":
        folds = ASSUMED_GROUPS
    return Probe(
        tokens=len(entry["tokens"]),
        divisions=folds * protocol["repeats"] if in_folds else 1,
        labels=labels,
        kind=protocol["kind"],
        solver=protocol["solver"],
        share=1 - 1 / folds if in_folds else 1,
        shuffled=(labels - labels // (1 + len(protocol["controls"]))) * shuffles,
    )


def count_tokens(text: str | float) -> int:
    """The approximate number of tokens of a text, or of a number of bytes."""
    return math.ceil((len(text.encode()) if isinstance(text, str) else text) / BYTES_PER_TOKEN)


def count_questions(dataset: Mapping) -> tuple[int, float, str]:
    """(number of questions, bytes of one, how these are known) of a dataset; without a download."""
    limit = dataset["limit"]
    if dataset["source"] == "facts":
        name = dataset["name"]
        count, size, origin = BUILT_IN[name], FACT_BYTES, f"built-in {name}"
    elif dataset["source"] == "path":
        count, size, origin = _count_rows(Path(dataset["path"]).expanduser(), dataset)
        if dataset["hold_out"]:
            held_out, _, _ = _count_rows(Path(dataset["hold_out"]).expanduser(), dataset)
            return min(count, limit or count) + held_out, size, f"{origin}, hold_out"
    else:
        count, size, origin = UNKNOWN_QUESTIONS, UNKNOWN_BYTES, "assumed"
    if limit and limit < count:
        return limit, size, "dataset.limit"
    return count, size, origin


def _count_rows(path: Path, dataset: Mapping) -> tuple[int, float, str]:
    """As `count_questions`, of one file. A row of JSON is counted by the key of its question."""
    kind = find_kind(path)
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            return max(1, pq.read_metadata(path).num_rows), UNKNOWN_BYTES, f"rows of {path.name}"
        with path.open("rb") as stored, open_binary(path) as file:
            begin = file.read(SAMPLE)
            # of a compressed file, that of the bytes read so far
            share = getattr(file, "fileobj", file).tell() / max(1, stored.seek(0, 2))
    except (OSError, EOFError, ValueError, zlib.error):
        return UNKNOWN_QUESTIONS, UNKNOWN_BYTES, "assumed"
    if kind == ".json":
        lines = max(1, begin.count(json.dumps(dataset["question"].split(".")[-1]).encode()))
    else:
        lines = begin.count(b"\n") + 1
    count = math.ceil(lines / share) if share else 1
    rows = "rows" if kind == ".json" else "lines"
    return max(1, count), min(len(begin) / lines, 8000), f"{rows} of {path.name}"
