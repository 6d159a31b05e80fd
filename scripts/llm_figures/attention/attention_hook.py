"""A hook on transformers' attention interface, which captures and changes queries, keys and values.

Every supported decoder calls the interface with its queries and keys as the attention kernel sees
them: after rotary embedding and any query or key norm. The hook captures them, makes interventions,
and calls the attention implementation that the model used before. It computes no attention itself.
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
from llm_figures.attention.maps import explain_unknown_rotation
from llm_figures.attention.rope import Rotation
from llm_figures.attention.rope_capture import (
    RotaryCall,
    find_rotation,
    fits,
    observe_rotary,
    same_arguments,
)
from llm_figures.core.errors import UserError

NAME = "llm_figures_hook"
# Eager attention holds the scores of all heads. Where they exceed so many bytes, it runs on a block
# of queries at a time, with the mask's rows of that block.
EAGER_BYTES = 2**26


@dataclass
class Captured:
    """Queries and keys of one layer in one forward pass, after any intervention.

    query: [batch, heads, tokens, head_dim], float32 on the CPU.
    key: [batch, key-value heads, tokens, head_dim], likewise.
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
class _Hook:
    implementation: str
    capture: frozenset[int]
    interventions: Mapping[int, Intervention]
    rotation: bool
    on_layer: Callable[[int, Captured], None] | None
    stop: bool
    captured: dict[int, Captured] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    rotary_call: RotaryCall | None = None  # the last one, until an attention function takes it
    rotations: list[tuple[tuple, Rotation]] = field(default_factory=list)

    def observe(self, call: RotaryCall) -> None:
        self.rotary_call = call


class StopForward(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a forward pass in which every requested layer has been captured."""


_active: _Hook | None = None


@contextmanager
def hook_attention(
    model: PreTrainedModel,
    capture: Collection[int] = (),
    interventions: Mapping[int, Intervention] | None = None,
    rotation: bool = False,
    on_layer: Callable[[int, Captured], None] | None = None,
    stop: bool = False,
) -> Iterator[dict[int, Captured]]:
    """Capture attention, and intervene on it, in forward passes of `model` inside the block.

    The block gets a dict of the captured layers, filled by each pass. When the block ends, also by
    an exception, the model is again what it was before.

    capture: layers whose queries and keys are captured.
    interventions: {layer: intervention}, made before the layer's attention is computed. Those
        before rotary embedding change what the layer's rotary function received, and call that
        function again.
    rotation: also identify how the captured queries and keys were rotated.
    on_layer: called with every captured layer during the pass. The dict then stays empty, so that
        only one layer is held at a time.
    stop: end the pass, and the block, once all of `capture` is captured, before the attention of
        the last of these layers. Interventions in later layers are not made.

    Raises:
        UserError: a forward pass did not reach the attention of a requested layer, because the
            architecture bypasses the attention interface (at the end of the block); an intervention
            before rotary embedding in a layer whose rotary embedding is not known.
    """
    global _active
    if _active is not None:
        raise RuntimeError("attention hooks do not nest")
    before = model.config._attn_implementation
    hook = _Hook(before, frozenset(capture), dict(interventions or {}), rotation, on_layer, stop)
    needs_rotary = rotation or any(one.unrotates for one in hook.interventions.values())
    AttentionInterface.register(NAME, _attend)
    # Without a mask function of the same name transformers passes no mask, and causality is lost.
    AttentionMaskInterface.register(NAME, _make_mask_function(before))
    model.set_attn_implementation(NAME)
    _active = hook
    try:
        if model.config._attn_implementation != NAME:
            raise _bypass_error(model)
        with observe_rotary(model, hook.observe) if needs_rotary else nullcontext():
            requested = hook.capture | set(hook.interventions)
            try:
                yield hook.captured
            except StopForward:
                requested = {layer for layer in requested if layer <= max(hook.capture)}
        if missing := requested - hook.seen:
            raise _bypass_error(model, missing)
    finally:
        _active = None
        model.set_attn_implementation(before)


def _bypass_error(model: PreTrainedModel, layers: Collection[int] = ()) -> UserError:
    where = f" in layer {min(layers)}" if layers else ""
    return UserError(
        f"models of type {model.config.model_type} do not pass attention through transformers' "
        f"attention interface{where}, so it cannot be captured; choose another model"
    )


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options,
):
    """The registered attention function; shapes as in `Captured`, value like key."""
    hook = _active
    if hook is None:
        raise RuntimeError(f"attention implementation {NAME} used outside its block")
    layer = module.layer_idx
    hook.seen.add(layer)
    call, hook.rotary_call = hook.rotary_call, None
    rotation = None
    if hook.rotation and layer in hook.capture:
        rotation = _identify_rotation(hook, call, query, key)
    if (intervention := hook.interventions.get(layer)) is not None:
        if intervention.unrotates:
            query, key = _intervene_before_rotary(intervention, call, query, key, layer)
        elif intervention.component == "query":
            query = intervention(query)
        elif intervention.component == "key":
            key = intervention(key)
        else:
            value = intervention(value)
    if layer in hook.capture:
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
        if hook.on_layer is None:
            hook.captured[layer] = captured
        else:
            hook.on_layer(layer, captured)
        del captured
        if hook.stop and hook.capture <= hook.seen:
            raise StopForward
    del call  # the states of a long text are large
    attend = _find_implementation(module, hook.implementation)
    if hook.implementation == "eager" and _is_long(*query.shape[:3], key.shape[2]):
        return _attend_in_blocks(attend, module, query, key, value, attention_mask, options)
    return attend(module, query, key, value, attention_mask, **options)


def _is_long(batch: int, heads: int, queries: int, keys: int) -> bool:
    return 4 * batch * heads * queries * keys > EAGER_BYTES


def _make_mask_function(implementation: str) -> Callable:
    """The mask function that the model would use without the hook.

    For a long text, eager attention gets a boolean mask, which `_attend_in_blocks` turns into
    numbers block by block. A mask of numbers is four times as large.
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


def _attend_in_blocks(
    attend: Callable,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict,
) -> tuple[torch.Tensor, None]:
    """Eager attention, a block of queries at a time; no query depends on another."""
    batch, heads, queries, _ = query.shape
    step = max(1, EAGER_BYTES // (4 * batch * heads * key.shape[2]))
    outputs = []
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        block_mask = None if mask is None else mask[:, :, rows]
        if block_mask is not None and block_mask.dtype == torch.bool:
            hidden = torch.finfo(query.dtype).min
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            block_mask = torch.where(block_mask, zero, hidden)
        output, _ = attend(module, query[:, :, rows], key, value, block_mask, **options)
        outputs.append(output)  # [batch, rows, heads, head_dim]
    return torch.cat(outputs, dim=1), None


def _identify_rotation(
    hook: _Hook, call: RotaryCall | None, query: torch.Tensor, key: torch.Tensor
) -> Rotation | None:
    """How the layer's queries and keys were rotated; layers that rotate alike share the result."""
    if call is None:
        return None
    arguments = call.arguments
    for known, rotation in hook.rotations:
        if same_arguments(known, arguments) and fits(rotation, call, query, key):
            return rotation
    if (rotation := find_rotation(call, query, key)) is not None:
        hook.rotations.append((arguments, rotation))
    return rotation


def _intervene_before_rotary(
    intervention: Intervention,
    call: RotaryCall | None,
    query: torch.Tensor,
    key: torch.Tensor,
    layer: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key of a layer after an intervention on what its rotary function received."""
    states = None if call is None else call.unrotated(query, key)
    if states is None:
        raise UserError(f"stage: before_rotary: {explain_unknown_rotation(layer)}")
    if intervention.component == "query":
        return call.rotate(intervention(states[0]), states[1])
    return call.rotate(states[0], intervention(states[1]))


def _find_implementation(module: torch.nn.Module, implementation: str) -> Callable:
    """The attention function that the model would call without the hook."""
    if implementation == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[implementation]
