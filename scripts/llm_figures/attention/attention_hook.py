"""A hook on transformers' attention interface, which captures and changes queries, keys and values.

Every supported decoder calls the interface with its queries and keys as the attention kernel sees
them: after rotary embedding and any query or key norm. The hook captures them, makes interventions,
and calls the attention function that the model asked for. It computes no attention itself. The
interface's lookup is what changes: the model's implementation keeps its name, which some models
depend on (DeepSeek 3.2 masks keys under the names `eager` and `sdpa` alone).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from llm_figures.attention.captured import Captured
from llm_figures.attention.eager_weights import (
    OUTPUT_BOUNDS,
    check_deviation,
    check_states,
    choose_rows,
    find_eager,
    measure_deviation,
    measure_output_deviation,
)
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import explain_unknown_rotation
from llm_figures.attention.masks import capture_mask, capture_sinks, check_arguments, select_rows
from llm_figures.attention.rope import Rotation
from llm_figures.attention.rope_capture import (
    RotaryCall,
    find_rotation,
    fits,
    observe_rotary,
    same_arguments,
)
from llm_figures.core.errors import UserError
from llm_figures.models.decoders import decoder_layers

# Eager attention holds the scores of all heads. Where they exceed so many bytes, it runs on a block
# of queries at a time, with the mask's rows of that block.
EAGER_BYTES = 2**26


@dataclass
class _Hook:
    capture: frozenset[int]
    interventions: Mapping[int, Intervention]
    rotation: bool
    on_layer: Callable[[int, Captured], None] | None
    stop: bool
    unrotated: frozenset[int]
    prove: bool
    model_type: str
    model_layers: int
    captured: dict[int, Captured] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    # those since the last attention function, and those of the layer that it belongs to
    rotary_calls: list[RotaryCall] = field(default_factory=list)
    layer_calls: tuple[int | None, list[RotaryCall]] = (None, [])
    # {layer: what tells its queries and keys in a pass from others}
    fingerprints: dict[int, tuple[float, ...]] = field(default_factory=dict)
    rotations: list[tuple[tuple, Rotation]] = field(default_factory=list)


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
    unrotated: Collection[int] = (),
    prove: bool = False,
) -> Iterator[dict[int, Captured]]:
    """Capture attention, and intervene on it, in forward passes of `model` inside the block.

    The block gets a dict of the captured layers, filled by each pass. The model itself does not
    change.

    capture: layers whose queries and keys are captured.
    interventions: {layer: intervention}, made before the layer's attention is computed. Those
        before rotary embedding change what the layer's rotary function received, and call that
        function again.
    rotation: also identify how the captured queries and keys were rotated.
    on_layer: called with every captured layer during the pass. The dict then stays empty, so that
        only one layer is held at a time.
    stop: end the pass, and the block, once all of `capture` is captured, before the attention of
        the last of these layers. Interventions in later layers are not made.
    unrotated: layers without rotary embedding, in which both stages of an intervention are one.
    prove: compare all weights and the output of captured layers with the model's own, not only the
        weights of some queries.

    Raises:
        UserError: a forward pass did not reach the attention of a requested layer, because the
            architecture bypasses the attention interface (at the end of the block); an intervention
            before rotary embedding in a layer whose rotary embedding is not known; an argument,
            mask or number of keys that is not supported; weights that differ from the model's own.
    """
    global _active
    if _active is not None:
        raise RuntimeError("attention hooks do not nest")
    hook = _Hook(
        frozenset(capture),
        dict(interventions or {}),
        rotation,
        on_layer,
        stop,
        frozenset(unrotated),
        prove,
        model.config.model_type,
        len(decoder_layers(model)),
    )
    needs_rotary = rotation or any(one.unrotates for one in hook.interventions.values())
    _active = hook
    eager_mask = ALL_MASK_ATTENTION_FUNCTIONS["eager"]
    AttentionMaskInterface.register("eager", _make_mask_function(eager_mask))
    try:
        with (
            _intercept_lookup(),
            observe_rotary(model, hook.rotary_calls.append) if needs_rotary else nullcontext(),
        ):
            requested = hook.capture | set(hook.interventions)
            try:
                yield hook.captured
            except StopForward:
                requested = {layer for layer in requested if layer <= max(hook.capture)}
        if missing := requested - hook.seen:
            raise _bypass_error(model, missing)
    finally:
        _active = None
        AttentionMaskInterface.register("eager", eager_mask)


@contextmanager
def _intercept_lookup() -> Iterator[None]:
    """Let every lookup in transformers' attention interface give a function that calls the hook."""
    get_item, get_interface = AttentionInterface.__getitem__, AttentionInterface.get_interface

    def intercept(function: Callable) -> Callable:
        return function if isinstance(function, partial) else partial(_attend, function)

    # get_interface looks up in __getitem__, too, and gives its default for eager attention
    AttentionInterface.__getitem__ = lambda self, key: intercept(get_item(self, key))
    AttentionInterface.get_interface = lambda self, *args: intercept(get_interface(self, *args))
    try:
        yield
    finally:
        AttentionInterface.__getitem__ = get_item
        AttentionInterface.get_interface = get_interface


def _bypass_error(model: PreTrainedModel, layers: Collection[int] = ()) -> UserError:
    where = f" in layer {min(layers)}" if layers else ""
    return UserError(
        f"models of type {model.config.model_type} do not pass attention through transformers' "
        f"attention interface{where}, so it cannot be captured; choose another model"
    )


def _attend(
    attend: Callable,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options,
):
    """Call the model's attention function `attend`; shapes as in `Captured`, value like key."""
    hook, layer = _active, getattr(module, "layer_idx", None)
    if hook is None or layer is None:
        return attend(module, query, key, value, attention_mask, **options)
    hook.seen.add(layer)
    if hook.rotary_calls or layer != hook.layer_calls[0]:
        hook.layer_calls = layer, hook.rotary_calls[:]
        hook.rotary_calls.clear()
    call = _find_call(hook.layer_calls[1], query, key)
    rotation = None
    if hook.rotation and layer in hook.capture:
        rotation = _identify_rotation(hook, call, query, key, layer)
    if (intervention := hook.interventions.get(layer)) is not None:
        if intervention.unrotates and layer not in hook.unrotated:
            query, key = _intervene_before_rotary(intervention, call, query, key, layer)
        elif intervention.component == "query":
            query = intervention(query)
        elif intervention.component == "key":
            key = intervention(key)
        else:
            value = intervention(value)
    stop, output = False, None
    captures = layer in hook.capture and not _is_repeated(hook, layer, query, key)
    if captures:
        captured = _capture(hook, module, query, key, value, attention_mask, options, layer)
        captured.rotation = rotation
        stop = hook.stop and hook.capture <= hook.seen
    if not stop or captured.deviation is None:
        output = _run(attend, module, query, key, value, attention_mask, options)
    if captures:
        if query.shape[0] == 1:
            # in a low precision eager outputs differ by their rounding
            exact = attend is not find_eager(module) or query.dtype in OUTPUT_BOUNDS
            if output is not None and exact:
                captured.output_deviation = measure_output_deviation(
                    captured, value, output[0], _choose_rows(hook, query.shape[2])
                )
            check_deviation(captured, layer, hook.model_type, query.dtype)
        if hook.on_layer is None:
            hook.captured[layer] = captured
        else:
            hook.on_layer(layer, captured)
        del captured
    if stop:
        raise StopForward
    return output


def _is_repeated(hook: _Hook, layer: int, query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether a layer calls its attention again with the same queries and keys (DiffLlama).

    Raises:
        UserError: in a proof, which is one pass, it does so with others: it has several maps.
    """
    own = tuple(
        float(value)
        for part in (query, key)
        for value in (
            part.sum(dtype=torch.float64),
            torch.linalg.vector_norm(part, dtype=torch.float64),
        )
    )
    before = hook.fingerprints.get(layer)
    hook.fingerprints[layer] = own
    if hook.prove and before not in (None, own):
        raise UserError(
            f"models of type {hook.model_type}: layer {layer} calls its attention several times in "
            "a pass, with different queries or keys, so it has no one map; choose another model"
        )
    return before == own


def _capture(
    hook: _Hook,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict,
    layer: int,
) -> Captured:
    """Everything on which the layer's weights depend, with their deviation from the model's own."""
    where = f"models of type {hook.model_type}: layer {layer}"
    check_arguments(options, layer, hook.model_type)
    tokens = query.shape[2]
    if key.shape[2] != tokens:
        raise UserError(
            f"{where} attends to {key.shape[2]} keys in a text of {tokens} tokens (compressed or "
            "cached ones), so it has no map between tokens; choose another model"
        )
    check_states(query, key, layer, layer in hook.interventions)
    value_norm = torch.linalg.vector_norm(value.detach(), dim=-1, dtype=torch.float32)
    window, bias = options.get("sliding_window"), None
    if query.shape[0] == 1:
        window, bias = capture_mask(
            mask, options.get("position_bias"), query.shape[1], tokens, window, where
        )
    captured = Captured(
        query=query.detach().float().cpu(),
        key=key.detach().float().cpu(),
        scaling=options.get("scaling") or query.shape[-1] ** -0.5,
        window=window,
        softcap=options.get("softcap"),
        bias=bias,
        sinks=capture_sinks(module, options),
        value_norm=value_norm.cpu(),
        model_layers=hook.model_layers,
    )
    if query.shape[0] == 1:
        captured.deviation, captured.bound = measure_deviation(
            captured, module, (query, key, value), mask, options, _choose_rows(hook, tokens)
        )
    return captured


def _choose_rows(hook: _Hook, tokens: int) -> list[int]:
    return list(range(tokens)) if hook.prove else choose_rows(tokens)


def _is_long(batch: int, heads: int, queries: int, keys: int) -> bool:
    return 4 * batch * heads * queries * keys > EAGER_BYTES


def _make_mask_function(original: Callable) -> Callable:
    """The mask function of eager attention, which gives a boolean mask for a long text.

    `_run` turns it into numbers block by block. A mask of numbers is four times as
    large.
    """

    def mask(batch_size, q_length, kv_length, *args, **options):
        if not _is_long(batch_size, 1, q_length, kv_length):
            return original(batch_size, q_length, kv_length, *args, **options)
        options["allow_is_causal_skip"] = False
        return sdpa_mask(batch_size, q_length, kv_length, *args, **options)

    return mask


def _run(
    attend: Callable,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict,
):
    """The attention that the model would compute without the hook.

    Eager attention of a long text runs a block of queries at a time; no query depends on another.
    """
    batch, heads, queries, _ = query.shape
    if attend is not find_eager(module) or not _is_long(batch, heads, queries, key.shape[2]):
        return attend(module, query, key, value, mask, **options)
    step = max(1, EAGER_BYTES // (4 * batch * heads * key.shape[2]))
    outputs = []
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        block_mask = None if mask is None else mask[:, :, rows]
        if block_mask is not None and block_mask.dtype == torch.bool:
            hidden = torch.finfo(query.dtype).min
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            block_mask = torch.where(block_mask, zero, hidden)
        options_of_block = select_rows(options, rows)
        output, _ = attend(module, query[:, :, rows], key, value, block_mask, **options_of_block)
        outputs.append(output)  # [batch, rows, heads, head_dim]
    return torch.cat(outputs, dim=1), None


def _find_call(
    calls: list[RotaryCall], query: torch.Tensor, key: torch.Tensor
) -> RotaryCall | None:
    """The call that made these states; others rotate the queries of an indexer, for example."""
    fitting = (call for call in reversed(calls) if call.unrotated(query, key) is not None)
    return next(fitting, None)


def _identify_rotation(
    hook: _Hook, call: RotaryCall | None, query: torch.Tensor, key: torch.Tensor, layer: int
) -> Rotation | None:
    """How the layer's queries and keys were rotated; layers that rotate alike share the result."""
    if layer in hook.unrotated:
        return Rotation.make_identity(query.shape[2], query.shape[3])
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
