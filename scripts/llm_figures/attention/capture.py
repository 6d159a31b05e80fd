"""Queries and keys of whole texts, from a forward pass with or without an intervention in it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.attention.attention_hook import Captured, tap
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import LayerStates, attention_states_schema
from llm_figures.core.errors import UserError
from llm_figures.models.loading import decoder, decoder_layers, input_device


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    key: str = "inputs",
    room: int | None = None,
) -> list[list[int]]:
    """Token ids of each text, with the special tokens the tokenizer itself adds.

    room: tokens that the model takes at most; None where that is not known.

    Raises:
        UserError: a text of fewer than two tokens, whose causal map says nothing; one that the
            model does not take.
    """
    ids = [tokenizer(text)["input_ids"] for text in texts]
    for index, (text, tokens) in enumerate(zip(texts, ids, strict=True)):
        if len(tokens) < 2:
            raise UserError(
                f"config: {key}[{index + 1}]: {text!r} is {len(tokens)} token(s) to this model; "
                "a text needs at least two"
            )
        if room is not None and len(tokens) > room:
            raise UserError(
                f"config: {key}[{index + 1}]: {len(tokens):,} tokens, of which this model takes "
                f"{room:,} at most; shorten the text"
            )
    return ids


@torch.inference_mode()
def capture_attention(
    model: PreTrainedModel,
    ids: Sequence[int],
    layers: Collection[int],
    interventions: dict[int, Intervention] | None = None,
    rotation: bool = False,
    keep: Callable[[int, Captured], None] | None = None,
) -> dict[int, Captured]:
    """Queries and keys of `layers` in one pass over one text, `interventions` made in it.

    rotation: also find how they were rotated. keep: called with each layer, in place of holding
    them all (see `tap`).

    The pass stops at the last of `layers`. One text a pass: nothing is padded, so no position
    attends to what is not there.
    """
    with tap(model, layers, interventions, rotation, keep, stop=True) as captured:
        sequence = torch.tensor([list(ids)], device=input_device(model))
        decoder(model)(input_ids=sequence, use_cache=False)
    return captured


def state_rows(
    tokenizer: PreTrainedTokenizerBase,
    index: int,
    ids: Sequence[int],
    captured: dict[int, Captured],
    longest: int,
    intervention: Intervention | None = None,
) -> tuple[pa.Schema, dict[str, list]]:
    """Rows of the attention states file for one pass: one per layer, padded to `longest` tokens.

    An clean layer's row says how strong each head's sink is, so that a layer can be chosen
    without the states of all.
    """
    columns: dict[str, list] = {}
    tokens = [tokenizer.decode([token]) for token in ids]
    for layer, state in sorted(captured.items()):
        strength = None if intervention else states_of(index, layer, state).strength.tolist()
        row = {
            "input": index,
            "layer": layer,
            "component": intervention and intervention.component,
            "operation": intervention and intervention.operation,
            "over": intervention and intervention.over,
            "epsilon": intervention and intervention.epsilon,
            "stage": intervention and intervention.stage,
            "tokens": tokens,
            "token_ids": list(ids),
            "scaling": float(state.scaling),
            "mask": "causal" if state.window is None else "sliding",
            "window": state.window,
            "softcap": state.softcap,
            "sinks": None if state.sinks is None else state.sinks.flatten().tolist(),
            "sink_strength": strength,
            "query": _padded(state.query[0].numpy(), longest),
            "key": _padded(state.key[0].numpy(), longest),
            "cos": None,
            "sin": None,
            "pair_index": None,
        }
        if state.rotation is not None:
            row |= {
                "cos": _padded(state.rotation.cos, longest),
                "sin": _padded(state.rotation.sin, longest),
                "pair_index": state.rotation.pair_index.tolist(),
            }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    schema = attention_states_schema(columns["query"][0].shape, columns["key"][0].shape)
    return schema, columns


def states_of(index: int, layer: int, state: Captured) -> LayerStates:
    """The captured states of one layer of one text (counted from 1), without its rotation."""
    return LayerStates(
        input=index,
        layer=layer,
        query=state.query[0].numpy(),
        key=state.key[0].numpy(),
        scaling=float(state.scaling),
        window=state.window,
        softcap=state.softcap,
        sinks=None if state.sinks is None else state.sinks.flatten().numpy().astype(np.float64),
    )


def intervened_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[int]],
    layers: Collection[int],
    passes: Iterable[tuple[int, Intervention]],
) -> Iterator[tuple[pa.Schema, dict]]:
    """Yield `state_rows` of `layers` for each (text, counted from 1, and change in every layer)."""
    longest = max(map(len, texts))
    everywhere = range(len(decoder_layers(model)))
    for index, intervention in passes:
        ids = texts[index - 1]
        captured = capture_attention(model, ids, layers, dict.fromkeys(everywhere, intervention))
        yield state_rows(tokenizer, index, ids, captured, longest, intervention)


def _padded(states: np.ndarray, longest: int) -> np.ndarray:
    """[..., tokens, head_dim] -> [..., longest, head_dim], NaN beyond the text."""
    if states.shape[-2] == longest:
        return states
    missing = [(0, 0)] * (states.ndim - 2) + [(0, longest - states.shape[-2]), (0, 0)]
    return np.pad(states, missing, constant_values=np.nan)
