"""Which models are supported according to config.json, and according to the attention hook."""

import json

import pytest
import torch
import transformers as t
from transformers import AutoModelForCausalLM

import tiny
from llm_figures.attention.attention_hook import hook_attention
from llm_figures.core.errors import UserError
from llm_figures.models.architectures import check_architecture, check_folder_architecture
from llm_figures.models.decoders import decoder_layers

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 64}
EXPERTS = {"num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1}
SUPPORTED = {
    "gpt2": t.GPT2Config(**OLD),
    "gpt_bigcode": t.GPTBigCodeConfig(**OLD),
    "gpt_neox": t.GPTNeoXConfig(**SMALL),
    "opt": t.OPTConfig(**{**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "llama": t.LlamaConfig(**SMALL),
    "mistral": t.MistralConfig(**SMALL, sliding_window=4),
    "qwen2": t.Qwen2Config(**SMALL),
    "qwen3": t.Qwen3Config(**SMALL, head_dim=8),
    "gemma": t.GemmaConfig(**SMALL, head_dim=8),
    "gemma2": t.Gemma2Config(**SMALL, head_dim=8),
    "gemma3_text": t.Gemma3TextConfig(**SMALL, head_dim=8),
    "gemma3": t.Gemma3Config(
        text_config={**SMALL, "head_dim": 8},
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    ),
    "phi": t.PhiConfig(**SMALL),
    "phi3": t.Phi3Config(**SMALL),
    "olmo2": t.Olmo2Config(**SMALL),
    "mixtral": t.MixtralConfig(**SMALL, **EXPERTS),
    "qwen3_moe": t.Qwen3MoeConfig(**SMALL, **EXPERTS, moe_intermediate_size=16, head_dim=8),
    "gpt_oss": t.GptOssConfig(**SMALL, **EXPERTS, head_dim=8),
    "stablelm": t.StableLmConfig(**SMALL),
    "starcoder2": t.Starcoder2Config(**SMALL),
    "cohere": t.CohereConfig(**SMALL),
    "granite": t.GraniteConfig(**SMALL),
}  # fmt: skip
BYPASS = "do not pass attention through transformers' attention interface, so it cannot be captured"
# Of the bypassing ones that run here: what the attention hook says in a pass must agree.
BYPASSING = {
    "bloom": t.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64),
    "falcon": t.FalconConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=64
    ),
    "gptj": t.GPTJConfig(**OLD, rotary_dim=8),
    "codegen": t.CodeGenConfig(**{**OLD, "n_ctx": 64}, rotary_dim=8),
    "mpt": t.MptConfig(d_model=32, n_layers=2, n_heads=4, vocab_size=64, max_seq_len=64),
    "gpt_neo": t.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, vocab_size=64,
        attention_types=[[["global"], 2]], max_position_embeddings=64,
    ),
    "xglm": t.XGLMConfig(d_model=32, num_layers=2, attention_heads=4, ffn_dim=48, vocab_size=64),
    "openai-gpt": t.OpenAIGPTConfig(**OLD),
}  # fmt: skip
OTHERS = [
    (t.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64), BYPASS),
    (t.RwkvConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64), BYPASS),
    (t.BertConfig(), "are encoders, in which every token attends to all others"),
    (t.RobertaConfig(), "are encoders"),
    (t.T5Config(), "are encoder-decoders"),
    (t.BartConfig(), "are encoder-decoders"),
    (t.CLIPConfig(), "are no causal language models to transformers"),
]


@pytest.mark.parametrize("family", SUPPORTED)
def test_a_supported_family_is_taken_and_every_layer_reaches_the_tap(family):
    config = SUPPORTED[family]
    check_architecture(config, "model mine")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    layers = range(len(decoder_layers(model)))
    with torch.inference_mode(), hook_attention(model, capture=layers) as captured:
        model(torch.arange(1, 9)[None])
    assert captured.keys() == set(layers)


@pytest.mark.parametrize("family", BYPASSING)
def test_a_family_that_bypasses_the_interface_is_refused_as_the_tap_would(family):
    config = BYPASSING[family]
    with pytest.raises(UserError, match=f"^model mine: models of type {family} {BYPASS}; choose"):
        check_architecture(config, "model mine")
    model = AutoModelForCausalLM.from_config(config).eval()
    refused = pytest.raises(UserError, match="attention interface")
    with refused, torch.inference_mode(), hook_attention(model, capture=[0]):
        model(torch.arange(1, 9)[None])


@pytest.mark.parametrize(("config", "line"), OTHERS, ids=[c.model_type for c, _ in OTHERS])
def test_what_else_is_no_causal_decoder_is_refused_by_name(config, line):
    with pytest.raises(UserError, match=line) as caught:
        check_architecture(config, "model mine")
    assert str(caught.value).startswith(f"model mine: models of type {config.model_type} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("{", "is not JSON"),
        ("[]", "is not JSON"),
        ({}, "config.json names no model_type"),
        ({"model_type": "never-heard-of"}, "type never-heard-of are unknown to transformers 5"),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own"}},
            r"run code of the repository's own \(auto_map in config.json\), which is refused",
        ),
        ({"model_type": "llama", "num_attention_heads": "four"}, "config.json cannot be used"),
        ({"model_type": "llama", "hidden_size": 32, "num_attention_heads": 0}, "config.json"),
    ],
)
def test_a_config_that_says_no_model_is_one_clear_line(tmp_path, written, line):
    text = written if isinstance(written, str) else json.dumps(written)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=line) as caught:
        check_folder_architecture(tmp_path, "model mine")
    assert "\n" not in str(caught.value)


def test_code_beside_a_known_type_is_passed_over_not_refused(tmp_path):
    folder = tiny.save(tmp_path / "model")
    written = json.loads((folder / "config.json").read_text())
    written["auto_map"] = {"AutoModelForCausalLM": "own.Own"}
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "own.py").write_text("raise SystemExit(3)")
    check_folder_architecture(folder, "model mine")
