"""What a projection's place in a block says, and which projections a block has.

A projection is a linear map inside every block: a torch module of its own (Llama), some rows of a
fused one (GPT-2, GPT-NeoX, Phi-3), or one map per expert (Mixtral, GPT-OSS). The table
`projection_families.FAMILIES` names it relative to the block. Nothing here needs torch, so the same
table serves the tensors of a checkpoint and the modules of a loaded model.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from llm_figures.core.errors import UserError
from llm_figures.models.model_info import shape_of

Q, K, V, O = ATTENTION = ("attn. q", "attn. k", "attn. v", "attn. o")  # noqa: E741
# Of multi-head latent attention: to the latent vectors of queries and of keys and values, and from
# them to all heads.
Q_DOWN, Q_UP, KV_DOWN, KV_UP = ("attn. q down", "attn. q up", "attn. kv down", "attn. kv up")
UP, DOWN, GATE = MLP = ("mlp. up", "mlp. down", "mlp. gate")
# Of an expert that every token passes, beside the routed ones, which are `MLP`.
SHARED_UP, SHARED_DOWN, SHARED_GATE = SHARED = ("shared. up", "shared. down", "shared. gate")
# Those of a plain block, in the order of the figure's columns, left to right.
PROJECTIONS = (*ATTENTION, *MLP)
# All, in the order of the figure's columns.
COLUMNS = (Q, Q_DOWN, Q_UP, K, V, KV_DOWN, KV_UP, O, *MLP, *SHARED)


@dataclass(frozen=True)
class Place:
    """The place of a projection in a block.

    path: of the linear torch module; for experts, of the parameter with all their maps
        [experts, ...].
    part: the projection, if it is a part of a fused map; None if it is the whole map.
    fused: the order of the rows of a fused map: "stacked" (all of query, then key, then value;
        gate, then up), "by_head" (query, key and value of one head, then of the next),
        "alternating" (gate, up, gate, up, …), "gated" (the query of one head and the gate of its
        output, then of the next).
    transposed: stored as [d_in, d_out] (GPT-2's Conv1D, GPT-OSS's experts).
    single: for experts, the names of one expert's map in checkpoints; {} is its number.
    """

    path: str
    part: str | None = None
    fused: str | None = None
    transposed: bool = False
    experts: bool = False
    single: tuple[str, ...] = ()

    @property
    def weight(self) -> str:
        """The name of the tensor of weights, relative to the block."""
        return self.path if self.experts else f"{self.path}.weight"

    @property
    def bias(self) -> str:
        """The name of the tensor of biases, relative to the block, if there are any."""
        return f"{self.path}_bias" if self.experts else f"{self.path}.bias"

    def found_in(self, names: Collection[str]) -> bool:
        """Whether a block with tensors of these names has this projection."""
        return self.weight in names or any(name.format(0) in names for name in self.single)


@dataclass(frozen=True)
class Heads:
    """Numbers of query heads and of key-value heads, and the size of a head."""

    query: int
    key_value: int
    size: int


def output_rows(place: Place, d_out: int, heads: Heads) -> slice | np.ndarray:
    """The projection's rows among the `d_out` outputs of the map that holds it.

    Returns a slice, or indices in the order of the heads.

    Raises:
        UserError: the map's size does not fit the heads.
    """
    if place.fused is None:
        return slice(0, d_out)
    if place.part in (*MLP, *SHARED):
        if d_out % 2:
            raise UserError(f"{place.path} has {d_out} outputs, which are not two halves")
        if place.fused == "alternating":
            return slice(0 if place.part == GATE else 1, d_out, 2)
        half = d_out // 2
        return slice(0, half) if place.part in (GATE, SHARED_GATE) else slice(half, d_out)
    if place.fused == "gated":
        if d_out != 2 * heads.query * heads.size:
            raise UserError(
                f"{place.path} has {d_out} outputs, its config says {heads.query} query heads of "
                f"{heads.size}, each with a gate"
            )
        return (np.arange(heads.query)[:, None] * 2 * heads.size + np.arange(heads.size)).ravel()
    sizes = [heads.query * heads.size, *[heads.key_value * heads.size] * 2]
    if sum(sizes) != d_out:
        raise UserError(
            f"{place.path} has {d_out} outputs, its config says {heads.query} query and "
            f"{heads.key_value} key-value heads of {heads.size}"
        )
    at = (Q, K, V).index(place.part)
    if place.fused == "by_head":
        first = np.arange(heads.query)[:, None] * 3 * heads.size + at * heads.size
        return (first + np.arange(heads.size)).ravel()
    return slice(sum(sizes[:at]), sum(sizes[: at + 1]))


@dataclass(frozen=True)
class Layout:
    """The places of projections in the blocks of one family.

    attentions, mlps: the possible attentions and MLPs of a block; the first that a block has all
        tensors of is its own.
    instead: {beginning of tensors' names: what that is, in words}: what some blocks have in place
        of an attention.
    beside: what a block has beside its attention and MLP, in words, which no column shows.
    single: a block is one thing alone, an attention, an MLP, or what `instead` names.
    shares: the last `num_kv_shared_layers` blocks take the keys and values of earlier ones. Their
        own tensors, which some files have, are not used.
    stored: (beginning of a tensor's name in checkpoints, the same in the model) where they differ.
    """

    attentions: tuple[Mapping[str, Place], ...]
    mlps: tuple[Mapping[str, Place], ...]
    instead: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""
    single: bool = False
    shares: bool = False
    stored: tuple[tuple[str, str], ...] = ()

    def rename(self, name: str) -> str:
        """The name in the model of a tensor in a checkpoint; both relative to the block."""
        for stored, own in self.stored:
            if name.startswith(stored):
                return own + name.removeprefix(stored)
        return name

    def find_places(
        self, names: Collection[str], shared: bool = False
    ) -> tuple[dict[str, Place], list[str]]:
        """The projections of one block, and the paths of those that it should have and lacks.

        names: of its tensors, as in the model. shared: the block is one of those that take the
            keys and values of an earlier one.
        """
        other = any(name.startswith(start) for start in self.instead for name in names)
        attentions = [one for one in self.attentions if not self.shares or shared == (K not in one)]
        attention = None if other else _first_found(attentions, names)
        mlp = _first_found(self.mlps, names)
        lacking = []
        if attention is None and not other and not (self.single and mlp is not None):
            lacking += _find_lacking(attentions[0], names)
        if mlp is None and not (self.single and (other or attention is not None)):
            lacking += _find_lacking(self.mlps[0], names)
        return {**(attention or {}), **(mlp or {})}, lacking

    def explain_absence(self, projection: str) -> str:
        """Why some blocks lack a projection that others have, in words."""
        kinds = " or ".join(dict.fromkeys(self.instead.values()))
        if self.single:
            return f"each layer is an attention, an MLP or {kinds} alone"
        if projection in (K, V) and self.shares:
            values = ", or keys that are its values as well" * (projection == V and self._one_map)
            return f"the layer takes keys and values of an earlier one{values}"
        if projection in SHARED:
            return "the layer has no shared expert"
        if self.instead and projection not in MLP:
            other = "" if all(projection in one for one in self.attentions) else ", or another one"
            return f"the layer has {kinds} instead of this attention{other}"
        return "the layer has none"

    @property
    def _one_map(self) -> bool:
        return any(K in one and V not in one for one in self.attentions)


def _first_found(
    options: Collection[Mapping[str, Place]], names: Collection[str]
) -> Mapping[str, Place] | None:
    found = (one for one in options if all(place.found_in(names) for place in one.values()))
    return next(found, None)


def _find_lacking(places: Mapping[str, Place], names: Collection[str]) -> list[str]:
    return [place.path for place in places.values() if not place.found_in(names)]


def heads_of(config: Mapping) -> Heads:
    """The heads of a model, from its config.json (`to_dict` of a config)."""
    shape = shape_of(dict(config))
    return Heads(shape["heads"], shape["key_value_heads"], shape["head_dim"])
