"""Quantised checkpoints load with one dtype, or are refused before their download."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from llm_figures.attention.capture import capture_attention
from llm_figures.core.errors import UserError
from llm_figures.models.loading import load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.models.quantization import (
    check_blocks,
    check_quantization,
    check_scales,
    check_stored_weights,
    find_method,
)
from llm_figures.models.sources import prepare_model
from llm_figures.modules.activity import measure_activity

LOCAL = {"source": "path", "trust_remote_code": False, "safetensors_only": True}
BLOCK = 16


def quantized(folder, family, config, pack, **changes):
    """A tiny model whose projections `pack` turns into {ending of the name: tensor}.

    Returns {name: weights after quantization}.
    """
    tiny.save(folder, family=family, **changes)
    stored, expected = {}, {}
    for name, weights in load_file(folder / "model.safetensors").items():
        packed = pack(name, weights)
        if packed is None:
            stored[name] = expected[name] = weights
        else:
            tensors, expected[name] = packed
            stored |= {f"{name}{ending}": tensor.contiguous() for ending, tensor in tensors.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    written = json.loads((folder / "config.json").read_text())
    written |= {"quantization_config": config, "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(written))
    return expected


def load(folder, **options):
    model_info = prepare_model("mine", {**LOCAL, "path": str(folder)})
    (folder.parent / "model.json").write_text(json.dumps(model_info))
    return load_model(folder.parent / "model.json", Runtime(**options), threads=1)[0]


def pack_fp8(scales):
    def pack(name, weights):
        if "proj" not in name:
            return None
        rows, columns = weights.shape
        blocks = weights.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = (blocks.abs().amax((1, 3)) / 448).to(scales)
        wide = scale.float()[:, None, :, None]
        values = (blocks / wide).to(torch.float8_e4m3fn)
        return (
            {"": values.reshape(rows, columns), "_scale_inv": scale},
            (values.float() * wide).reshape(rows, columns),
        )

    return pack


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}


@pytest.mark.parametrize("scales", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_fp8_is_dequantised_to_the_dtype_that_is_asked_for(tmp_path, dtype, scales):
    folder = tmp_path / "model"
    expected = quantized(folder, "llama", FP8, pack_fp8(scales), head_dim=8)
    model = load(folder, device="cpu", dtype=dtype)
    kind = "float32" if dtype == "auto" else dtype
    assert runtime_facts(model)["dtype"] == kind
    exact = kind == "float32" and scales == torch.float32
    for name, weights in model.state_dict().items():
        bound = 1e-6 if exact else 2**-8
        assert torch.allclose(weights.float(), expected[name], rtol=bound, atol=1e-6), name
    with torch.inference_mode():
        found = model(torch.arange(1, 9)[None]).logits.float()
        reference = tiny.model("llama", head_dim=8)
        reference.load_state_dict(expected)
        assert (found - reference(torch.arange(1, 9)[None]).logits).abs().max() < (
            1e-4 if exact else 0.5
        )


@pytest.mark.parametrize("method", ["fp8", "mxfp8"])
@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_float8_weight_without_its_scale_is_refused_by_name(tmp_path, all_of_them, method):
    folder = tmp_path / "model"
    config = {**FP8, "quant_method": method}
    quantized(folder, "llama", config, pack_fp8(torch.float32), head_dim=8)
    weights = load_file(folder / "model.safetensors")
    scales = sorted(name for name in weights if name.endswith("_scale_inv"))
    lost = scales if all_of_them else scales[3:4]
    for name in lost:
        del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        load(folder)
    name = lost[0].removesuffix("_scale_inv")
    assert f"{len(lost)} weight(s) quantised with {method} have no scale beside them" in str(
        caught.value
    )
    assert f"for example {name} (F8_E4M3); download the checkpoint again, or" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"),
        (torch.int8, "I8"),
        (torch.uint8, "U8"),
        (torch.int32, "I32"),
    ],
)
def test_packed_weights_that_no_config_explains_are_refused(tmp_path, dtype, stored):
    folder = tiny.save(tmp_path / "model")
    name = "model.layers.1.mlp.up_proj.weight"
    weights = load_file(folder / "model.safetensors")
    weights[name] = (weights[name] * 4).to(dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        load(folder)
    assert f"1 weight(s) are stored as {stored}, for example {name}, but config.json" in str(
        caught.value
    )


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_pickled_weights_are_checked_for_scales_as_well(tmp_path, dtype):
    folder = tiny.save(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    entry = {**LOCAL, "path": str(folder), "safetensors_only": False}
    torch.save(weights, folder / "pytorch_model.bin")
    (tmp_path / "model.json").write_text(json.dumps(prepare_model("mine", entry)))
    load_model(tmp_path / "model.json", Runtime(device="cpu"), threads=1)
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = (weights[name] * 4).to(dtype)
    torch.save(weights, folder / "pytorch_model.bin")
    (tmp_path / "model.json").write_text(json.dumps(prepare_model("mine", entry)))
    with pytest.raises(UserError, match=rf"1 weight\(s\) are stored as \w8, for example {name}"):
        load_model(tmp_path / "model.json", Runtime(device="cpu"), threads=1)


@pytest.mark.parametrize(
    ("stored", "method"),
    [
        ({"a.weight": "F8_E4M3", "a.weight_scale_inv": "F32"}, "fp8"),
        ({"a.weight": "F8_E4M3", "a.scale": "F8_E8M0"}, "fp8"),
        ({"a.wq.weight": "F8_E4M3", "a.wq.qscale_weight": "F32"}, "fp8"),
        ({"a.experts.0.w1.weight": "I8", "a.experts.0.w1.scale": "F8_E8M0"}, "fp8"),
        ({"experts.gate_up_proj": "F8_E4M3", "experts.gate_up_proj_scale_inv": "U8"}, "mxfp8"),
        ({"experts.w13_weight": "F8_E4M3", "experts.w13_weight_scale": "U8"}, "mxfp8"),
        ({"experts.down_proj_blocks": "U8", "experts.down_proj_scales": "U8"}, "mxfp4"),
        ({"q_proj.weight": "U8", "q_proj.weight_scale": "BF16"}, "bitnet"),
        ({"vision_tower.a.weight": "F8_E4M3"}, "fp8"),
        ({"h.0.attn.bias": "U8", "h.0.attn.causal_mask": "BOOL", "a.tid2eid": "I64"}, None),
        ({"a.qweight": "I32", "a.weight": "I8"}, "gptq"),
    ],
)
def test_scales_are_found_under_every_name(stored, method):
    check_scales(stored, {"quantization_config": method and {"quant_method": method}}, "mine")


@pytest.mark.parametrize("method", ["fp8", "mxfp8", "mxfp4", "bitnet"])
def test_a_scale_of_another_weight_is_none(method):
    stored = {"a.weight": "F8_E4M3", "b.weight_scale_inv": "F32", "a.bias_scale": "F32"}
    with pytest.raises(UserError, match=r"for example a\.weight \(F8_E4M3\)"):
        check_scales(stored, {"quantization_config": {"quant_method": method}}, "mine")


@pytest.mark.parametrize("empty", [{}, [], ""])
def test_an_empty_quantization_config_is_refused_before_the_download(empty):
    for config in (
        {"quantization_config": empty},
        {"text_config": {"quantization_config": empty}},
    ):
        with pytest.raises(
            UserError, match=r"^model mine: quantization_config .* is empty; remove"
        ):
            check_quantization(config, "model mine")


def pack_mxfp4(name, weights):
    """[experts, out, in] of GPT-OSS, stored transposed, in blocks of 32 numbers of four bits."""
    if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        return None
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    experts, inputs, outputs = weights.shape
    codes = torch.randint(0, 16, (experts, outputs, inputs // 32, 32), generator=GENERATOR)
    packed = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
    scales = torch.full(codes.shape[:3], 125, dtype=torch.uint8)  # 2 ** (125 - 127)
    dense = (values[codes] / 4).reshape(experts, outputs, inputs).transpose(1, 2)
    return {"_blocks": packed, "_scales": scales}, dense


GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mxfp4_is_dequantised_to_the_dtype_that_is_asked_for(tmp_path, dtype):
    folder = tmp_path / "model"
    sizes = {"hidden_size": 64, "intermediate_size": 64}
    config = {"quant_method": "mxfp4"}
    expected = quantized(folder, "gpt_oss", config, pack_mxfp4, **sizes)
    model = load(folder, device="cpu", dtype=dtype)
    assert runtime_facts(model)["dtype"] == dtype
    name = "model.layers.1.mlp.experts.gate_up_proj"
    assert torch.equal(model.state_dict()[name].float(), expected[name])
    with torch.inference_mode():
        assert model(torch.arange(1, 9)[None]).logits.isfinite().all()


def pack_ternary(name, weights):
    if "proj" not in name:
        return None
    scale = weights.abs().mean().bfloat16()
    values = (weights / scale).round().clamp(-1, 1)
    codes = (values + 1).to(torch.uint8).reshape(4, -1, weights.shape[1])
    packed = sum(codes[at] << (2 * at) for at in range(4))
    return {"": packed, "_scale": scale.reshape(1)}, values


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "more", [{}, {"linear_class": "autobitlinear", "quantization_mode": "offline"}]
)
def test_bitnet_computes_in_one_dtype(tmp_path, dtype, more):
    folder = tmp_path / "model"
    config = {"quant_method": "bitnet", **more}
    quantized(folder, "llama", config, pack_ternary, head_dim=8)
    model = load(folder, device="cpu", dtype=dtype)
    with torch.inference_mode():
        assert model(torch.arange(1, 9)[None]).logits.isfinite().all()


@pytest.mark.parametrize(
    ("config", "method", "lacking"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq", "optimum, gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "awq", "gptqmodel"),
        ({"load_in_4bit": True}, "bitsandbytes", "bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes", "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors", "compressed_tensors"),
        ({"quant_method": "torchao"}, "torchao", "torchao"),
        ({"quant_method": "quanto"}, "quanto", "optimum.quanto"),
    ],
)
def test_what_needs_packages_is_refused_by_name(config, method, lacking):
    with pytest.raises(UserError) as caught:
        check_quantization({"quantization_config": config}, "model mine")
    assert str(caught.value) == (
        f"model mine: its weights are quantised with {method}, which needs packages that are not "
        f"installed ({lacking}); use the unquantised checkpoint, or a GGUF file of it"
    )
    with pytest.raises(UserError, match=f"quantised with {method}"):
        inner = {"text_config": {"quantization_config": config}}
        check_quantization(inner, "model mine")


def test_what_is_installed_is_left_to_transformers(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", torch)
    check_quantization({"quantization_config": {"load_in_4bit": True}}, "model mine")


@pytest.mark.parametrize("config", [{"quant_method": "of-tomorrow"}, {"bits": 4}, ["gptq"], "gptq"])
def test_an_unknown_method_is_refused(config):
    with pytest.raises(UserError, match="which does not load here; use the unquantised"):
        check_quantization({"quantization_config": config}, "model mine")


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "mxfp8", "bitnet"])
def test_what_loads_is_taken(method):
    check_quantization({"quantization_config": {"quant_method": method}}, "model mine")


@pytest.mark.parametrize("written", [{}, {"quantization_config": None}, {"text_config": None}])
def test_weights_that_are_not_quantised_have_no_method(written):
    assert find_method(written) is None


def test_a_quantised_folder_is_refused_when_it_is_prepared(tmp_path):
    folder = tiny.save(tmp_path / "model")
    written = json.loads((folder / "config.json").read_text())
    written["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match=f"^model mine: path: {folder}: its weights .* gptq"):
        prepare_model("mine", {**LOCAL, "path": str(folder)})


def test_the_module_map_of_ternary_weights_is_refused(tmp_path):
    """Their scales stand beside them, so that a norm of the weights would be wrong."""
    folder = tmp_path / "model"
    config = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    config["quantization_mode"] = "offline"
    quantized(folder, "llama", config, pack_ternary, head_dim=8)
    model = load(folder, device="cpu")
    with pytest.raises(UserError) as caught:
        measure_activity(model, [[5, 6, 7]])
    assert str(caught.value) == (
        "module_map: layer 0, attn. q, is quantised (AutoBitLinear), which metrics of weights "
        "cannot read; use the unquantised checkpoint"
    )
    assert capture_attention(model, [5, 6, 7], range(3)).keys() == {0, 1, 2}


@pytest.mark.parametrize(
    ("shape", "scales", "whole"),
    [
        ((32, 48), (2, 3), True),
        ((12, 48), (1, 3), True),  # less than one block
        ((24, 48), (2, 3), False),
        ((32, 40), (2, 3), False),
        ((32, 48), (1, 1), False),  # one scale for several blocks
        ((32, 48), (2, 2), False),
    ],
)
def test_weights_that_are_no_whole_blocks_are_refused(shape, scales, whole):
    """transformers takes 24 rows with 2 scales for blocks of 12, whatever config.json says."""
    shapes = {"a.weight": shape, "a.weight_scale_inv": scales, "b.weight": (24, 40)}
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]}}
    if whole:
        check_blocks(shapes, config, "model mine")
    else:
        with pytest.raises(UserError, match="^model mine: a.weight is .* unpack wrongly; use the"):
            check_blocks(shapes, config, "model mine")
    check_blocks(shapes, {"quantization_config": {"quant_method": "fp8"}}, "model mine")
    check_blocks(shapes, {}, "model mine")


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_matrices_of_an_adapter_among_the_weights_are_refused(tmp_path, prefix):
    model = tiny.model()
    model.save_pretrained(tmp_path)
    name = f"{prefix}model.layers.1.self_attn.q_proj.lora_A.weight"
    tensors = {**model.state_dict(), name: torch.ones(2, 32)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"^model mine: 1 tensor.*for example {name}, which would"):
        check_stored_weights(tmp_path, "model mine")
