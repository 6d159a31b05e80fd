"""What transformers would drop from a GGUF file, and the sizes in its header."""

import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import gguf_model
import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.gguf_checks import LLAMA3, check_gguf_names, llama3_factors
from llm_figures.models.gguf_header import check_gguf_header, sizes_of
from llm_figures.models.sources import prepare_model
from llm_figures.workflow.model_size import ASSUMED, find_model_size

LOCAL = {"source": "path", "trust_remote_code": False, "safetensors_only": True}


def convert(tmp_path, **changes):
    path = tmp_path / "own.gguf"
    said = gguf_model.write(path, **changes)
    return prepare_model("mine", {**LOCAL, "path": str(path)}, tmp_path / "cache"), said


def refused(tmp_path, **changes):
    with pytest.raises(UserError) as caught:
        convert(tmp_path, **changes)
    line = str(caught.value)
    assert line.startswith(f"model mine: path: {tmp_path / 'own.gguf'}: ")
    assert "\n" not in line
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    return line


def test_a_conversion_prints_nothing(tmp_path, capfd):
    convert(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name", ["blk.1.ffn_up.weight", "blk.0.attn_norm.weight", "output_norm.weight"]
)
def test_a_missing_tensor_is_refused_by_name(tmp_path, name):
    line = refused(tmp_path, without=[name])
    assert f"own.gguf lacks 1 tensor(s) of a llama model, for example {name}" in line


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "blk.2.ffn_up.bias", "output.bias", "blk.1.attn_sinks.weight"]
)
def test_a_tensor_without_a_place_is_refused_by_name(tmp_path, name):
    line = refused(tmp_path, extra={name: np.ones(32, dtype=np.float32)})
    assert "own.gguf holds 1 tensor(s) that have no place in LlamaForCausalLM" in line
    assert f"for example {name}, and would be ignored; take the model's safetensors" in line


ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm")
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_inp")
MOE_NAMES = [
    *(f"{name}.weight" for name in ("token_embd", "output_norm", "output")),
    *(
        f"blk.{layer}.{name}.weight"
        for layer in range(3)
        for name in (*ATTENTION, *EXPERTS, "attn_norm", "ffn_norm")
    ),
]


def write_names(path, names, architecture="qwen3moe"):
    writer = gguf.GGUFWriter(path, architecture)
    for name in names:
        writer.add_tensor(name, np.ones(2, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_names_of_experts_are_known(tmp_path):
    config = tiny.config("qwen3_moe")
    check_gguf_names(config, write_names(tmp_path / "all.gguf", MOE_NAMES), "model mine")


@pytest.mark.parametrize("name", ["ffn_up_exps", "ffn_gate_exps", "ffn_down_exps", "ffn_gate_inp"])
def test_half_of_a_weight_of_experts_is_missed(tmp_path, name):
    """Gate and up fill one weight, which transformers would leave half zero without a word."""
    names = [one for one in MOE_NAMES if one != f"blk.1.{name}.weight"]
    with pytest.raises(UserError, match=rf"lacks 1 tensor.* for example blk\.1\.{name}"):
        check_gguf_names(
            tiny.config("qwen3_moe"), write_names(tmp_path / "own.gguf", names), "model mine"
        )


def test_experts_that_transformers_does_not_take_over_are_refused(tmp_path):
    """It looks for the processor of GPT-OSS under another name than files have."""
    names = [name for name in MOE_NAMES if "_norm.weight" not in name or "blk" not in name]
    file = write_names(tmp_path / "own.gguf", names, "gpt-oss")
    with pytest.raises(UserError, match="own.gguf lacks|have no place"):
        check_gguf_names(tiny.config("gpt_oss"), file, "model mine")


def test_all_that_is_missing_is_counted(tmp_path):
    line = refused(tmp_path, without=[f"blk.{layer}.attn_v.weight" for layer in range(3)])
    assert "lacks 3 tensor(s) of a llama model, for example blk.0.attn_v.weight" in line


def test_without_output_embeddings_they_are_those_of_the_input(tmp_path):
    model_info, said = convert(tmp_path, without=["output.weight"])
    model = AutoModelForCausalLM.from_pretrained(model_info["folder"])
    embeddings = said["model.embed_tokens.weight"]
    np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), embeddings)


def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path):
    line = refused(
        tmp_path,
        without=["blk.1.ffn_norm.weight"],
        extra={"blk.1.ffn_norm.weight": np.full(32, np.nan, dtype=np.float32)},
    )
    assert "holds NaN or infinite numbers in model.layers.1.post_attention_layernorm" in line


def test_a_tensor_of_another_shape_is_refused_by_name(tmp_path):
    name = "blk.1.ffn_norm.weight"
    line = refused(tmp_path, without=[name], extra={name: np.ones(16, dtype=np.float32)})
    assert "do not fit its own header: 1 tensor(s) missing or of another shape" in line
    assert "for example model.layers.1.post_attention_layernorm.weight" in line


ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, **LLAMA3}


def test_the_factors_of_llama_3_are_those_of_transformers():
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=2, max_position_embeddings=131072, rope_parameters=ROPE
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 10000.0 ** -(torch.arange(64) / 64)
    factors = llama3_factors(10000.0, 64, ROPE)
    np.testing.assert_allclose(plain / scaled, factors, rtol=1e-5)
    assert (factors[0], factors[-1]) == (1, 8)


def test_rotary_scaling_in_factors_is_kept(tmp_path):
    """llama.cpp writes what Llama 3 divides frequencies by as a tensor."""
    factors = llama3_factors(10000.0, 8, ROPE).astype(np.float32)
    model_info, _ = convert(tmp_path, head_dim=16, extra={"rope_freqs.weight": factors})
    model = AutoModelForCausalLM.from_pretrained(model_info["folder"])
    plain = 10000.0 ** -(np.arange(8) / 8)
    np.testing.assert_allclose(model.model.rotary_emb.inv_freq.numpy(), plain / factors, rtol=1e-5)
    assert factors.max() == 8


def test_factors_of_one_change_nothing(tmp_path):
    ones = np.ones(4, dtype=np.float32)
    model_info, _ = convert(tmp_path, extra={"rope_freqs.weight": ones})
    config = LlamaConfig.from_pretrained(model_info["folder"])
    assert config.rope_parameters["rope_type"] == "default"


def test_other_scaling_of_rotary_embedding_is_refused(tmp_path):
    odd = np.array([1, 2, 3, 4], dtype=np.float32)
    line = refused(tmp_path, extra={"rope_freqs.weight": odd})
    assert "(rope_freqs.weight) in a way that is not that of Llama 3; take the" in line
    line = refused(
        tmp_path, metadata={"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}
    )
    assert "scales its rotary embedding (yarn, factor 4), which transformers does not" in line
    line = refused(tmp_path, extra={"rope_factors_long.weight": odd})
    assert "for example rope_factors_long.weight" in line


def test_settings_that_transformers_does_not_read_are_refused(tmp_path):
    line = refused(tmp_path, metadata={"llama.attn_logit_softcapping": 50.0})
    assert "says attn_logit_softcapping 50, which transformers reads as None; take the" in line


@pytest.mark.parametrize("key", ["rope.scale_linear", "rope.scaling.factor"])
def test_linear_scaling_without_a_type_is_refused(tmp_path, key):
    """llama.cpp takes a factor without a type for that of linear scaling."""
    line = refused(tmp_path, metadata={f"llama.{key}": 4.0})
    assert "scales its rotary embedding (linear, factor 4), which transformers does not" in line


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("attention.scale", "0.353553"),
        ("embedding_scale", "1.0"),
        ("residual_scale", "1.0"),
        ("logit_scale", "1.0"),
        ("rope.scaling.attn_factor", "1.0"),
        ("attention.clamp_kqv", "None"),
    ],
)
def test_factors_that_transformers_does_not_read_are_refused(tmp_path, key, known):
    line = refused(tmp_path, metadata={f"llama.{key}": 0.25})
    assert f"says {key} 0.25, which transformers reads as {known}" in line


def test_factors_that_change_nothing_are_taken(tmp_path):
    said = {"attention.scale": 8**-0.5, "embedding_scale": 1.0, "residual_scale": 1.0}
    said |= {"logit_scale": 0.0, "rope.scale_linear": 1.0, "rope.scaling.attn_factor": 1.0}
    model_info, _ = convert(tmp_path, metadata={f"llama.{key}": said[key] for key in said})
    config = LlamaConfig.from_pretrained(model_info["folder"])
    assert config.rope_parameters["rope_type"] == "default"


def test_the_sizes_of_a_file_stand_in_its_header(tmp_path):
    path = tmp_path / "own.gguf"
    said = gguf_model.write(path)
    header = check_gguf_header(path, "model mine")
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["tokenizer.ggml.tokens"] == 384
    assert len(header.tensors) == len(said)
    assert header.tensors["blk.0.ffn_up.weight"] == (64, 32)
    assert header.tensors["token_embd.weight"] == (384, 32)
    assert sizes_of(header) == {
        "layers": 3,
        "heads": 4,
        "hidden_size": 32,
        "key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 64,
        "experts": None,
        "vocabulary": 384,
        "tied": False,
        "dtype": "float32",
        "parameters": 52448,
    }


def test_a_file_that_was_not_converted_has_its_own_sizes(tmp_path):
    path = tmp_path / "own.gguf"
    gguf_model.write(path)
    size = find_model_size("mine", {**LOCAL, "path": str(path)}, tmp_path)
    found = (size.parameters, size.layers, size.hidden_size, size.head_dim, size.vocabulary)
    assert found == (52448, 3, 32, 8, 384)
    assert (size.dtype, size.source) == ("float32", "gguf")
    assert size.origin == f"the header of {path}"
    within = {**LOCAL, "path": str(tmp_path), "file": "own.gguf"}
    assert find_model_size("mine", within, tmp_path) == size
    model_info = prepare_model("mine", {**LOCAL, "path": str(path)}, tmp_path / "cache")
    assert size.parameters == model_info["parameters"]
    path.write_bytes(path.read_bytes()[:300])
    damaged = find_model_size("mine", {**LOCAL, "path": str(path)}, tmp_path)
    assert (damaged.origin, damaged.layers) == (ASSUMED, 40)


def test_the_header_of_the_default_model(default_gguf):
    sizes = sizes_of(check_gguf_header(default_gguf, "default"))
    assert sizes["parameters"] == 134515008
    assert (sizes["layers"], sizes["heads"], sizes["head_dim"]) == (30, 9, 64)
    assert (sizes["vocabulary"], sizes["tied"]) == (49152, True)


@pytest.fixture
def default_gguf():
    from llm_figures.core.environment import cache_folder

    found = sorted((cache_folder() / "gguf").glob("*SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not found:
        pytest.skip("the default model is not in the cache")
    return found[0]


@pytest.mark.parametrize("length", [3, 10, 30, 100, 400, 3000])
def test_a_header_that_is_cut_short_is_one_clear_line(tmp_path, length):
    path = tmp_path / "own.gguf"
    gguf_model.write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"own\.gguf is (damaged: .*download|not a GGUF)") as caught:
        check_gguf_header(path, "model mine")
    assert "\n" not in str(caught.value)


def test_a_header_of_garbage_takes_no_memory(tmp_path):
    path = tmp_path / "own.gguf"
    gguf_model.write(path)
    data = bytearray(path.read_bytes())
    data[24:32] = b"\xff" * 8  # the length of the first key
    path.write_bytes(data)
    with pytest.raises(UserError, match="own.gguf is damaged: .* string in its header"):
        check_gguf_header(path, "model mine")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / "own.gguf"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="own.gguf is a Git LFS pointer, .* git lfs pull"):
        prepare_model("mine", {**LOCAL, "path": str(path)}, tmp_path / "cache")


def test_planning_reads_a_header_without_torch(tmp_path, root):
    path = tmp_path / "own.gguf"
    gguf_model.write(path)
    code = (
        "import sys; from llm_figures.workflow.model_size import find_model_size;"
        f"size = find_model_size('mine', {{'source': 'path', 'path': {str(path)!r}}});"
        "print(size.parameters, *sorted({'torch', 'transformers', 'gguf'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root / "scripts")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "52448\n"
