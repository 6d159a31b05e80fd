"""Queries and keys of whole texts, from forward passes that are clean or have an intervention."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_figures.attention.attention_hook import hook_attention
from llm_figures.attention.captured import Captured
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.qk_store import VALUE_NORM, build_states_schema
from llm_figures.attention.rope_capture import find_unrotated_layers
from llm_figures.core.errors import UserError
from llm_figures.inference.token_spans import show_tokens
from llm_figures.models.decoders import decoder, find_attentions
from llm_figures.models.loading import input_device


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
    prove: bool = False,
) -> dict[int, Captured]:
    """Queries and keys of `layers`, by layer, from a forward pass over one text.

    The pass ends at the last of `layers`, unless it is a proof. It has a single text, so that
    nothing is padded.

    layers: of `find_attentions`. interventions, rotation, on_layer, prove: see `hook_attention`.

    Raises:
        UserError: see `hook_attention`.
    """
    interventions = interventions or {}
    unrotated: Collection[int] = ()
    if rotation or any(one.unrotates for one in interventions.values()):
        unrotated = _find_unrotated(model, ids)
    with hook_attention(
        model,
        layers,
        interventions,
        rotation,
        on_layer,
        stop=not prove,
        unrotated=unrotated,
        prove=prove,
    ) as captured:
        _run(model, ids)
    return captured


def _run(model: PreTrainedModel, ids: Sequence[int]) -> None:
    sequence = torch.tensor([list(ids)], device=input_device(model))
    decoder(model)(input_ids=sequence, use_cache=False)


# {model: its layers without rotary embedding}, which no pass changes
_unrotated: WeakKeyDictionary[PreTrainedModel, frozenset[int]] = WeakKeyDictionary()


def _find_unrotated(model: PreTrainedModel, ids: Sequence[int]) -> frozenset[int]:
    if model not in _unrotated:
        _unrotated[model] = find_unrotated_layers(
            model, find_attentions(model), lambda: _run(model, ids[:2])
        )
    return _unrotated[model]


def build_state_rows(
    tokenizer: PreTrainedTokenizerBase,
    index: int,
    ids: Sequence[int],
    captured: dict[int, Captured],
    longest: int,
    intervention: Intervention | None = None,
    sizes: tuple[int, int, int] | None = None,
) -> tuple[pa.Schema, dict[str, list]]:
    """Rows of a file of attention states (see `qk_store`) from one pass, one per layer.

    A row of a clean pass has the sink strength of each head, so that a layer can be chosen without
    reading the states.

    index: the text's number, counted from 1. ids: its token ids.
    captured: what the pass captured, by layer.
    longest: the number of tokens that states are padded to.
    intervention: the intervention in every layer of the pass; None in a clean pass.
    sizes: the (heads, key-value heads, head_dim) that states are padded to; by default the largest
        of `captured`.

    Returns the schema and the columns.
    """
    columns: dict[str, list] = {}
    heads, key_value_heads, head_dim = sizes or find_largest(captured.values())
    shape = (longest, head_dim)
    tokens = show_tokens(tokenizer, ids)
    for layer, state in sorted(captured.items()):
        strength = None
        if intervention is None:
            strength = state.to_states(index, layer).strength.tolist()
        row = {
            "input": index,
            "layer": layer,
            "model_layers": state.model_layers,
            "component": intervention and intervention.component,
            "operation": intervention and intervention.operation,
            "over": intervention and intervention.over,
            "epsilon": intervention and intervention.epsilon,
            "stage": intervention and intervention.stage,
            "tokens": tokens,
            "token_ids": list(ids),
            "scaling": float(state.scaling),
            "heads": state.query.shape[1],
            "key_value_heads": state.key.shape[1],
            "head_dim": state.query.shape[3],
            "mask": _name_mask(state),
            "window": state.window,
            "softcap": state.softcap,
            "bias": None if state.bias is None else state.bias.numpy().ravel(),
            "sinks": None if state.sinks is None else state.sinks.flatten().tolist(),
            "deviation": state.deviation,
            "sink_strength": strength,
            "query": _pad(state.query[0].numpy(), (heads, *shape)),
            "key": _pad(state.key[0].numpy(), (key_value_heads, *shape)),
            VALUE_NORM: None,
            "cos": None,
            "sin": None,
            "pair_index": None,
        }
        if intervention is None:
            row[VALUE_NORM] = _pad(state.value_norm[0].numpy(), (key_value_heads, longest))
        if state.rotation is not None:
            row |= {
                "cos": _pad(state.rotation.cos, shape),
                "sin": _pad(state.rotation.sin, shape),
                "pair_index": state.rotation.pair_index.tolist(),
            }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    schema = build_states_schema(columns["query"][0].shape, columns["key"][0].shape)
    return schema, columns


def find_largest(captured: Iterable[Captured]) -> tuple[int, int, int]:
    """The largest (heads, key-value heads, head_dim) of some layers."""
    sizes = [(one.query.shape[1], one.key.shape[1], one.query.shape[3]) for one in captured]
    heads, key_value_heads, head_dim = zip(*sizes, strict=True)
    return max(heads), max(key_value_heads), max(head_dim)


def _name_mask(state: Captured) -> str:
    if state.bias is not None:
        return "other"
    return "causal" if state.window is None else "sliding"


def run_interventions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[int]],
    layers: Collection[int],
    passes: Iterable[tuple[int, Intervention]],
) -> Iterator[tuple[pa.Schema, dict]]:
    """Yield `build_state_rows` of `layers` from passes with an intervention in every layer.

    layers: of `find_attentions`. texts: token ids of every text.
    passes: the text, numbered from 1, and the intervention of each pass.

    Raises:
        UserError: see `hook_attention`.
    """
    longest = max(map(len, texts))
    everywhere = find_attentions(model)
    for index, intervention in passes:
        ids = texts[index - 1]
        captured = capture_attention(model, ids, layers, dict.fromkeys(everywhere, intervention))
        yield build_state_rows(tokenizer, index, ids, captured, longest, intervention)


def _pad(states: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """States with NaN beyond their sizes, up to `shape`."""
    if states.shape == tuple(shape):
        return states
    padding = [(0, size - own) for size, own in zip(shape, states.shape, strict=True)]
    return np.pad(states, padding, constant_values=np.nan)
