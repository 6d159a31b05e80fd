"""Tiny random models of the real class of every causal language model in transformers.

The default config of a family is shrunk by the names of its fields; `OVERRIDES` holds what a family
needs besides. Every kind of layer remains, and windows, chunks and blocks are so short that a text
of 64 tokens goes beyond them.
"""

import contextlib
import copy
import re
from collections.abc import Mapping
from types import MappingProxyType

import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

# Sizes by the name of a config's field. A field that is not here keeps its default.
SIZES = {
    size: names.split()
    for size, names in {
        64: "mamba_d_ssm num_embeddings",
        384: "vocab_size vocab_size_per_layer_input text_vocab_size output_vocab_size",
        512: "max_position_embeddings n_positions n_ctx max_seq_len model_max_length "
        "context_length max_target_positions original_max_position_embeddings",
        48: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim d_inner d_ff dff n_inner "
        "dim_ff ffn_hidden_size feed_forward_size mlp_dim intermediate_size_mlp "
        "dense_intermediate_size alignment_intermediate_size",
        32: "hidden_size d_model n_embd emb_dim embed_dim embedding_dim embedding_size dim_model "
        "input_embedding_size output_embedding_size out_hidden_size output_dim projection_dim "
        "projector_hidden_size vision_hidden_size word_embed_proj_dim lru_width",
        24: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size "
        "moe_shared_expert_intermediate_size shared_intermediate_size",
        16: "mamba_headdim mamba_head_dim mamba_d_head head_dim global_head_dim swa_head_dim "
        "mamba_d_state ssm_state_size state_size",
        8: "sliding_window attention_chunk_size sliding_window_size attention_window_size "
        "local_attention index_block_size q_lora_rank kv_lora_rank qk_nope_head_dim v_head_dim "
        "index_head_dim local_attention_window_len keep_window_size d_kv d_head kv_channels "
        "linear_key_head_dim linear_value_head_dim linear_head_dim mamba_chunk_size chunk_size "
        "attention_head_size swa_v_head_dim o_lora_rank "
        "hidden_size_per_layer_input laurel_rank floor_scale log_scaling_n_floor d_rel "
        "gated_norm_rank dim_head adapter_rank hc_lowrank mamba_dt_rank window_size head_size "
        "rel_extent block_size zero_expert_num query_pre_attn_scalar",
        4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads "
        "decoder_attention_heads attention_heads num_decoder_attention_heads "
        "num_encoder_attention_heads n_routed_experts num_experts num_local_experts "
        "moe_num_experts qk_rope_head_dim linear_num_heads linear_num_value_heads index_n_heads "
        "index_topk rotary_dim n_mamba_heads mamba_num_heads mamba_n_heads swa_num_attention_heads "
        "num_sliding_attention_heads index_local_blocks",
        2: "num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_topk "
        "moe_k num_hidden_layers num_layers n_layer n_layers decoder_layers encoder_layers layers "
        "num_decoder_layers num_encoder_layers linear_num_key_heads swa_num_key_value_heads "
        "index_topk_blocks num_query_groups n_groups mamba_n_groups mamba_ngroups "
        "num_global_key_value_heads",
        1: "max_window_layers first_k_dense_replace num_nextn_predict_layers n_group topk_group "
        "num_expert_group num_dense_layers decoder_start_layer n_shared_experts "
        "num_shared_experts",
    }.items()
}
SIZE_OF = {name: size for size, names in SIZES.items() for name in names}
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id")
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers", "layers")
FLAGS = {"use_sliding_window": True, "use_cache": False}
STD = ("initializer_range", "init_std", "initializer_std", "initializer_factor")

# Small values of fields that are None by default, where a class cannot do without.
NONE_OF = {
    **dict.fromkeys(("sliding_window", "head_dim"), 8),
    **dict.fromkeys(("n_routed_experts", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_key_value_heads", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    "moe_intermediate_size": 24,
}
HYBRID = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
WINDOWED = ["sliding_attention", "full_attention"] * 2
TWO_KINDS = MappingProxyType({"num_hidden_layers": 4, "layer_types": WINDOWED})


def _sections(*sections: int) -> dict:
    """Rotary embedding with the angles of three positions."""
    return {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": list(sections),
        }
    }


# What a family needs besides, by model type: fields of its (text) config; ... leaves one out.
OVERRIDES: dict[str, dict] = {
    # of whose kinds of layers the default config has only one
    **dict.fromkeys(("dots1", "mellum", "ministral", "ministral3", "step3p5"), TWO_KINDS),
    "bamba": {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    **dict.fromkeys(
        ("blt_local_encoder", "blt_local_decoder"), MappingProxyType({"vocab_size": 384})
    ),
    "chameleon": {"vocabulary_map": {"<image>": 5}},
    "cohere_compass_text": {
        "num_hidden_layers": 4,
        "layer_types": WINDOWED,
        "rope_parameters": {
            "sliding_attention": {
                **_sections(2, 1, 1)["rope_parameters"],
            },
            "full_attention": None,
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"]},
    "deepseek_v4": {
        "num_hidden_layers": 4,
        "layer_types": [
            *("heavily_compressed_attention", "compressed_sparse_attention"),
            *("sliding_attention", "compressed_sparse_attention"),
        ],
        "mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
    },
    "dots3_note": {
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": {
        "num_key_value_heads": 4,
        "num_hidden_layers": 3,
        "layer_types": ["indexed_attention", "indexed_attention", "sliding_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "rope_parameters": ...,
        "head_dim": 16,
        "shared_experts_intermediate_size": 24,
        "swa_num_attention_heads": 2,
        "swa_num_key_value_heads": 2,
        "swa_q_lora_rank": 8,
        "swa_kv_lora_rank": 8,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 12,
        "swa_v_head_dim": 8,
    },
    "ernie4_5_vl_moe_text": _sections(1, 1, 2),
    "falcon_h1": {"mamba_d_head": 16},
    # layers that share the keys and values of an earlier one
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": WINDOWED,
        "num_kv_shared_layers": 2,
        "intermediate_size": 48,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
    "gemma4_text": {
        "num_hidden_layers": 4,
        "layer_types": WINDOWED,
        "num_kv_shared_layers": 2,
        "per_layer_config": {1: {"head_dim": 32}, 3: {"head_dim": 32}},
    },
    # drafts for another model, whose keys and values all their layers read
    **{
        kind: {
            "backbone_hidden_size": 32,
            "text_config": {
                "num_kv_shared_layers": 4,
                "num_hidden_layers": 4,
                "layer_types": WINDOWED,
                "hidden_size_per_layer_input": 0,
                "vocab_size_per_layer_input": 0,
            },
        }
        for kind in ("gemma4_assistant", "gemma4_unified_assistant")
    },
    "glm4v_text": _sections(2, 1, 1),
    "glm4v_moe_text": _sections(2, 1, 1) | {"head_dim": 16},
    "glm_ocr_text": _sections(2, 1, 1),
    "glm5_next_text": {"index_topk": 16, "index_kpool": 4},
    "granite_docling_text": {"attention_multiplier": 1.0},
    "granitemoehybrid": {"num_hidden_layers": 4, "layer_types": HYBRID},
    "helium": {"head_dim": 8},
    "hunyuan_vl_text": _sections(1, 1, 1, 1),
    "inkling2": {"vision_config": {"text_hidden_size": 32}},
    "jamba": {
        "num_hidden_layers": 5,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 3,
    },
    "laguna": {**TWO_KINDS, "num_attention_heads_per_layer": [4, 4, 2, 4]},
    "lfm2": {
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "block_multiple_of": 8,
    },
    "lfm2_moe": {
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    },
    "minimax_m3_vl_text": {
        "num_hidden_layers": 3,
        "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    # layers that attend to images
    "mllama_text_model": {"num_hidden_layers": 3, "cross_attention_layers": [1]},
    # layers that share latent keys and values, and indices
    "mistral_large4_text": {
        "num_hidden_layers": 4,
        "indexer_types": ["full", "shared", "full", "shared"],
        "kv_source_layers": [0, 1, 0, 1],
        "no_rope_layers": [1, 0, 1, 0],
    },
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0]}},
    "muse_spark": {"audio_config": {"hidden_sizes": [8, 8, 16, 16]}},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "paddleocr_vl_text": _sections(4, 2, 2),
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"), _sections(2, 1, 1)),
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 64,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [16, 32],
        "axial_pos_embds_dim": [16, 16],
    },
    "smollm3": {
        "num_hidden_layers": 4,
        "no_rope_layers": [1, 0, 1, 1],
        "layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"],
    },
    "xmod": {"default_language": "en_XX"},
    **{
        kind: {
            "num_hidden_layers": 5,
            "layers_block_type": ["linear_attention", *["hybrid", "linear_attention"] * 2],
        }
        for kind in ("zamba", "zamba2")
    },
    "zaya": {
        "num_hidden_layers": 4,
        "layer_types": ["hybrid", "hybrid_sliding"] * 2,
        "router_hidden_size": 16,
    },
}
# Families that cannot be built here, and why.
TIMM = "its image encoder needs the package timm, which is not installed"
PARTS = "AutoModelForCausalLM builds a part of it from the config of that part alone"
DRAFTS = "a draft for another model, whose keys and values it reads; transformers builds none alone"
UNBUILT: dict[str, str] = {
    "evolla": "AutoModelForImageTextToText does not know its config, though it lists the type",
    **dict.fromkeys(("fast_vlm", "gemma3n", "perception_lm"), TIMM),
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), DRAFTS),
    "granite4_vision": "its default config leaves out what its image encoder needs",
    **dict.fromkeys(("musicgen", "musicgen_melody"), PARTS),
}


def list_families() -> list[str]:
    """Model types of all causal language models, and of the multimodal ones with a decoder."""
    return sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES})


def tiny_config(model_type: str, **changes) -> PreTrainedConfig:
    """The default config of this type, shrunk. changes: other fields, or {part: its fields}."""
    return _shrink(CONFIG_MAPPING[model_type], more=changes)


def _shrink(
    cls: type[PreTrainedConfig],
    default: PreTrainedConfig | None = None,
    more: Mapping[str, object] | None = None,
) -> PreTrainedConfig:
    """A small config of this class.

    default: the default one, where it is a part of another. more: fields from that other's entry in
    `OVERRIDES`.
    """
    own = {**OVERRIDES.get(cls.model_type, {}), **(more or {})}
    default = default_config(cls) if default is None else default
    plain = default.to_dict()
    fields = {}
    for name, value in plain.items():
        current = default.__dict__.get(name, value)
        if isinstance(current, PreTrainedConfig):
            fields[name] = _shrink(type(current), current, own.get(name))
        elif (small := _shrink_field(name, value, plain)) is not None:
            fields[name] = small
    if not own.keys() & set(LAYERS):  # else the class makes them for that number of layers
        fields |= _layer_lists(default)
    parts = {name for name, value in fields.items() if isinstance(value, PreTrainedConfig)}
    fields |= {name: value for name, value in own.items() if name not in parts}
    return cls(**{name: value for name, value in fields.items() if value is not ...})


def default_config(cls: type[PreTrainedConfig]) -> PreTrainedConfig:
    """The default config; without its own validation where that refuses the class's defaults."""
    try:
        return cls()
    except StrictDataclassClassValidationError:
        return cls(**OVERRIDES[cls.model_type])


def _shrink_field(name: str, value, plain: dict):
    """The small value of a config's field; None leaves the class to choose."""
    if name in FLAGS and isinstance(value, bool):
        return FLAGS[name]
    if name in TOKENS:
        return 0
    if name in STD and isinstance(value, float):
        return 0.3
    if "dropout" in name and isinstance(value, float):
        return 0.0
    if name == "rope_parameters" and isinstance(value, dict):
        return _shrink_rope(value, plain)
    if name == "sliding_window":  # also where the default says that there is none
        return SIZE_OF[name]
    if value is None:
        return NONE_OF.get(name)
    if name not in SIZE_OF or isinstance(value, bool):
        return None
    if not isinstance(value, int):
        return None
    if name in ("num_key_value_heads", "num_kv_heads"):
        heads = plain.get("num_attention_heads")
        return 4 if value == heads else min(value, 2)
    if name == "head_dim" and plain.get("qk_rope_head_dim"):
        rotary, other = "qk_rope_head_dim", "qk_nope_head_dim"
        if value == plain[rotary]:
            return SIZE_OF[rotary]
        if value == plain[rotary] + plain.get(other, 0):
            return SIZE_OF[rotary] + SIZE_OF[other]
    return min(value, SIZE_OF[name])


def _shrink_rope(rope: dict, plain: dict) -> dict:
    """Rotary parameters with sections of positions that fit a small head."""
    found = copy.deepcopy(rope)
    for one in (found, *(value for value in found.values() if isinstance(value, dict))):
        if "mrope_section" in one:
            width = SIZE_OF["head_dim"] if plain.get("head_dim") else 8
            half = int(width * one.get("partial_rotary_factor", 1)) // 2
            one["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
        if "original_max_position_embeddings" in one:
            one["original_max_position_embeddings"] = 32
        if "partial_rotary_factor" in one and plain.get("qk_rope_head_dim"):
            rotary, other = SIZE_OF["qk_rope_head_dim"], SIZE_OF["qk_nope_head_dim"]
            one["partial_rotary_factor"] = rotary / (rotary + other)
    return found


def _layer_lists(default: PreTrainedConfig) -> dict:
    """Lists with an entry per layer, one of every kind of layer left, and the number of layers."""
    plain = default.to_dict()
    count_name = next((n for n in LAYERS if isinstance(plain.get(n), int)), None)
    if count_name is None:
        return {}
    count = plain[count_name]
    if isinstance(plain.get("use_sliding_window"), bool):
        with contextlib.suppress(Exception):
            plain = type(default)(use_sliding_window=True, max_window_layers=count // 2).to_dict()
    by_layer = {
        name: value
        for name, value in plain.items()
        if isinstance(value, list)
        and len(value) == count
        and count > 2
        and value != list(range(count))
    }
    numbers = [name for name, value in plain.items() if value == list(range(count))]
    special = {int(layer): value for layer, value in (plain.get("per_layer_config") or {}).items()}
    if not by_layer:
        return {}
    kinds = [
        repr((*(value[layer] for value in by_layer.values()), special.get(layer)))
        for layer in range(count)
    ]
    kept = sorted({kinds.index(kind) for kind in kinds})
    if len(kept) == 1:
        kept.append(kept[0] + 1)
    found = {name: [value[layer] for layer in kept] for name, value in by_layer.items()}
    for name, values in found.items():
        if name in SIZE_OF:
            found[name] = [min(value, SIZE_OF[name]) for value in values]
    found |= {name: list(range(len(kept))) for name in numbers}
    if special:
        found["per_layer_config"] = {
            new: {name: _special(name, value) for name, value in special[old].items()}
            for new, old in enumerate(kept)
            if old in special
        }
    found[count_name] = len(kept)
    return found


def _special(name: str, value):
    """A field of one layer: small, but not as that of the other layers."""
    if name not in SIZE_OF or not isinstance(value, int):
        return value
    return 2 * SIZE_OF[name] if name == "head_dim" else min(value, SIZE_OF[name])


def tiny_model(model_type: str, seed: int = 0, **changes) -> PreTrainedModel:
    """A tiny random model of this type's class, in evaluation mode, in float32 on the CPU.

    No weight is neutral: biases, norms, sinks and gates that a class begins with 0 or 1 would hide
    what they do.

    changes: see `tiny_config`.
    """
    config = tiny_config(model_type, **changes)
    causal = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    torch.manual_seed(seed)
    model = (AutoModelForCausalLM if causal else AutoModelForImageTextToText).from_config(config)
    return perturb(model.float().eval(), seed)


def perturb(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Change the weights that are neutral or small in a new model."""
    random = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if re.search(r"(q|k|query|key)_?(layer)?norm", name):
                # else the scores of normed queries and keys are small, and attention is uniform
                parameter.copy_(2 + 0.5 * noise)
            elif parameter.ndim < 2 or not parameter.abs().max():
                parameter += 0.3 * noise
            elif parameter.std() < 0.1:
                parameter.copy_(0.3 * noise)
    return model
