"""The rotary embedding of a forward pass, observed where the model calls it, and checked.

Modeling files call a function of their module, `apply_rotary_pos_emb(query, key, cos, sin)`, just
before attention. `observe_rotary` observes these calls. A call counts as a layer's rotary embedding
only if its result is exactly what the layer's attention received. In every other case (another
function name or layout, a norm in between) the rotation is unknown; nothing is guessed.
`find_unrotated_layers` finds the layers that have none.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import ModuleType

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.attention.rope import Rotation
from llm_figures.models.decoders import decoder

PREFIX = "apply_rotary"
# Parts of the names of functions and classes of rotary embedding.
ROTARY_NAMES = ("rotary", "rope", "rotate")
# Parts of the names of buffers that hold its angles, or their cosines.
ROTARY_BUFFERS = ("inv_freq", "freqs", "cos", "sin", "embed_positions")
# Entries of the rotated basis vectors that are held at a time.
BASIS_ENTRIES = 2**20


@dataclass(frozen=True)
class RotaryCall:
    """One call of a model's rotary function.

    before, after: its query and key, and those it returned, [batch, (key-value) heads, tokens,
        rotated features].
    args, options: its other arguments.
    """

    function: Callable
    before: tuple[torch.Tensor, torch.Tensor]
    after: tuple[torch.Tensor, torch.Tensor]
    args: tuple
    options: dict

    def rotate(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate other states in the same way.

        Features beyond those that the function receives stay as they are.
        """
        features = self.before[0].shape[-1]
        rotated = self.function(
            query[..., :features], key[..., :features], *self.args, **self.options
        )
        return tuple(
            _join(some, full, features) for some, full in zip(rotated, (query, key), strict=True)
        )

    def unrotated(
        self, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The attention function's `query` and `key` before rotary embedding.

        None if they are not this call's result, or if a second call gives another one.
        """
        states = (query, key)
        features = self.before[0].shape[-1]
        for rotated, full in zip(self.after, states, strict=True):
            if rotated.shape != full[..., :features].shape:
                return None
            if not torch.equal(rotated.to(full.dtype), full[..., :features]):
                return None
        before = tuple(
            _join(some, full, features) for some, full in zip(self.before, states, strict=True)
        )
        try:
            again = self.rotate(*before)
        except RuntimeError:  # the function rotates something else, of other sizes
            return None
        if not all(torch.equal(some, full) for some, full in zip(again, states, strict=True)):
            return None
        return before

    @property
    def arguments(self) -> tuple:
        """Everything that determines how states are rotated; see `same_arguments`."""
        before = self.before[0]
        options = [part for item in sorted(self.options.items()) for part in item]
        return (self.function, before.shape[-2:], before.dtype, *self.args, *options)


def _join(some: torch.Tensor, full: torch.Tensor, features: int) -> torch.Tensor:
    """`some` followed by the further features of `full`; not copied if there are none."""
    some = some.to(full.dtype)
    if features == full.shape[-1]:
        return some
    return torch.cat([some, full[..., features:]], dim=-1)


def same_arguments(one: tuple, other: tuple) -> bool:
    """Whether calls with these arguments must rotate alike; tensors must be the same objects."""
    return len(one) == len(other) and all(
        a is b or (not isinstance(a, torch.Tensor) and type(a) is type(b) and a == b)
        for a, b in zip(one, other, strict=True)
    )


@contextmanager
def observe_rotary(model: PreTrainedModel, observe: Callable[[RotaryCall], None]) -> Iterator[None]:
    """Call `observe` after every call of the model's rotary functions inside the block.

    Their results do not change, and after the block the modules hold their own functions again.
    """
    places = [
        (module, name, function)
        for module in _modeling_modules(model)
        for name, function in vars(module).items()
        if name.startswith(PREFIX) and callable(function) and not isinstance(function, type)
    ]
    try:
        for module, name, function in places:
            setattr(module, name, _wrap(function, observe))
        yield
    finally:
        for module, name, function in places:
            setattr(module, name, function)


@torch.inference_mode()
def find_unrotated_layers(
    model: PreTrainedModel, attentions: Mapping[int, torch.nn.Module], run: Callable[[], object]
) -> frozenset[int]:
    """The layers whose attention has no rotary embedding, found in one pass.

    A layer counts if it called no rotary function although another layer of the same class did
    (SmolLM3, Cohere 2). All count if no rotary function is called and the decoder has no module and
    no buffer of rotary embedding (GPT-2, OPT, Jamba).

    attentions: the attention module of each layer. run: runs a short pass of the model.
    """
    modules = _modeling_modules(model)
    functions = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if _is_rotary(name) and callable(value) and not isinstance(value, type)
    ]
    running: list[int] = []  # the layer whose attention runs
    rotated: set[int] = set()
    called: list[Callable] = []

    def count(function):
        @wraps(function)
        def counted(*args, **options):
            rotated.update(running)
            called.append(function)
            return function(*args, **options)

        return counted

    def enter(layer):
        return lambda *_: running.append(layer)

    handles = []
    try:
        for module, name, function in functions:
            setattr(module, name, count(function))
        for layer, attention in attentions.items():
            handles.append(attention.register_forward_pre_hook(enter(layer)))
            handles.append(attention.register_forward_hook(lambda *_: running.clear()))
        run()
    finally:
        for handle in handles:
            handle.remove()
        for module, name, function in functions:
            setattr(module, name, function)
    if not called and not _has_rotary_parts(decoder(model)):
        return frozenset(attentions)
    rotating = {type(attentions[layer]) for layer in rotated}
    return frozenset(
        layer
        for layer, attention in attentions.items()
        if layer not in rotated and type(attention) in rotating
    )


def _has_rotary_parts(part: torch.nn.Module) -> bool:
    names = [type(module).__name__ for module in part.modules()]
    buffers = [name.rsplit(".", 1)[-1] for name, _ in part.named_buffers()]
    return any(map(_is_rotary, names)) or any(
        _is_rotary(name) or any(word in name for word in ROTARY_BUFFERS) for name in buffers
    )


def _is_rotary(name: str) -> bool:
    return any(part in name.lower() for part in ROTARY_NAMES)


def _modeling_modules(model: PreTrainedModel) -> list[ModuleType]:
    """The Python modules that define the model's layers."""
    names = {type(part).__module__ for part in model.modules()}
    return [sys.modules[name] for name in sorted(names)]


def _wrap(function: Callable, observe: Callable[[RotaryCall], None]) -> Callable:
    @wraps(function)
    def observed(*args, **options):
        result = function(*args, **options)
        if _are_states(args[:2]) and _are_states(result):
            observe(RotaryCall(function, tuple(args[:2]), tuple(result), tuple(args[2:]), options))
        return result

    return observed


def _are_states(values) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(isinstance(value, torch.Tensor) and value.ndim == 4 for value in values)
    )


@torch.inference_mode()
def find_rotation(call: RotaryCall, query: torch.Tensor, key: torch.Tensor) -> Rotation | None:
    """The coefficients of one text's rotation, found by rotating the basis vectors.

    query, key: as the attention function received them, [1, (key-value) heads, tokens, head_dim].

    None if the function is not of the form that `Rotation` describes (see `_find_coefficients`), or
    if the coefficients do not give `query` and `key` (see `fits`).
    """
    if query.shape[0] != 1:
        return None
    coefficients = _find_coefficients(call)
    if coefficients is None:
        return None
    cos, sin, pair_index = coefficients
    # Features that the function does not receive are unchanged and paired with themselves.
    rest = np.arange(len(pair_index), query.shape[-1])
    rotation = Rotation(
        cos=np.pad(cos, ((0, 0), (0, len(rest))), constant_values=1),
        sin=np.pad(sin, ((0, 0), (0, len(rest)))),
        pair_index=np.concatenate([pair_index, rest]),
    )
    return rotation if fits(rotation, call, query, key) else None


def fits(rotation: Rotation, call: RotaryCall, query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether the call's states, rotated by these coefficients, are `query` and `key`.

    The tolerance is the rounding error of the model's data type.
    """
    before = call.unrotated(query, key)
    if before is None:
        return False
    pairs = [*zip(before[0][0], query[0], strict=True), *zip(before[1][0], key[0], strict=True)]
    for some, full in pairs:  # a head at a time, since float64 states of a long text are large
        expected = full.cpu().double().numpy()
        rotated = rotation.apply(some.cpu().double().numpy())
        tolerance = 8 * torch.finfo(full.dtype).eps * np.abs(expected).max()
        if not np.allclose(rotated, expected, rtol=0, atol=tolerance):
            return False
    return True


def _find_coefficients(call: RotaryCall) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """cos, sin and pair_index (see `Rotation`) of the features that the function receives.

    None if a feature mixes with more than one other, if pairs are not mutual, if query and key are
    rotated differently, or if the rotation has no inverse.
    """
    states = call.before[0]
    tokens, features = states.shape[-2:]
    if features == 0:
        return None
    cos = np.empty((tokens, features), np.float32)
    sin = np.zeros((tokens, features), np.float32)
    pair_index = np.arange(features)
    step = max(1, BASIS_ENTRIES // (tokens * features))
    for start in range(0, features, step):
        basis = np.arange(start, min(start + step, features))
        # One basis vector per head, at every position: [1, basis vectors, tokens, features].
        vectors = torch.zeros(
            (1, len(basis), tokens, features), dtype=states.dtype, device=states.device
        )
        vectors[0, np.arange(len(basis)), :, basis] = 1
        try:
            rotated, rotated_key = call.function(
                vectors, vectors.clone(), *call.args, **call.options
            )
        except RuntimeError:  # it does not take so many heads
            return None
        if rotated.shape != vectors.shape or not torch.equal(rotated, rotated_key):
            return None
        rotated = rotated[0].float().cpu()
        touched = (rotated != 0).any(dim=1).numpy()  # [basis vectors, features]
        for row, feature in enumerate(basis):
            cos[:, feature] = rotated[row, :, feature]
            reached = np.flatnonzero(touched[row])
            reached = reached[reached != feature]
            if len(reached) > 1 or (len(reached) and pair_index[reached[0]] != reached[0]):
                return None  # mixed with more than one feature
            for neighbour in reached:
                pair_index[neighbour] = feature
                sin[:, neighbour] = rotated[row, :, neighbour]
    if not (pair_index[pair_index] == np.arange(features)).all():
        return None
    determinant = cos * cos[:, pair_index] - sin * sin[:, pair_index]
    if not (np.isfinite(determinant).all() and np.abs(determinant).min() > 1e-3):
        return None
    return cos, sin, pair_index
