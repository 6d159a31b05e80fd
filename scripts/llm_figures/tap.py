"""Attention captured and altered where every architecture passes: the attention interface.

The interface hands a function the queries and keys as the kernel sees them, after rotary embedding
and any query/key norm. The tap notes or alters them and gives them on to the implementation that
the model used before; it computes no attention of its own. Layers that are neither captured nor
altered pass straight through.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llm_figures.errors import UserError
from llm_figures.operations import Alteration

NAME = "llm_figures_tap"


@dataclass
class Captured:
    """Queries and keys of one layer in one forward pass, after any alteration, on the CPU.

    query: [batch, heads, tokens, head_dim]; key: [batch, key-value heads, tokens, head_dim].
    window, softcap, sinks: see `attention.LayerStates`.
    """

    query: torch.Tensor
    key: torch.Tensor
    scaling: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


@dataclass
class _Tap:
    implementation: str
    capture: frozenset[int]
    alterations: Mapping[int, Alteration]
    captured: dict[int, Captured] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)


_active: _Tap | None = None


@contextmanager
def tap(
    model: PreTrainedModel,
    capture: Collection[int] = (),
    alterations: Mapping[int, Alteration] | None = None,
) -> Iterator[dict[int, Captured]]:
    """Capture and alter attention in forward passes of `model` inside the block.

    capture: layers whose queries and keys are kept; the yielded dict holds the last pass's.
    alterations: {layer: alteration} made before the layer's attention is computed.

    The model is afterwards what it was before, also after an exception.

    Raises:
        UserError: at the end of the block, if a forward pass reached no attention of a layer that
            was asked for: the architecture bypasses the attention interface.
    """
    global _active
    if _active is not None:
        raise RuntimeError("taps do not nest")
    before = model.config._attn_implementation
    state = _Tap(before, frozenset(capture), dict(alterations or {}))
    AttentionInterface.register(NAME, _attention)
    # Without a mask function of the same name transformers passes no mask and causality is lost.
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[before])
    model.set_attn_implementation(NAME)
    _active = state
    try:
        if model.config._attn_implementation != NAME:
            raise _bypassed(model)
        yield state.captured
        if missing := (state.capture | set(state.alterations)) - state.seen:
            raise _bypassed(model, missing)
    finally:
        _active = None
        model.set_attn_implementation(before)


def _bypassed(model: PreTrainedModel, layers: Collection[int] = ()) -> UserError:
    where = f" in layer {min(layers)}" if layers else ""
    return UserError(
        f"models of type {model.config.model_type} do not pass attention through transformers' "
        f"attention interface{where}, so it cannot be captured; choose another model"
    )


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options,
):
    """The registered attention function; shapes as in `Captured`, value like key."""
    state = _active
    if state is None:
        raise RuntimeError(f"attention implementation {NAME} used outside its block")
    layer = module.layer_idx
    state.seen.add(layer)
    if (alteration := state.alterations.get(layer)) is not None:
        if alteration.component == "query":
            query = alteration(query)
        elif alteration.component == "key":
            key = alteration(key)
        else:
            value = alteration(value)
    if layer in state.capture:
        sinks = options.get("s_aux")
        state.captured[layer] = Captured(
            query=query.detach().float().cpu(),
            key=key.detach().float().cpu(),
            scaling=options.get("scaling") or query.shape[-1] ** -0.5,
            window=options.get("sliding_window"),
            softcap=options.get("softcap"),
            sinks=None if sinks is None else sinks.detach().float().cpu(),
        )
    return _original(module, state.implementation)(
        module, query, key, value, attention_mask, **options
    )


def _original(module: torch.nn.Module, implementation: str) -> Callable:
    """The attention function that the model would have called without the tap."""
    if implementation == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[implementation]
