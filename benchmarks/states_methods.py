"""Hidden states of every layer at the named tokens: the published loop, plain batches, ours."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from limit import shared_operations
from made import config, given_answers, load, repeated
from measuring import measured, note

from llm_figures.core.parquet_tensors import read_table, read_tensors, tensor_file
from llm_figures.inference.generation import NO_STOP
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.models.loading import decoder, decoder_layers
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.schema import make_hidden_states_schema, read_layer_columns
from llm_figures.probe.shard_answers import locate_tokens

# The methods are compared at one token that every question has.
COMPARED_TOKEN, COMPARED_QUESTIONS = "exact_answer_last", 20


def loop(task: dict) -> None:
    _plain(task, _one_by_one)


def plain_batches(task: dict) -> None:
    _plain(task, partial(_in_batches, size=task["plain_batch"]))


def ours(task: dict) -> None:
    """As scripts/extract_hidden_states.py does it, the file included."""
    model, tokenizer = load(task)
    answers = given_answers(task, tokenizer)
    if "repeated" in task:  # few rows again and again: the work for a row is the same
        answers = repeated(answers, task["repeated"])
    path = Path(task["folder"], "states.parquet")
    measured(task, partial(to_file, task, model, path), answers, answers[:1], len(answers))
    if "repeated" not in task:
        prefix = len(shared_prefix([list(ids) for ids in answers["prompt_ids"]]))
        lengths = [len(sequence) for sequence in whole_sequences(answers)]
        note(task, operations=shared_operations(model, lengths, prefix))
        few = answers[:COMPARED_QUESTIONS]
        np.save(Path(task["folder"], "states.npy"), _compared(path, few))


def to_file(task: dict, model, path: Path, answers: pd.DataFrame) -> None:
    schema = make_hidden_states_schema(len(decoder_layers(model)), model.config.hidden_size)
    batches = extract_hidden_states(
        model,
        answers["question_id"].tolist(),
        answers["prompt_ids"].tolist(),
        answers["answer_ids"].tolist(),
        locate_positions(answers),
        batch_size=config(task)["batch_size"],
    )
    with tensor_file(path, schema) as file:
        for batch in batches:
            file.write(batch)


def _compared(path: Path, answers: pd.DataFrame) -> np.ndarray:
    """[questions, layers, hidden]"""
    keys = read_table(path, ["question_id", "token"]).to_pandas()
    keys = keys[keys["token"] == COMPARED_TOKEN]
    rows = pd.Series(keys.index, index=keys["question_id"])[answers["question_id"]]
    layers = read_layer_columns(path)
    return np.stack([read_tensors(read_table(path, [name]), name)[rows] for name in layers], axis=1)


def _plain(task: dict, method: Callable) -> None:
    model, tokenizer = load(task)
    answers = given_answers(task, tokenizer)
    found = measured(task, partial(method, model), answers, answers[:1], len(answers))
    few = locate_positions(answers[:COMPARED_QUESTIONS])
    at = [list(names).index(COMPARED_TOKEN) for names in few]
    states = np.stack([layers[:, row] for layers, row in zip(found, at, strict=False)])
    np.save(Path(task["folder"], "states.npy"), states)


def _one_by_one(model, answers: pd.DataFrame) -> list[np.ndarray]:
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
        for layers, positions in zip(kept, locate_positions(answers), strict=True)
    ]


def _in_batches(model, answers: pd.DataFrame, size: int) -> list[np.ndarray]:
    """The same in padded batches, of which only the named tokens are kept."""
    sequences = whole_sequences(answers)
    places = [list(positions.values()) for positions in locate_positions(answers)]
    named: list[np.ndarray] = [np.empty(0)] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
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


def locate_positions(answers: pd.DataFrame) -> list[dict[str, int]]:
    """Positions of the named tokens that are tokens of the prompt and the answer."""
    return [
        {name: position for name, position in positions.items() if isinstance(position, int)}
        for positions in locate_tokens(answers.assign(stop_id=NO_STOP))
    ]


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
