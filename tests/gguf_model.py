"""A GGUF file of a tiny random Llama, as llama.cpp's converter names things."""

import json

import gguf
import numpy as np

import tiny

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write(path, architecture="llama", without=(), extra=None, metadata=None, **changes):
    """Write the tiny Llama; its matrices that can be are in Q8_0, all else in float32.

    without: names of tensors in the file that are left out. extra: {name: array} of further ones.
    metadata: {key: text or number} of further keys. changes: of the config.

    Returns {name in the model: what the file says of it}, as float32; queries' and keys' rows
    stand in the file's own order.
    """
    # rows of 32 values or more, which are Q8_0's blocks
    sizes = {"num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8}
    model = tiny.model(**{**sizes, **changes})
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = json.loads(tiny.tokenizer()._tokenizer.to_str())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    tokens += [f"<unused{n}>" for n in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_eos_token_id(0)
    for key, value in (metadata or {}).items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(key, value)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    said = {}
    for name, weight in model.state_dict().items():
        data = weight.numpy()
        if name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            stored = f"blk.{layer}.{NAMES[part]}.weight"
        else:
            stored = {"model.embed_tokens.weight": "token_embd.weight",
                      "model.norm.weight": "output_norm.weight",
                      "lm_head.weight": "output.weight"}[name]  # fmt: skip
        if stored in without:
            continue
        kind = gguf.GGMLQuantizationType.F32
        if data.ndim == 2 and name.startswith("model.layers."):
            kind = gguf.GGMLQuantizationType.Q8_0
            packed = gguf.quants.quantize(data, kind)
            writer.add_tensor(stored, packed, raw_dtype=kind)
            said[name] = np.asarray(gguf.quants.dequantize(packed, kind))
            continue
        writer.add_tensor(stored, data)
        said[name] = data
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return said
