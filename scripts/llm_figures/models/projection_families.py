"""The table of families: where each keeps the projections of its blocks."""

from collections.abc import Collection, Mapping

from llm_figures.core.errors import UserError
from llm_figures.models.projection_layouts import (
    ATTENTION,
    COLUMNS,
    DOWN,
    GATE,
    KV_DOWN,
    KV_UP,
    MLP,
    Q_DOWN,
    Q_UP,
    SHARED,
    SHARED_DOWN,
    SHARED_UP,
    UP,
    K,
    Layout,
    O,
    Place,
    Q,
    V,
)

Places = dict[str, Place]


def _fused(path: str, *parts: str, fused: str = "stacked", **more) -> Places:
    return {part: Place(path, part, fused, **more) for part in parts}


def _named(columns: Collection[str], where: str, names: str, **more) -> Places:
    """A linear map of its own for each column; names: in their order."""
    paths = (f"{where}{name}" for name in names.split())
    return {column: Place(path, **more) for column, path in zip(columns, paths, strict=True)}


def _separate(where: str = "self_attn.", output: str = "o_proj") -> Places:
    return _named(ATTENTION, where, f"q_proj k_proj v_proj {output}")


def _gated(where: str = "mlp.", columns: Collection[str] = MLP) -> Places:
    return _named(columns, where, "up_proj down_proj gate_proj")


def _experts(where: str = "mlp.", fused: str = "stacked", transposed: bool = False) -> Places:
    """All experts in two tensors. In checkpoints each may have its own, with one of two names."""
    more = {"transposed": transposed, "experts": True}
    up, down, gate = (
        tuple(f"{where}experts.{{}}.{name}.weight" for name in names)
        for names in (("up_proj", "w3"), ("down_proj", "w2"), ("gate_proj", "w1"))
    )
    both = f"{where}experts.gate_up_proj"
    return {
        UP: Place(both, UP, fused, single=up, **more),
        DOWN: Place(f"{where}experts.down_proj", single=down, **more),
        GATE: Place(both, GATE, fused, single=gate, **more),
    }


def _plain_experts(where: str) -> Places:
    """Experts without a gate."""
    return {
        column: Place(
            f"{where}experts.{name}", experts=True, single=(f"{where}experts.{{}}.{name}.weight",)
        )
        for column, name in ((UP, "up_proj"), (DOWN, "down_proj"))
    }


def _halves(
    where: str = "mlp.", columns: Collection[str] = MLP, names=("gate_up_proj", "down_proj")
):
    up, down, gate = columns
    return _fused(f"{where}{names[0]}", up, gate) | {down: Place(f"{where}{names[1]}")}


SEPARATE = _separate()
GATED = _gated()
UNGATED = _named((UP, DOWN), "mlp.", "up_proj down_proj")
FC = _named((UP, DOWN), "mlp.", "fc1 fc2")
FC_OF_BLOCK = _named((UP, DOWN), "", "fc1 fc2")
HALVES = _halves()
EXPERTS = _experts()
# Keys and values by way of a latent vector, queries too or not. `attn. kv down` includes the part
# of the keys that is rotated and common to all heads.
LATENT_KEYS = _named((KV_DOWN, KV_UP, O), "self_attn.", "kv_a_proj_with_mqa kv_b_proj o_proj")
LATENT = (
    _named((Q_DOWN, Q_UP), "self_attn.", "q_a_proj q_b_proj") | LATENT_KEYS,
    {Q: Place("self_attn.q_proj")} | LATENT_KEYS,
)
GATED_QUERY = SEPARATE | _fused("self_attn.q_proj", Q, fused="gated")
# Of layers that take keys and values of an earlier one, and of keys that are the values as well.
QUERY_ALONE = {Q: SEPARATE[Q], O: SEPARATE[O]}
ONE_MAP = {Q: SEPARATE[Q], K: SEPARATE[K], O: SEPARATE[O]}


def _beside(shared: str, experts: Places = EXPERTS) -> Places:
    """Routed experts, and one beside them that every token passes."""
    return experts | _gated(shared, SHARED)


WITH_SHARED = (_beside("mlp.shared_experts."), EXPERTS, GATED)
WITH_SHARED_EXPERT = (_beside("mlp.shared_expert."), EXPERTS, GATED)
GRANITE_MLP = _halves("shared_mlp.", SHARED, ("input_linear", "output_linear"))
GRANITE_EXPERTS = _experts("block_sparse_moe.")
GRANITE_STORED = (
    ("block_sparse_moe.input_linear.weight", "block_sparse_moe.experts.gate_up_proj"),
    ("block_sparse_moe.output_linear.weight", "block_sparse_moe.experts.down_proj"),
)
SPARSE_STORED = (("block_sparse_moe.", "mlp."),)

DELTA_NET = {"linear_attn.": "linear attention (gated delta rule, linear_attn)"}
# Their projections have the names of attention's.
DELTA_ATTENTION = dict.fromkeys(
    ("self_attn.conv1d.", "self_attn.q_conv1d."), "linear attention (with a forget gate)"
)
MAMBA = {"mamba.": "a state space (mamba)"}
CONVOLUTION = {"conv.": "a short convolution (conv)"}

# Separate projections of these names mean the same in every family.
PLAIN = Layout((SEPARATE,), (GATED, UNGATED))
FEED_FORWARD = _gated("feed_forward.")
LFM = (
    _experts("feed_forward."),
    _named(MLP, "feed_forward.", "w3 w2 w1"),
)

FAMILIES: dict[str, Layout] = {
    **dict.fromkeys(
        (
            *("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo", "olmo2", "olmo3"),
            *("gemma", "gemma2", "gemma3_text", "cohere", "cohere2", "stablelm", "granite"),
        ),
        PLAIN,
    ),
    # mixtures of experts
    **dict.fromkeys(
        (
            *("qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "olmoe", "flex_olmo"),
            *("mellum", "mimo_v2_flash", "beam"),
        ),
        Layout((SEPARATE,), (EXPERTS, GATED)),
    ),
    **dict.fromkeys(
        ("mixtral", "minimax_m2", "phimoe"),
        Layout((SEPARATE,), (EXPERTS,), stored=SPARSE_STORED),
    ),
    **dict.fromkeys(
        (
            *("glm4_moe", "glm4v_moe_text", "ernie4_5_moe", "dots1", "afmoe", "exaone_moe"),
            *("solar_open", "kolibri1", "cohere2_moe", "deepseek_ocr2_text", "unlimited_ocr_text"),
        ),
        Layout((SEPARATE,), WITH_SHARED),
    ),
    **dict.fromkeys(("qwen2_moe", "flint"), Layout((SEPARATE,), WITH_SHARED_EXPERT)),
    "hy_v3": Layout((SEPARATE,), WITH_SHARED, stored=(("mlp.shared_mlp.", "mlp.shared_experts."),)),
    "laguna": Layout(
        (SEPARATE,), WITH_SHARED, stored=(("mlp.shared_expert.", "mlp.shared_experts."),)
    ),
    "hunyuan_v1_moe": Layout((SEPARATE,), (_beside("mlp.shared_mlp."), GATED)),
    "aria_text": Layout(
        (SEPARATE,),
        (_beside("mlp.shared_experts.", _experts(transposed=True)),),
        stored=(
            ("mlp.experts.fc1.weight", "mlp.experts.gate_up_proj"),
            ("mlp.experts.fc2.weight", "mlp.experts.down_proj"),
        ),
    ),
    "minimax_m3_vl_text": Layout(
        (SEPARATE,),
        (
            EXPERTS | _halves("mlp.shared_experts.", SHARED),
            _beside("mlp.shared_experts."),  # in checkpoints
            HALVES,
            GATED,
        ),
        stored=SPARSE_STORED,
    ),
    **dict.fromkeys(
        ("granitemoe", "granitemoe_swa", "granitemoeshared"),
        Layout(
            (SEPARATE,), (GRANITE_EXPERTS | GRANITE_MLP, GRANITE_EXPERTS), stored=GRANITE_STORED
        ),
    ),
    "llama4_text": Layout(
        (SEPARATE,),
        (
            _beside("feed_forward.shared_expert.", _experts("feed_forward.", transposed=True)),
            FEED_FORWARD,
        ),
    ),
    "gpt_oss": Layout((SEPARATE,), (_experts(fused="alternating", transposed=True),)),
    # keys and values of earlier layers
    "gemma3n_text": Layout((SEPARATE, QUERY_ALONE), (GATED,), shares=True),
    # with experts, the dense MLP is beside them
    **dict.fromkeys(
        ("gemma4_text", "gemma4_unified_text"),
        Layout(
            (SEPARATE, ONE_MAP, QUERY_ALONE), (_beside("mlp.", _experts("")), GATED), shares=True
        ),
    ),
    # latent attention
    **dict.fromkeys(("minicpm3", "youtu"), Layout(LATENT, (GATED,))),
    **dict.fromkeys(
        (
            *("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "axk1", "mistral4"),
            *("deepseek_v32", "glm_moe_dsa", "dots3_note_text"),
        ),
        Layout(LATENT, WITH_SHARED),
    ),
    "hy_v4": Layout(
        LATENT,
        WITH_SHARED,
        stored=(
            ("mlp.linear_gate.", "mlp.gate_proj."),
            ("mlp.shared_experts.linear_gate.", "mlp.shared_experts.gate_proj."),
        ),
    ),
    "kimi_linear": Layout(LATENT, WITH_SHARED, DELTA_ATTENTION, stored=SPARSE_STORED),
    "bailing_hybrid": Layout(
        LATENT,
        WITH_SHARED,
        DELTA_ATTENTION,
        stored=(("attention.dense.", "self_attn.o_proj."), ("attention.", "self_attn.")),
    ),
    # hybrids
    "qwen3_5_text": Layout((GATED_QUERY,), (GATED,), DELTA_NET),
    **dict.fromkeys(
        ("qwen3_5_moe_text", "qwen3_next"), Layout((GATED_QUERY,), WITH_SHARED_EXPERT, DELTA_NET)
    ),
    "olmo_hybrid": Layout((SEPARATE,), (GATED,), DELTA_NET),
    "minimax": Layout(
        (SEPARATE,),
        (EXPERTS,),
        {"self_attn.qkv_proj.": "linear attention (lightning attention)"},
        stored=SPARSE_STORED,
    ),
    **dict.fromkeys(
        ("jamba", "bamba"),
        Layout((SEPARATE,), (_experts("feed_forward."), FEED_FORWARD), MAMBA),
    ),
    "granitemoehybrid": Layout(
        (SEPARATE,),
        (GRANITE_EXPERTS | GRANITE_MLP, GRANITE_MLP),
        MAMBA,
        stored=GRANITE_STORED,
    ),
    "falcon_h1": Layout((SEPARATE,), (FEED_FORWARD,), beside="a state space (mamba)"),
    "nemotron_h": Layout(
        (_separate("mixer."),),
        (
            _plain_experts("mixer.")
            | _named((SHARED_UP, SHARED_DOWN), "mixer.shared_experts.", "up_proj down_proj"),
            _named((UP, DOWN), "mixer.", "up_proj down_proj"),
        ),
        {"mixer.in_proj.": "a state space (Mamba)"},
        single=True,
    ),
    **dict.fromkeys(
        ("lfm2", "lfm2_moe"), Layout((_separate(output="out_proj"),), LFM, CONVOLUTION)
    ),
    "lfm3": Layout((SEPARATE,), LFM, CONVOLUTION),
    "recurrent_gemma": Layout(
        (_separate("temporal_block."),),
        (_gated("mlp_block."),),
        {"temporal_block.linear_x.": "a linear recurrence"},
    ),
    # fused, or named in another way
    **dict.fromkeys(
        ("phi3", "phi4_multimodal"),
        Layout(
            (_fused("self_attn.qkv_proj", Q, K, V) | {O: Place("self_attn.o_proj")},), (HALVES,)
        ),
    ),
    **dict.fromkeys(("glm", "glm4", "glm4v_text", "glm_ocr_text"), Layout((SEPARATE,), (HALVES,))),
    "modernbert-decoder": Layout(
        (_named(ATTENTION, "attn.", "q_proj k_proj v_proj Wo"),), (_halves(names=("Wi", "Wo")),)
    ),
    "phi": Layout((_separate(output="dense"),), (FC,)),
    "nanochat": Layout((SEPARATE,), (FC,)),
    **dict.fromkeys(("opt", "biogpt"), Layout((_separate(output="out_proj"),), (FC_OF_BLOCK,))),
    "starcoder2": Layout((SEPARATE,), (_named((UP, DOWN), "mlp.", "c_fc c_proj"),)),
    "gpt_neox": Layout(
        (
            _fused("attention.query_key_value", Q, K, V, fused="by_head")
            | {O: Place("attention.dense")},
        ),
        (_named((UP, DOWN), "mlp.", "dense_h_to_4h dense_4h_to_h"),),
    ),
    "persimmon": Layout(
        (
            _fused("self_attn.query_key_value", Q, K, V, fused="by_head")
            | {O: Place("self_attn.dense")},
        ),
        (_named((UP, DOWN), "mlp.", "dense_h_to_4h dense_4h_to_h"),),
    ),
    "gpt2": Layout(
        (
            _fused("attn.c_attn", Q, K, V, transposed=True)
            | {O: Place("attn.c_proj", transposed=True)},
        ),
        (_named((UP, DOWN), "mlp.", "c_fc c_proj", transposed=True),),
    ),
}


def check_query(kind: str | None, layer: int, outputs: int, d_in: int, where: str) -> None:
    """Check a family that is not in the table: its query may hold an output gate as well.

    outputs: of `attn. q`. d_in: inputs of `attn. o`, as many as a plain query has outputs.

    Raises:
        UserError: they differ.
    """
    if kind not in FAMILIES and outputs != d_in:
        raise UserError(
            f"{where}: q_proj of layer {layer} has {outputs} outputs, o_proj {d_in} inputs; what "
            f"else it holds in models of type {kind} is not known; the other four figures work "
            "without it"
        )


def layout_of(model_type: str | None) -> Layout:
    """The layout of a family.

    Families that are not in the table are supported if their projections are separate and named as
    Llama's; the rows of an unknown fused map are never guessed.
    """
    return FAMILIES.get(model_type, PLAIN)


def find_places(
    config: Mapping, layer: int, names: Collection[str], where: str = "module_map"
) -> Places:
    """The projections of one block, {projection: place}, in the order of the figure.

    config: of the text decoder, as plain values. names: of the block's tensors, relative to it
        ("self_attn.q_proj.weight"). where: how messages begin.

    A block without an attention, as hybrids have them, has no projections of attention.

    Raises:
        UserError: the block lacks projections that its family should have.
    """
    kind = config.get("model_type")
    layout = layout_of(kind)
    shared = (config.get("num_hidden_layers") or 0) - (config.get("num_kv_shared_layers") or 0)
    places, lacking = layout.find_places(names, layout.shares and layer >= shared)
    if lacking:
        raise UserError(
            f"{where}: models of type {kind} have no {' or '.join(dict.fromkeys(lacking))} in "
            "their blocks, and the place of these projections is not known; the other four "
            "figures work without it"
        )
    return {name: places[name] for name in COLUMNS if name in places}
