"""The place of each projection in a block, for every family of decoders.

A projection is a linear map inside every block: a torch module of its own (Llama), some rows of a
fused one (GPT-2, GPT-NeoX, Phi-3), or one map per expert (Mixtral, GPT-OSS). The table `FAMILIES`
names it relative to the block. Nothing here needs torch, so the same table serves the tensors of a
checkpoint and the modules of a loaded model.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from llm_figures.core.errors import UserError
from llm_figures.models.model_info import shape_of

Q, K, V, O = ATTENTION = ("attn. q", "attn. k", "attn. v", "attn. o")  # noqa: E741
UP, DOWN, GATE = MLP = ("mlp. up", "mlp. down", "mlp. gate")
# In the order of the figure's columns, left to right.
PROJECTIONS = (*ATTENTION, *MLP)


@dataclass(frozen=True)
class Place:
    """The place of a projection in a block.

    path: of the linear torch module; for experts, of the parameter with all their maps
        [experts, ...].
    part: the projection, if it is a part of a fused map; None if it is the whole map.
    fused: the order of the rows of a fused map: "stacked" (all of query, then key, then value;
        gate, then up), "by_head" (query, key and value of one head, then of the next),
        "alternating" (gate, up, gate, up, …).
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
    if place.part in MLP:
        if d_out % 2:
            raise UserError(f"{place.path} has {d_out} outputs, which are not two halves")
        if place.fused == "alternating":
            return slice(0 if place.part == GATE else 1, d_out, 2)
        half = d_out // 2
        return slice(0, half) if place.part == GATE else slice(half, d_out)
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


def _linear(*paths: str, **more) -> tuple[Place, ...]:
    return tuple(Place(path, **more) for path in paths)


def _fused(path: str, *parts: str, fused: str = "stacked", **more) -> dict[str, Place]:
    return {part: Place(path, part, fused, **more) for part in parts}


def _separate(output: str = "o_proj") -> dict[str, Place]:
    names = ("q_proj", "k_proj", "v_proj", output)
    return dict(zip(ATTENTION, _linear(*(f"self_attn.{name}" for name in names)), strict=True))


def _experts(path: str, *single: tuple[str, str, str], fused="stacked", transposed=False):
    """single: names of one expert's up, down and gate."""
    more = {"transposed": transposed, "experts": True}
    up, down, gate = zip(*single, strict=True) if single else ((), (), ())
    both = f"{path}.gate_up_proj"
    return {
        UP: Place(both, UP, fused, single=up, **more),
        DOWN: Place(f"{path}.down_proj", single=down, **more),
        GATE: Place(both, GATE, fused, single=gate, **more),
    }


SEPARATE = _separate()
GATED = dict(zip(MLP, _linear("mlp.up_proj", "mlp.down_proj", "mlp.gate_proj"), strict=True))
UNGATED = dict(zip(MLP, _linear("mlp.up_proj", "mlp.down_proj"), strict=False))
HALVES = {
    **_fused("mlp.gate_up_proj", UP, GATE),
    DOWN: Place("mlp.down_proj"),
}
EXPERTS = _experts(
    "mlp.experts",
    *(
        tuple(f"{where}.experts.{{}}.{name}.weight" for name in names)
        for where, names in (
            ("mlp", ("up_proj", "down_proj", "gate_proj")),
            ("block_sparse_moe", ("w3", "w2", "w1")),
        )
    ),
)

# Of each model_type: its attention, and the possible MLPs of a block (some blocks of a model may be
# dense and others have experts).
Layout = tuple[Mapping[str, Place], tuple[Mapping[str, Place], ...]]
# Separate projections of these names mean the same in every family.
PLAIN: Layout = (SEPARATE, (GATED, UNGATED))
FAMILIES: dict[str, Layout] = {
    **dict.fromkeys(
        (
            *("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo", "olmo2", "olmo3"),
            *("gemma", "gemma2", "gemma3_text", "cohere", "cohere2", "stablelm", "granite"),
        ),
        PLAIN,
    ),
    **dict.fromkeys(("mixtral", "qwen3_moe", "olmoe"), (SEPARATE, (EXPERTS, GATED))),
    "gpt_oss": (SEPARATE, (_experts("mlp.experts", fused="alternating", transposed=True),)),
    "phi3": (
        _fused("self_attn.qkv_proj", Q, K, V) | {O: Place("self_attn.o_proj")},
        (HALVES,),
    ),
    **dict.fromkeys(("glm", "glm4"), (SEPARATE, (HALVES,))),
    "phi": (
        _separate("dense"),
        ({UP: Place("mlp.fc1"), DOWN: Place("mlp.fc2")},),
    ),
    "opt": (
        _separate("out_proj"),
        ({UP: Place("fc1"), DOWN: Place("fc2")},),
    ),
    "starcoder2": (
        SEPARATE,
        ({UP: Place("mlp.c_fc"), DOWN: Place("mlp.c_proj")},),
    ),
    "gpt_neox": (
        _fused("attention.query_key_value", Q, K, V, fused="by_head")
        | {O: Place("attention.dense")},
        ({UP: Place("mlp.dense_h_to_4h"), DOWN: Place("mlp.dense_4h_to_h")},),
    ),
    "gpt2": (
        _fused("attn.c_attn", Q, K, V, transposed=True)
        | {O: Place("attn.c_proj", transposed=True)},
        (
            {
                UP: Place("mlp.c_fc", transposed=True),
                DOWN: Place("mlp.c_proj", transposed=True),
            },
        ),
    ),
}


def find_places(
    model_type: str, names: Collection[str], where: str = "module_map"
) -> dict[str, Place]:
    """The projections of one block, {projection: place}, in the order of the figure.

    names: of the block's tensors, relative to it ("self_attn.q_proj.weight").
    where: how messages begin.

    Families that are not in the table are supported if their projections are separate and named as
    Llama's; the rows of an unknown fused map are never guessed.

    Raises:
        UserError: the block lacks projections that its family should have.
    """
    attention, options = FAMILIES.get(model_type, PLAIN)
    for mlp in options:
        places = attention | mlp
        if all(place.found_in(names) for place in places.values()):
            return {name: places[name] for name in PROJECTIONS if name in places}
    expected = {**attention, **options[0]}
    lacking = [place.path for place in expected.values() if not place.found_in(names)]
    raise UserError(
        f"{where}: models of type {model_type} have no {' or '.join(dict.fromkeys(lacking))} in "
        "their blocks, and the place of these projections is not known; the other four figures "
        "work without it"
    )


def heads_of(config: Mapping) -> Heads:
    """The heads of a model, from its config.json (`to_dict` of a config)."""
    shape = shape_of(dict(config))
    return Heads(shape["heads"], shape["key_value_heads"], shape["head_dim"])
