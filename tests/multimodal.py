"""Tiny random models of real classes that see beside reading, with a text decoder inside."""

import torch
import transformers as t
from transformers import AutoModelForMultimodalLM

TEXT = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 16,
}
SIGLIP = {**CLIP, "model_type": "siglip_vision_model"}
PIXTRAL = {**CLIP, "model_type": "pixtral", "head_dim": 8}
IDS = {"image_token_id": 300, "video_token_id": 301, "vision_start_token_id": 302}
IDS |= {"vision_end_token_id": 303}
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
QWEN = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "patch_size": 4,
    "out_hidden_size": 32,
    "embed_dim": 16,
    "in_channels": 3,
}


def _llama(**more):
    return {"model_type": "llama", **TEXT, **more}


CONFIGS = {
    "llava": lambda: t.LlavaConfig(
        text_config=_llama(), vision_config=CLIP, image_token_index=300,
        tie_word_embeddings=False,
    ),
    "llava_mistral": lambda: t.LlavaConfig(
        text_config={"model_type": "mistral", **TEXT, "sliding_window": 5}, vision_config=CLIP,
        image_token_index=300, tie_word_embeddings=False,
    ),
    "llava_next": lambda: t.LlavaNextConfig(
        text_config=_llama(), vision_config=CLIP, image_token_index=300,
        tie_word_embeddings=False,
    ),
    "llava_onevision": lambda: t.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **TEXT}, vision_config=SIGLIP,
        image_token_index=300, video_token_index=301, tie_word_embeddings=False,
    ),
    "vipllava": lambda: t.VipLlavaConfig(
        text_config=_llama(), vision_config=CLIP, image_token_index=300,
        vision_feature_layers=[0, 1], tie_word_embeddings=False,
    ),
    "mistral3": lambda: t.Mistral3Config(
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None},
        vision_config=PIXTRAL, image_token_index=300, tie_word_embeddings=False,
    ),
    "qwen2_vl": lambda: t.Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": SECTIONS},
        vision_config={**QWEN, "hidden_size": 32}, **IDS, tie_word_embeddings=False,
    ),
    "qwen2_5_vl": lambda: t.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": SECTIONS},
        vision_config={**QWEN, "fullatt_block_indexes": [1]}, **IDS, tie_word_embeddings=False,
    ),
    "qwen3_vl": lambda: t.Qwen3VLConfig(
        text_config={**TEXT, "rope_parameters": SECTIONS},
        vision_config={**QWEN, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **IDS, tie_word_embeddings=False,
    ),
    "internvl": lambda: t.InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT},
        vision_config={**CLIP, "model_type": "internvl_vision", "image_size": [28, 28],
                       "patch_size": [14, 14]},
        image_token_id=300, tie_word_embeddings=False,
    ),
    "idefics3": lambda: t.Idefics3Config(
        text_config=_llama(), vision_config={**SIGLIP, "model_type": "idefics3_vision"},
        image_token_id=300, tie_word_embeddings=False,
    ),
    "gemma3": lambda: t.Gemma3Config(
        text_config={**TEXT, "query_pre_attn_scalar": 8, "sliding_window": 5,
                     "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        vision_config={**SIGLIP, "vision_use_head": False}, image_token_index=300,
        mm_tokens_per_image=4, tie_word_embeddings=True,
    ),
}  # fmt: skip


def model(kind, seed=0):
    """A tiny random model in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModelForMultimodalLM.from_config(CONFIGS[kind]()).eval()
