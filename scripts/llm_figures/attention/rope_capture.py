"""The rotary embedding of a forward pass: seen where the model calls it, and checked.

Modeling files call a function of their module, `apply_rotary_pos_emb(query, key, cos, sin)`, right
before attention. Inside `observed_rotary` each such function also notes its last call. The call
counts as a layer's rotary embedding only if what it gave is what that layer's attention got;
anything else (no rotary embedding, another name, another layout, a norm in between) is not known,
and nothing is guessed.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import ModuleType

import numpy as np
import torch
from transformers import PreTrainedModel

from llm_figures.attention.rope import Rotation

PREFIX = "apply_rotary"
# Entries of the rotated basis vectors held at a time; a long text's are many.
BASIS_ENTRIES = 2**20


@dataclass(frozen=True)
class RotaryCall:
    """One call of a model's rotary function.

    before, after: query and key as it got and gave them, [batch, (key-value) heads, tokens,
        rotated features].
    """

    function: Callable
    before: tuple[torch.Tensor, torch.Tensor]
    after: tuple[torch.Tensor, torch.Tensor]
    args: tuple
    options: dict

    def rotate(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Other states rotated as these were; features that the function does not get stay."""
        features = self.before[0].shape[-1]
        rotated = self.function(
            query[..., :features], key[..., :features], *self.args, **self.options
        )
        return tuple(
            _joined(some, full, features) for some, full in zip(rotated, (query, key), strict=True)
        )

    def unrotated(
        self, query: torch.Tensor, key: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The attention function's `query` and `key` before rotary embedding.

        None if they are not what the call gave, or the call does not give the same again.
        """
        states = (query, key)
        features = self.before[0].shape[-1]
        for found, full in zip(self.after, states, strict=True):
            if found.shape != full[..., :features].shape:
                return None
            if not torch.equal(found.to(full.dtype), full[..., :features]):
                return None
        before = tuple(
            _joined(some, full, features) for some, full in zip(self.before, states, strict=True)
        )
        again = self.rotate(*before)
        if not all(torch.equal(some, full) for some, full in zip(again, states, strict=True)):
            return None
        return before

    @property
    def arguments(self) -> tuple:
        """All that decides how states are rotated; see `same_arguments`."""
        before = self.before[0]
        options = [part for item in sorted(self.options.items()) for part in item]
        return (self.function, before.shape[-2:], before.dtype, *self.args, *options)


def _joined(some: torch.Tensor, full: torch.Tensor, features: int) -> torch.Tensor:
    """`some`, the first features, with the others of `full`; not copied if there are none."""
    some = some.to(full.dtype)
    if features == full.shape[-1]:
        return some
    return torch.cat([some, full[..., features:]], dim=-1)


def same_arguments(one: tuple, other: tuple) -> bool:
    """Whether two calls of these arguments surely rotate alike: tensors are the very same."""
    return len(one) == len(other) and all(
        a is b or (not isinstance(a, torch.Tensor) and type(a) is type(b) and a == b)
        for a, b in zip(one, other, strict=True)
    )


@contextmanager
def observed_rotary(model: PreTrainedModel, note: Callable[[RotaryCall], None]) -> Iterator[None]:
    """Call `note` at every call of the model's rotary functions inside the block.

    Their results are untouched; afterwards the modules hold their own functions again.
    """
    places = [
        (module, name, function)
        for module in _modules(model)
        for name, function in vars(module).items()
        if name.startswith(PREFIX) and callable(function) and not isinstance(function, type)
    ]
    try:
        for module, name, function in places:
            setattr(module, name, _noting(function, note))
        yield
    finally:
        for module, name, function in places:
            setattr(module, name, function)


def _modules(model: PreTrainedModel) -> list[ModuleType]:
    """The Python modules that define the classes of the model's parts."""
    names = {type(part).__module__ for part in model.modules()}
    return [sys.modules[name] for name in sorted(names)]


def _noting(function: Callable, note: Callable[[RotaryCall], None]) -> Callable:
    @wraps(function)
    def noting(*args, **options):
        result = function(*args, **options)
        if _are_states(args[:2]) and _are_states(result):
            note(RotaryCall(function, tuple(args[:2]), tuple(result), tuple(args[2:]), options))
        return result

    return noting


def _are_states(values) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(isinstance(value, torch.Tensor) and value.ndim == 4 for value in values)
    )


@torch.inference_mode()
def find_rotation(call: RotaryCall, query: torch.Tensor, key: torch.Tensor) -> Rotation | None:
    """The rotation of one text in numbers: what the function makes of the basis vectors.

    query, key: as the attention function got them, [1, (key-value) heads, tokens, head_dim].

    None where the function is not of the form that `Rotation` describes (see `_coefficients`), or
    `fits` says no.
    """
    if query.shape[0] != 1:
        return None
    coefficients = _coefficients(call)
    if coefficients is None:
        return None
    cos, sin, pair_index = coefficients
    # Features that the function does not get: unchanged, paired with themselves.
    rest = np.arange(len(pair_index), query.shape[-1])
    rotation = Rotation(
        cos=np.pad(cos, ((0, 0), (0, len(rest))), constant_values=1),
        sin=np.pad(sin, ((0, 0), (0, len(rest)))),
        pair_index=np.concatenate([pair_index, rest]),
    )
    return rotation if fits(rotation, call, query, key) else None


def fits(rotation: Rotation, call: RotaryCall, query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether the states before the call, rotated by these numbers, are the attention's.

    The tolerance is the rounding of the model's own type.
    """
    before = call.unrotated(query, key)
    if before is None:
        return False
    pairs = [*zip(before[0][0], query[0], strict=True), *zip(before[1][0], key[0], strict=True)]
    for some, full in pairs:  # a head at a time: a long text's states are large in double
        expected = full.cpu().double().numpy()
        found = rotation.apply(some.cpu().double().numpy())
        tolerance = 8 * torch.finfo(full.dtype).eps * np.abs(expected).max()
        if not np.allclose(found, expected, rtol=0, atol=tolerance):
            return False
    return True


def _coefficients(call: RotaryCall) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """own, other, partner (see `Rotation`) of the features that the function gets.

    None where a feature is mixed with more than one other, partners do not have each other, query
    and key are rotated differently, or the rotation cannot be undone.
    """
    states = call.before[0]
    tokens, features = states.shape[-2:]
    if features == 0:
        return None
    own = np.empty((tokens, features), np.float32)
    other = np.zeros((tokens, features), np.float32)
    partner = np.arange(features)
    step = max(1, BASIS_ENTRIES // (tokens * features))
    for start in range(0, features, step):
        basis = np.arange(start, min(start + step, features))
        # One basis vector a head, at every position: [1, basis vectors, tokens, features].
        vectors = torch.zeros(
            (1, len(basis), tokens, features), dtype=states.dtype, device=states.device
        )
        vectors[0, np.arange(len(basis)), :, basis] = 1
        rotated, rotated_key = call.function(vectors, vectors.clone(), *call.args, **call.options)
        if rotated.shape != vectors.shape or not torch.equal(rotated, rotated_key):
            return None
        rotated = rotated[0].float().cpu()
        touched = (rotated != 0).any(dim=1).numpy()  # [basis vectors, features]
        for row, feature in enumerate(basis):
            own[:, feature] = rotated[row, :, feature]
            reached = np.flatnonzero(touched[row])
            reached = reached[reached != feature]
            if len(reached) > 1 or (len(reached) and partner[reached[0]] != reached[0]):
                return None  # more than one partner, from here or there
            for neighbour in reached:
                partner[neighbour] = feature
                other[:, neighbour] = rotated[row, :, neighbour]
    if not (partner[partner] == np.arange(features)).all():
        return None
    determinant = own * own[:, partner] - other * other[:, partner]
    if not (np.isfinite(determinant).all() and np.abs(determinant).min() > 1e-3):
        return None
    return own, other, partner
