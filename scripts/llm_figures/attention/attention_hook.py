"""Attention captured and altered where every architecture passes: the attention interface.

The interface hands a function the queries and keys as the kernel sees them, after rotary embedding
and any query/key norm. The tap notes or alters them and gives them on to the implementation that
the model used before; it computes no attention of its own. Layers that are neither captured nor
altered pass straight through.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import unknown_rotation
from llm_figures.attention.rope import Rotation
from llm_figures.attention.rope_capture import (
    RotaryCall,
    find_rotation,
    fits,
    observed_rotary,
    same_arguments,
)
from llm_figures.core.errors import UserError

NAME = "llm_figures_tap"
# Eager attention holds the scores of all heads. Where these are more bytes, as in a long text, it
# is run on some queries at a time; so are the rows of a mask.
EAGER_BYTES = 2**26


@dataclass
class Captured:
    """Queries and keys of one layer in one forward pass, after any intervention, on the CPU.

    query: [batch, heads, tokens, head_dim]; key: [batch, key-value heads, tokens, head_dim].
    window, softcap, sinks, rotation: see `maps.LayerStates`.
    """

    query: torch.Tensor
    key: torch.Tensor
    scaling: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None
    rotation: Rotation | None = None


@dataclass
class _Tap:
    implementation: str
    capture: frozenset[int]
    interventions: Mapping[int, Intervention]
    rotation: bool
    keep: Callable[[int, Captured], None] | None
    stop: bool
    captured: dict[int, Captured] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    rotary_call: RotaryCall | None = None  # the last, until an attention function took it
    rotations: list[tuple[tuple, Rotation]] = field(default_factory=list)

    def note(self, call: RotaryCall) -> None:
        self.rotary_call = call


class StopForward(Exception):  # noqa: N818 (nothing went wrong)
    """Raised in a pass that has given all that was to be captured."""


_active: _Tap | None = None


@contextmanager
def tap(
    model: PreTrainedModel,
    capture: Collection[int] = (),
    interventions: Mapping[int, Intervention] | None = None,
    rotation: bool = False,
    keep: Callable[[int, Captured], None] | None = None,
    stop: bool = False,
) -> Iterator[dict[int, Captured]]:
    """Capture and alter attention in forward passes of `model` inside the block.

    capture: layers whose queries and keys are kept; the yielded dict holds the last pass's.
    interventions: {layer: intervention} made before the layer's attention is computed; those before
        rotary embedding on the states that the layer's rotary function got, which then rotates
        what was made of them.
    rotation: also find how the captured queries and keys were rotated.
    keep: called with every captured layer as the pass comes to it; the yielded dict stays empty, so
        no more than one layer is held.
    stop: the pass, and the block with it, ends as soon as all of `capture` is captured: before that
        layer's attention. What comes later is not altered.

    The model is afterwards what it was before, also after an exception.

    Raises:
        UserError: at the end of the block, if a forward pass reached no attention of a layer that
            was asked for: the architecture bypasses the attention interface. In the pass, if a
            change before rotary embedding meets a layer whose rotary embedding is not known.
    """
    global _active
    if _active is not None:
        raise RuntimeError("taps do not nest")
    before = model.config._attn_implementation
    state = _Tap(before, frozenset(capture), dict(interventions or {}), rotation, keep, stop)
    needed = rotation or any(made.unrotates for made in state.interventions.values())
    AttentionInterface.register(NAME, _attention)
    # Without a mask function of the same name transformers passes no mask and causality is lost.
    AttentionMaskInterface.register(NAME, _mask_function(before))
    model.set_attn_implementation(NAME)
    _active = state
    try:
        if model.config._attn_implementation != NAME:
            raise _bypassed(model)
        with observed_rotary(model, state.note) if needed else nullcontext():
            owed = state.capture | set(state.interventions)
            try:
                yield state.captured
            except StopForward:
                owed = {layer for layer in owed if layer <= max(state.capture)}
        if missing := owed - state.seen:
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
    call, state.rotary_call = state.rotary_call, None
    rotation = None
    if state.rotation and layer in state.capture:
        rotation = _rotation(state, call, query, key)
    if (intervention := state.interventions.get(layer)) is not None:
        if intervention.unrotates:
            query, key = _altered_before_rotary(intervention, call, query, key, layer)
        elif intervention.component == "query":
            query = intervention(query)
        elif intervention.component == "key":
            key = intervention(key)
        else:
            value = intervention(value)
    if layer in state.capture:
        sinks = options.get("s_aux")
        captured = Captured(
            query=query.detach().float().cpu(),
            key=key.detach().float().cpu(),
            scaling=options.get("scaling") or query.shape[-1] ** -0.5,
            window=options.get("sliding_window"),
            softcap=options.get("softcap"),
            sinks=None if sinks is None else sinks.detach().float().cpu(),
            rotation=rotation,
        )
        if state.keep is None:
            state.captured[layer] = captured
        else:
            state.keep(layer, captured)
        del captured
        if state.stop and state.capture <= state.seen:
            raise StopForward
    del call  # a long text's states are large
    original = _original(module, state.implementation)
    if state.implementation == "eager" and _is_long(*query.shape[:3], key.shape[2]):
        return _in_blocks(original, module, query, key, value, attention_mask, options)
    return original(module, query, key, value, attention_mask, **options)


def _is_long(batch: int, heads: int, queries: int, keys: int) -> bool:
    return 4 * batch * heads * queries * keys > EAGER_BYTES


def _mask_function(implementation: str) -> Callable:
    """The mask function that the model would have used without the tap.

    Of a long text eager attention gets the boolean mask: as numbers, of which `_in_blocks` makes
    some rows at a time, it is four times as large.
    """
    original = ALL_MASK_ATTENTION_FUNCTIONS[implementation]
    if implementation != "eager":
        return original

    def mask(batch_size, q_length, kv_length, *args, **options):
        if not _is_long(batch_size, 1, q_length, kv_length):
            return original(batch_size, q_length, kv_length, *args, **options)
        options["allow_is_causal_skip"] = False
        return sdpa_mask(batch_size, q_length, kv_length, *args, **options)

    return mask


def _in_blocks(
    original: Callable,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict,
) -> tuple[torch.Tensor, None]:
    """Eager attention of some queries at a time; queries know nothing of each other."""
    batch, heads, queries, _ = query.shape
    step = max(1, EAGER_BYTES // (4 * batch * heads * key.shape[2]))
    outputs = []
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        of_rows = None if mask is None else mask[:, :, rows]
        if of_rows is not None and of_rows.dtype == torch.bool:
            hidden = torch.finfo(query.dtype).min
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            of_rows = torch.where(of_rows, zero, hidden)
        output, _ = original(module, query[:, :, rows], key, value, of_rows, **options)
        outputs.append(output)  # [batch, rows, heads, head_dim]
    return torch.cat(outputs, dim=1), None


def _rotation(
    state: _Tap, call: RotaryCall | None, query: torch.Tensor, key: torch.Tensor
) -> Rotation | None:
    """How the layer's queries and keys were rotated; found once for layers that share it."""
    if call is None:
        return None
    arguments = call.arguments
    for known, rotation in state.rotations:
        if same_arguments(known, arguments) and fits(rotation, call, query, key):
            return rotation
    if (rotation := find_rotation(call, query, key)) is not None:
        state.rotations.append((arguments, rotation))
    return rotation


def _altered_before_rotary(
    intervention: Intervention,
    call: RotaryCall | None,
    query: torch.Tensor,
    key: torch.Tensor,
    layer: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key of a layer whose states were altered before the model's rotary function."""
    states = None if call is None else call.unrotated(query, key)
    if states is None:
        raise UserError(f"stage: before_rotary: {unknown_rotation(layer)}")
    if intervention.component == "query":
        return call.rotate(intervention(states[0]), states[1])
    return call.rotate(states[0], intervention(states[1]))


def _original(module: torch.nn.Module, implementation: str) -> Callable:
    """The attention function that the model would have called without the tap."""
    if implementation == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[implementation]
