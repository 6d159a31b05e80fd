"""Queries and keys of whole texts, from forward passes that are clean or have an intervention."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.attention.attention_hook import Captured, hook_attention
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.qk_store import build_states_schema
from llm_figures.core.errors import UserError
from llm_figures.inference.token_spans import show_tokens
from llm_figures.models.loading import decoder, decoder_layers, input_device


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    key: str = "inputs",
    context_length: int | None = None,
) -> list[list[int]]:
    """Token ids of each text, with the special tokens that the tokenizer adds.

    key: the config's key of the texts, for messages.
    context_length: the largest number of tokens that the model accepts; None if it is unknown.

    Raises:
        UserError: a text of fewer than two tokens, whose causal map is trivial; a text that is too
            long for the model.
    """
    ids = [tokenizer(text)["input_ids"] for text in texts]
    for index, (text, tokens) in enumerate(zip(texts, ids, strict=True)):
        if len(tokens) < 2:
            raise UserError(
                f"config: {key}[{index + 1}]: {text!r} has {len(tokens)} token(s) in this model; "
                "a text needs at least two"
            )
        if context_length is not None and len(tokens) > context_length:
            raise UserError(
                f"config: {key}[{index + 1}]: {len(tokens):,} tokens, but this model accepts at "
                f"most {context_length:,}; shorten the text"
            )
    return ids


@torch.inference_mode()
def capture_attention(
    model: PreTrainedModel,
    ids: Sequence[int],
    layers: Collection[int],
    interventions: dict[int, Intervention] | None = None,
    rotation: bool = False,
    on_layer: Callable[[int, Captured], None] | None = None,
) -> dict[int, Captured]:
    """Queries and keys of `layers`, by layer, from a forward pass over one text.

    The pass ends at the last of `layers`. It has a single text, so that nothing is padded.

    interventions, rotation, on_layer: see `hook_attention`.

    Raises:
        UserError: see `hook_attention`.
    """
    with hook_attention(model, layers, interventions, rotation, on_layer, stop=True) as captured:
        sequence = torch.tensor([list(ids)], device=input_device(model))
        decoder(model)(input_ids=sequence, use_cache=False)
    return captured


def build_state_rows(
    tokenizer: PreTrainedTokenizerBase,
    index: int,
    ids: Sequence[int],
    captured: dict[int, Captured],
    longest: int,
    intervention: Intervention | None = None,
) -> tuple[pa.Schema, dict[str, list]]:
    """Rows of a file of attention states (see `qk_store`) from one pass, one per layer.

    A row of a clean pass has the sink strength of each head, so that a layer can be chosen without
    reading the states.

    index: the text's number, counted from 1. ids: its token ids.
    captured: what the pass captured, by layer.
    longest: the number of tokens that states are padded to.
    intervention: the intervention in every layer of the pass; None in a clean pass.

    Returns the schema and the columns.
    """
    columns: dict[str, list] = {}
    tokens = show_tokens(tokenizer, ids)
    for layer, state in sorted(captured.items()):
        strength = None
        if intervention is None:
            strength = build_layer_states(index, layer, state).strength.tolist()
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
            "query": _pad(state.query[0].numpy(), longest),
            "key": _pad(state.key[0].numpy(), longest),
            "cos": None,
            "sin": None,
            "pair_index": None,
        }
        if state.rotation is not None:
            row |= {
                "cos": _pad(state.rotation.cos, longest),
                "sin": _pad(state.rotation.sin, longest),
                "pair_index": state.rotation.pair_index.tolist(),
            }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    schema = build_states_schema(columns["query"][0].shape, columns["key"][0].shape)
    return schema, columns


def build_layer_states(index: int, layer: int, state: Captured) -> LayerStates:
    """The captured states of one layer of a text, numbered from 1, without their rotation."""
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


def run_interventions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[int]],
    layers: Collection[int],
    passes: Iterable[tuple[int, Intervention]],
) -> Iterator[tuple[pa.Schema, dict]]:
    """Yield `build_state_rows` of `layers` from passes with an intervention in every layer.

    texts: token ids of every text.
    passes: the text, numbered from 1, and the intervention of each pass.

    Raises:
        UserError: see `hook_attention`.
    """
    longest = max(map(len, texts))
    everywhere = range(len(decoder_layers(model)))
    for index, intervention in passes:
        ids = texts[index - 1]
        captured = capture_attention(model, ids, layers, dict.fromkeys(everywhere, intervention))
        yield build_state_rows(tokenizer, index, ids, captured, longest, intervention)


def _pad(states: np.ndarray, longest: int) -> np.ndarray:
    """[..., tokens, head_dim] -> [..., longest, head_dim], NaN beyond the text."""
    if states.shape[-2] == longest:
        return states
    padding = [(0, 0)] * (states.ndim - 2) + [(0, longest - states.shape[-2]), (0, 0)]
    return np.pad(states, padding, constant_values=np.nan)
