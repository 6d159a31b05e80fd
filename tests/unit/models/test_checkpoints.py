"""Matrices read from files are those of the live model, and what cannot be read is named."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.checkpoints import Checkpoint, check_same_architecture
from llm_figures.models.loading import decoder_layers
from llm_figures.models.projection_layouts import GATE, PROJECTIONS, UP, K, Q, V

# Settings that a family's class needs beside or instead of the sizes of all.
OWN_SETTINGS = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3},
    "gpt2": {"n_inner": 48},
    "gpt_neox": {},
    "gpt_oss": {"num_local_experts": 3, "num_experts_per_tok": 1},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    | {"mlp_only_layers": [1]},
    "olmoe": {"num_experts": 3, "num_experts_per_tok": 2},
    "glm": {"head_dim": 12},
    "glm4": {"head_dim": 12},
}
# Each kind of layout; test_projection_families.py has the others.
ROWS = [
    *("llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo", "olmo2", "olmo3", "gemma", "gemma2"),
    *("gemma3_text", "cohere", "cohere2", "stablelm", "granite", "mixtral", "qwen3_moe", "olmoe"),
    *("gpt_oss", "phi3", "glm", "glm4", "phi", "opt", "starcoder2", "gpt_neox", "gpt2"),
]
WITHOUT_GROUPS = ("opt", "gpt2", "gpt_neox")


def family_model(family, seed=0, **changes):
    """A tiny random model of a row of the table."""
    settings = {**tiny.SIZES, **OWN_SETTINGS.get(family, {}), **changes}
    if family not in WITHOUT_GROUPS:
        settings = {"num_key_value_heads": 2, **settings}
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).eval()


def saved(folder, family="llama", **changes):
    model = family_model(family, **changes)
    model.save_pretrained(folder)
    return model


def expected(model, block, column):
    """The matrices of a column, cut from the live model by hand, by family."""
    kind, config = model.config.model_type, model.config
    attention = getattr(block, "self_attn", None)
    if column in (Q, K, V) and kind == "gpt2":
        return [block.attn.c_attn.weight.T.chunk(3)[(Q, K, V).index(column)]]
    if column in (Q, K, V) and kind == "gpt_neox":
        weight = block.attention.query_key_value.weight
        heads = weight.view(config.num_attention_heads, 3, -1, weight.shape[1])
        return [heads[:, (Q, K, V).index(column)].reshape(-1, weight.shape[1])]
    if column in (Q, K, V) and kind == "phi3":
        size = config.hidden_size // config.num_attention_heads
        few = config.num_key_value_heads * size
        return [
            attention.qkv_proj.weight.split([config.hidden_size, few, few])[(Q, K, V).index(column)]
        ]
    if column in (UP, GATE) and hasattr(getattr(block, "mlp", None), "gate_up_proj"):
        return [block.mlp.gate_up_proj.weight.chunk(2)[0 if column == GATE else 1]]
    experts = getattr(getattr(block, "mlp", None), "experts", None)
    if column in ("mlp. up", "mlp. down", "mlp. gate") and experts is not None:
        if kind == "gpt_oss":
            if column == "mlp. down":
                return [matrix.T for matrix in experts.down_proj]
            start = 0 if column == GATE else 1
            return [matrix[:, start::2].T for matrix in experts.gate_up_proj]
        if column == "mlp. down":
            return list(experts.down_proj)
        return [matrix.chunk(2)[0 if column == GATE else 1] for matrix in experts.gate_up_proj]
    path = paths(kind)[PROJECTIONS.index(column)]
    weight = block.get_submodule(path).weight
    return [weight.T if kind == "gpt2" else weight]


def paths(kind):
    """Modules of the columns that are not fused, in the order of the figure."""
    separate = [f"self_attn.{name}_proj" for name in "qkvo"]
    fused = [None] * 3
    return {
        "opt": [*separate[:3], "self_attn.out_proj", "fc1", "fc2"],
        "phi": [*separate[:3], "self_attn.dense", "mlp.fc1", "mlp.fc2"],
        "starcoder2": [*separate, "mlp.c_fc", "mlp.c_proj"],
        "gpt_neox": [*fused, "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
        "gpt2": [*fused, "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    }.get(kind, [*separate, "mlp.up_proj", "mlp.down_proj", "mlp.gate_proj"])


@pytest.mark.parametrize("family", ROWS)
def test_matrices_of_every_family_are_those_of_the_live_model(tmp_path, family):
    model = saved(tmp_path, family)
    point = Checkpoint(tmp_path, "model tiny")
    blocks = decoder_layers(model)
    assert point.layers == len(blocks)
    for layer, block in enumerate(blocks):
        columns = point.projections(layer)
        assert len(columns) == (
            6 if family in ("opt", "phi", "gpt2", "gpt_neox", "starcoder2") else 7
        )
        for column in columns:
            found = list(point.matrices(layer, column))
            wanted = expected(model, block, column)
            assert len(found) == len(wanted) == point.experts(layer, column)
            for mine, its in zip(found, wanted, strict=True):
                assert mine.shape == point.shape(layer, column)
                assert torch.equal(mine, its)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shards_are_read_in_their_own_dtype(tmp_path, dtype):
    model = family_model("phi3").to(dtype)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    point = Checkpoint(tmp_path, "model tiny")
    for layer, block in enumerate(decoder_layers(model)):
        (found,) = point.matrices(layer, UP)
        assert found.dtype == dtype
        assert torch.equal(found, block.mlp.gate_up_proj.weight.chunk(2)[1])


def renamed(folder, start, more=()):
    """The checkpoint of the folder, what stands before its blocks' tensors replaced by `start`."""
    file = folder / "model.safetensors"
    tensors = {
        name.replace("model.layers.", start): tensor for name, tensor in load_file(file).items()
    }
    save_file(tensors | dict(more), file)


@pytest.mark.parametrize(
    "start", ["layers.", "h.", "model.decoder.layers.", "language_model.model.layers."]
)
def test_blocks_are_found_whatever_stands_before_them(tmp_path, start):
    model = saved(tmp_path)
    tower = {
        f"vision_tower.encoder.layers.{n}.self_attn.q_proj.weight": torch.ones(2, 2)
        for n in range(4)
    }
    renamed(tmp_path, start, tower)
    (found,) = Checkpoint(tmp_path, "model tiny").matrices(2, Q)
    assert torch.equal(found, model.model.layers[2].self_attn.q_proj.weight)


def test_layers_beyond_the_configs_are_no_part_of_the_model(tmp_path):
    saved(tmp_path)
    renamed(tmp_path, "model.layers.", {"model.layers.3.eh_proj.weight": torch.ones(2, 2)})
    assert Checkpoint(tmp_path, "model tiny").layers == 3


def test_experts_in_one_tensor_are_read_as_single_ones_are(tmp_path):
    """Checkpoints of one family keep experts in either way."""
    model = saved(tmp_path / "single", "mixtral")
    single = Checkpoint(tmp_path / "single", "model single")
    together = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    (tmp_path / "together").mkdir()
    save_file(together, tmp_path / "together" / "model.safetensors")
    (tmp_path / "together" / "config.json").write_text(
        (tmp_path / "single" / "config.json").read_text()
    )
    point = Checkpoint(tmp_path / "together", "model together")
    names = set(load_file(tmp_path / "single" / "model.safetensors"))
    assert any(".experts.0.w1." in name for name in names)
    assert any(name.endswith("experts.gate_up_proj") for name in together)
    check_same_architecture(single, point)
    for column in point.projections(0):
        pairs = zip(single.matrices(0, column), point.matrices(0, column), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


def packed(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.qweight"] = torch.ones(2, 2, dtype=torch.int32)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file)


def bytes_for_weights(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones(48, 16, dtype=torch.uint8)
    save_file(tensors, file)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (folder / "config.json").write_text(json.dumps(config))


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def no_safetensors(folder):
    (folder / "model.safetensors").write_bytes(b"x" * 100)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def a_layer_less(folder):
    file = folder / "model.safetensors"
    tensors = {name: t for name, t in load_file(file).items() if "layers.1." not in name}
    save_file(tensors, file)


def a_shard_less(folder):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}})
    )


def named_in_vain(folder):
    names = dict.fromkeys(load_file(folder / "model.safetensors"), "model.safetensors")
    names["model.layers.7.nothing"] = "model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (packed, "model.layers.1.mlp.up_proj.qweight (I32) holds packed weights; "),
        (bytes_for_weights, "up_proj.weight (U8) holds packed weights (bitsandbytes); "),
        (cut_short, "model.safetensors is damaged (Error while deserializing header: incomplete"),
        (
            no_safetensors,
            "model.safetensors is damaged (Error while deserializing header: header too",
        ),
        (pickled, "no .safetensors weights in"),
        (a_layer_less, "3 layers, but no tensor begins with model.layers.1"),
        (a_shard_less, "model-00001-of-00002.safetensors is missing"),
        (named_in_vain, "for example model.layers.7.nothing"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, spoil, said):
    saved(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError) as raised:
        Checkpoint(tmp_path, "model tiny")
    assert said in str(raised.value)
    assert str(raised.value).startswith("model tiny: ")
    assert "\n" not in str(raised.value)


def test_packed_experts_are_refused(tmp_path):
    saved(tmp_path, "gpt_oss")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for name in [name for name in tensors if name.endswith("gate_up_proj")]:
        tensors[f"{name}_blocks"] = torch.ones(3, 2, 2, 16, dtype=torch.uint8)
        del tensors[name]
    save_file(tensors, file)
    with pytest.raises(UserError, match="gate_up_proj_blocks .U8. holds packed weights"):
        Checkpoint(tmp_path, "model tiny")


def test_a_lacking_expert_is_named(tmp_path):
    saved(tmp_path, "mixtral")
    file = tmp_path / "model.safetensors"
    gone = "model.layers.2.block_sparse_moe.experts.1.w2.weight"
    save_file({name: t for name, t in load_file(file).items() if name != gone}, file)
    with pytest.raises(UserError, match=gone):
        list(Checkpoint(tmp_path, "model tiny").matrices(2, "mlp. down"))


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("mistral", {}, "model_type: llama and mistral"),
        ("llama", {"num_hidden_layers": 2}, "layers: 3 and 2"),
        ("llama", {"num_key_value_heads": 4}, "heads: {'query': 4, 'key_value': 2, 'size': 8}"),
        ("llama", {"intermediate_size": 40}, "'mlp. up' of layer 0: 48 × 32 and 40 × 32"),
    ],
)
def test_the_first_difference_of_two_architectures_is_named(tmp_path, family, changes, said):
    saved(tmp_path / "one")
    saved(tmp_path / "other", family, **changes)
    one, other = (Checkpoint(tmp_path / n, f"model {n}") for n in ("one", "other"))
    check_same_architecture(one, one)
    with pytest.raises(UserError) as raised:
        check_same_architecture(one, other)
    assert f"model one and model other differ in {said}" in str(raised.value)


def test_only_what_is_asked_for_is_read(tmp_path):
    """Damage elsewhere in a file goes unseen: nothing but the matrix's own bytes is read."""
    model = saved(tmp_path, "phi3")
    point = Checkpoint(tmp_path, "model tiny")
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    first = 8 + int.from_bytes(whole[:8], "little")  # behind the header
    known = json.loads(whole[8:first])["model.layers.1.self_attn.qkv_proj.weight"]
    start = first + known["data_offsets"][0] + 32 * 32 * 4  # after query's rows
    end = start + 16 * 32 * 4
    parts = whole[:first], b"\0" * (start - first), whole[start:end], b"\0" * (len(whole) - end)
    file.write_bytes(b"".join(parts))
    (found,) = point.matrices(1, K)
    assert torch.equal(found, model.model.layers[1].self_attn.qkv_proj.weight[32:48])


MEMORY = """
import resource, sys
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.modules.options import Update
from llm_figures.modules.weight_metrics import compute_update_metrics

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def pairs(*place):
    return zip(*(point.matrices(*place) for point in points), strict=True)

ALL = ["relative_update", "update_density", "update_effective_rank", "subspace_rotation"]
points = [Checkpoint(folder, folder) for folder in sys.argv[1:]]
compute_update_metrics(pairs(0, "attn. q"), ALL, Update())  # libraries make their buffers
before = peak()
for layer in range(points[0].layers):
    for name in points[0].projections(layer):
        compute_update_metrics(pairs(layer, name), ["relative_update", "update_density"], Update())
print(peak() - before)
"""


def test_two_checkpoints_are_compared_in_the_memory_of_a_few_matrices(tmp_path, root):
    """Of 100 MB each, in shards; the largest matrix has 0.5 MB."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 40}
    for seed, name in enumerate(("one", "other")):
        model = tiny.model("llama", seed, **{**sizes, "head_dim": 64})
        model.save_pretrained(tmp_path / name, max_shard_size="40MB")
    shards = list((tmp_path / "one").glob("*.safetensors"))
    assert len(shards) == 3
    assert sum(shard.stat().st_size for shard in shards) > 90e6
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "one", tmp_path / "other"],
        env={**os.environ, "PYTHONPATH": str(root / "scripts"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 20  # MB
