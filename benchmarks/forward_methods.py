"""The stages that run the model: ours, the obvious loop, and plain batches."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import CORES, config, measured, results, sample, valid_answers
from transformers import StoppingCriteria, StoppingCriteriaList

from llm_figures.generation import generate
from llm_figures.hidden_states import hidden_states
from llm_figures.hidden_states_file import hidden_states_schema, layer_columns
from llm_figures.models import decoder, decoder_layers, load_model
from llm_figures.probed import positions_of
from llm_figures.prompts import question_ids, stop_strings
from llm_figures.tensors import read_frame, read_table, read_tensors, tensor_file

PLAIN_BATCH = 16
# Extraction is compared at one token that every question has.
COMPARED_TOKEN, COMPARED_QUESTIONS = "exact_answer_last", 20


def generation(task: dict) -> None:
    settings = config()
    asked = read_frame(results(task["model"]) / "forward" / "questions.parquet")
    asked = sample(asked, task["questions"])
    model, tokenizer = load(task)
    prompts = question_ids(tokenizer, settings["prompt"], asked["question"].tolist())
    limits = {
        "stop": stop_strings(settings["prompt"]),
        "max_new_tokens": settings["prompt"]["max_new_tokens"],
    }

    def ours(prompts):
        batches = generate(model, tokenizer, prompts, batch_size=settings["batch_size"], **limits)
        texts = {answer.index: answer.text for batch in batches for answer in batch}
        return [texts[index] for index in range(len(prompts))]

    plain = partial(plain_generation, model, tokenizer, **limits)
    work = {
        "loop": partial(plain, batch_size=1),
        "plain batches": partial(plain, batch_size=PLAIN_BATCH),
        "ours": ours,
    }[task["method"]]
    texts = measured(task, work, prompts, prompts[:1], len(prompts))
    Path(task["folder"], "texts.json").write_text(json.dumps(texts))


def plain_generation(model, tokenizer, prompts, *, stop, max_new_tokens, batch_size) -> list[str]:
    """transformers' own generation, batches padded on the left and sorted by length."""

    class Stop(StoppingCriteria):
        def __init__(self, width: int):
            self._width = width

        def __call__(self, input_ids, scores, **kwargs):
            answers = tokenizer.batch_decode(input_ids[:, self._width :])
            ended = [any(string in answer for string in stop) for answer in answers]
            return torch.tensor(ended, device=input_ids.device)

    texts = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = len(prompts[batch[-1]])
        lengths = torch.tensor([[len(prompts[index])] for index in batch], device=model.device)
        ids = torch.tensor(
            [[0] * (width - len(prompts[index])) + list(prompts[index]) for index in batch],
            device=model.device,
        )
        generated = model.generate(
            ids,
            attention_mask=(torch.arange(width, device=model.device) >= width - lengths).long(),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            stopping_criteria=StoppingCriteriaList([Stop(width)]),
            pad_token_id=tokenizer.eos_token_id,
        )
        for index, ids in zip(batch, generated[:, width:].tolist(), strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            cuts = [cut for string in stop if (cut := text.find(string)) >= 0]
            texts[index] = text[: min(cuts, default=len(text))]
    return texts


def extraction(task: dict) -> None:
    model, _ = load(task)
    answers = valid_answers(task, task["questions"])
    work = {
        "loop": partial(loop_extraction, model),
        "plain batches": partial(batch_extraction, model),
        "ours": partial(our_extraction, model, Path(task["folder"], "states.parquet")),
    }[task["method"]]
    found = measured(task, work, answers, answers[:1], len(answers))
    few = answers[:COMPARED_QUESTIONS]
    if task["method"] == "ours":
        states = read_compared(found, few)
    else:
        at = [list(names).index(COMPARED_TOKEN) for names in positions_of(few)]
        states = np.stack([layers[:, row] for layers, row in zip(found, at, strict=False)])
    np.save(Path(task["folder"], "states.npy"), states)


def memory(task: dict) -> None:
    """Our extraction of as many questions as the method's name says.

    Few rows, the same for every size, stand in it again and again under other question ids, so that
    the work for a row is the same.
    """
    model, _ = load(task)
    count = int(task["method"].split()[0])
    rows = valid_answers(task, min(task["memory_sizes"]))
    answers = rows.iloc[np.arange(count) % len(rows)].assign(question_id=np.arange(count))
    work = partial(our_extraction, model, Path(task["folder"], "states.parquet"))
    measured(task, work, answers, answers[:1], len(answers))


def our_extraction(model, path: Path, answers: pd.DataFrame) -> Path:
    """As scripts/extract_hidden_states.py does it, the file included."""
    schema = hidden_states_schema(len(decoder_layers(model)), model.config.hidden_size)
    batches = hidden_states(
        model,
        answers["question_id"].tolist(),
        [list(ids) for ids in answers["prompt_ids"]],
        [list(ids) for ids in answers["answer_ids"]],
        positions_of(answers),
        batch_size=config()["batch_size"],
    )
    with tensor_file(path, schema) as file:
        for batch in batches:
            file.write(batch)
    return path


def read_compared(path: Path, answers: pd.DataFrame) -> np.ndarray:
    """[questions, layers, hidden]"""
    keys = read_table(path, ["question_id", "token"]).to_pandas()
    keys = keys[keys["token"] == COMPARED_TOKEN]
    rows = pd.Series(keys.index, index=keys["question_id"])[answers["question_id"]]
    layers = layer_columns(path)
    return np.stack([read_tensors(read_table(path, [name]), name)[rows] for name in layers], axis=1)


def loop_extraction(model, answers: pd.DataFrame) -> list[np.ndarray]:
    """Question by question, every token of every layer kept until all are done; then the named
    tokens, [layers, named tokens, hidden] of each question.
    """
    sequences = whole_sequences(answers)
    size = 4 * (model.config.num_hidden_layers + 1) * model.config.hidden_size  # bytes a token
    if size * sum(map(len, sequences)) > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        sys.exit(f"states of {len(answers)} questions do not fit in memory; lower --questions")
    kept = []
    for ids in sequences:
        with every_layer(model, lambda states: states[0].float().cpu().numpy()) as found:
            forward(model, [ids])
        kept.append(found)
    return [
        np.stack([states[list(positions.values())] for states in layers])
        for layers, positions in zip(kept, positions_of(answers), strict=True)
    ]


def batch_extraction(model, answers: pd.DataFrame) -> list[np.ndarray]:
    """The same in padded batches, of which only the named tokens are kept."""
    sequences = whole_sequences(answers)
    places = [list(positions.values()) for positions in positions_of(answers)]
    named: list[np.ndarray] = [np.empty(0)] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for start in range(0, len(order), PLAIN_BATCH):
        batch = order[start : start + PLAIN_BATCH]
        rows = [row for row, index in enumerate(batch) for _ in places[index]]
        at = [place for index in batch for place in places[index]]

        def named_only(states, rows=rows, at=at):
            return states[rows, at].float().cpu().numpy()

        with every_layer(model, named_only) as found:
            forward(model, [sequences[index] for index in batch])
        ends = np.cumsum([len(places[index]) for index in batch])[:-1]
        for index, states in zip(batch, np.split(np.stack(found), ends, axis=1), strict=True):
            named[index] = states
    return named


def whole_sequences(answers: pd.DataFrame) -> list[list[int]]:
    return [[*row.prompt_ids, *row.answer_ids] for row in answers.itertuples()]


def forward(model, sequences: Sequence[Sequence[int]]) -> None:
    """A pass without the language-model head, which no method here needs."""
    longest = max(map(len, sequences))
    ids = [[*ids, *[0] * (longest - len(ids))] for ids in sequences]
    with torch.inference_mode():
        decoder(model)(input_ids=torch.tensor(ids, device=model.device), use_cache=False)


@contextmanager
def every_layer(model, keep: Callable) -> Iterator[list[np.ndarray]]:
    """A list that keep(states [batch, tokens, hidden]) of the embeddings and every block fills."""
    found: list[np.ndarray] = []
    blocks = decoder_layers(model)

    def entering(module, args, kwargs):
        found.append(keep(args[0] if args else kwargs["hidden_states"]))

    def leaving(module, args, output):
        found.append(keep(output[0] if isinstance(output, tuple) else output))

    handles = [blocks[0].register_forward_pre_hook(entering, with_kwargs=True)]
    handles += [block.register_forward_hook(leaving) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def load(task: dict):
    settings = config()
    card = results(task["model"]) / "model.json"
    return load_model(card, settings["device"], settings["dtype"], threads=CORES)
