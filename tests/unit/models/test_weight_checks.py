"""A model loads with all its weights and no others, finite, or is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    Gemma3TextConfig,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
    LlamaModel,
)

import tiny
from llm_figures.attention.capture import capture_attention
from llm_figures.core.errors import UserError
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.models.loading import load_model
from llm_figures.models.options import Runtime
from llm_figures.models.sources import prepare_model
from llm_figures.models.weight_checks import is_finite
from llm_figures.modules.activity import measure_activity


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tmp_path / "model")


def load(folder, needs_head=True, **options):
    entry = {"path": str(folder), "source": "path"}
    model_info = prepare_model(
        "mine", {**entry, "trust_remote_code": False, "safetensors_only": True}
    )
    (folder.parent / "model.json").write_text(json.dumps(model_info))
    path = folder.parent / "model.json"
    return load_model(path, Runtime(**options), threads=1, needs_head=needs_head)


def refused(folder, **options):
    with pytest.raises(UserError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def change(folder, change, file="model.safetensors"):
    weights = load_file(folder / file)
    change(weights)
    save_file(weights, folder / file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.2.self_attn.q_norm.weight",
        "model.norm.bias",
        "lm_head.bias",
    ],
)
def test_a_tensor_without_a_place_is_refused_by_name(folder, name):
    change(folder, lambda weights: weights.update({name: torch.ones(8)}))
    line = refused(folder)
    assert "1 tensor(s) have no place in LlamaForCausalLM and would be ignored" in line
    assert f"for example {name}" in line


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.masked_bias",
        "model.layers.3.eh_proj.weight",
        "model.layers.0.self_attn.k_proj.k_scale",
        "vision_tower.encoder.layers.0.self_attn.q_proj.bias",
        "mtp.layers.0.self_attn.q_proj.weight",
        "score.weight",
        "v_head.summary.bias",
    ],
)
def test_what_does_not_belong_to_the_decoder_is_harmless(folder, name):
    change(folder, lambda weights: weights.update({name: torch.ones(8)}))
    model, _ = load(folder)
    expected = tiny.model().state_dict()
    assert all(torch.equal(expected[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("llama", "num_hidden_layers"),
        ("qwen3_moe", "num_hidden_layers"),
        ("gpt2", "n_layer"),
        ("neox", "num_hidden_layers"),
        ("gpt_oss", "num_hidden_layers"),
    ],
)
def test_layers_that_the_config_leaves_out_are_refused_by_name(tmp_path, family, key):
    folder = tiny.save(tmp_path / "model", family=family)
    config = json.loads((folder / "config.json").read_text())
    config[key] = 2
    if config.get("layer_types"):
        config["layer_types"] = config["layer_types"][:2]
    (folder / "config.json").write_text(json.dumps(config))
    line = refused(folder)
    assert "do not fit config.json: it says 2 layers, but they hold more, for example" in line
    assert ".2." in line
    assert line.endswith("correct the number of layers, or download the folder again")


def test_a_layer_of_another_kind_than_those_before_is_no_prediction(folder):
    """As the last one of a hybrid model whose config was cut short."""
    change(folder, lambda weights: weights.update({"model.layers.3.mamba.A_log": torch.ones(8)}))
    assert "for example model.layers.3.mamba.A_log, which would be ignored" in refused(folder)


@pytest.mark.parametrize("part", ["eh_proj.weight", "enorm.weight", "shared_head.norm.weight"])
def test_a_further_block_that_predicts_further_tokens_is_harmless(folder, part):
    def add(weights):
        block = {name: value for name, value in weights.items() if ".layers.2." in name}
        weights |= {name.replace(".2.", ".3."): value.clone() for name, value in block.items()}
        weights[f"model.layers.3.{part}"] = torch.ones(8)

    change(folder, add)
    model, _ = load(folder)
    expected = tiny.model().state_dict()
    assert all(torch.equal(expected[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["gpt2", "neox", "opt", "mixtral", "gpt_oss", "deepseek"])
def test_every_family_uses_all_of_its_own_checkpoint(tmp_path, family):
    folder = tiny.save(tmp_path / "model", family=family)
    model, _ = load(folder)
    expected = tiny.model(family).state_dict()
    assert all(torch.equal(expected[key], value) for key, value in model.state_dict().items())


def test_masks_of_old_checkpoints_are_harmless(tmp_path):
    folder = tiny.save(tmp_path / "gpt2", family="gpt2")
    mask = torch.ones(1, 1, 8, 8)
    change(folder, lambda weights: weights.update({"transformer.h.0.attn.bias": mask}))
    load(folder)
    folder = tiny.save(tmp_path / "neox", family="neox")
    change(folder, lambda weights: weights.update({"gpt_neox.layers.0.attention.bias": mask}))
    load(folder)


def test_a_checkpoint_of_the_bare_decoder_is_checked_as_well(tmp_path):
    """Its names lack the prefix."""
    folder = tiny.save(tmp_path / "model", family="gpt2")
    GPT2LMHeadModel.from_pretrained(folder).transformer.save_pretrained(folder)
    load(folder)  # tied
    change(folder, lambda weights: weights.update({"h.1.attn.c_other.bias": torch.ones(8)}))
    assert "for example h.1.attn.c_other.bias" in refused(folder)


@pytest.fixture(params=["LlamaForSequenceClassification", "LlamaModel"])
def headless(request, folder):
    """The tiny Llama as a reward model or a bare decoder, without output embeddings."""
    kind = {"LlamaModel": LlamaModel}.get(request.param, LlamaForSequenceClassification)
    model = kind(tiny.config(num_labels=1))
    decoder = getattr(model, "model", model)
    decoder.load_state_dict(tiny.model().model.state_dict())
    model.save_pretrained(folder)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    return folder


def test_attention_and_hidden_states_need_no_output_embeddings(headless, tmp_path):
    model, _ = load(headless, needs_head=False)
    # loaded in the same way, as fast kernels differ in the last bit on some processors
    whole, _ = load(tiny.save(tmp_path / "whole"))
    found = capture_attention(model, [5, 6, 7, 8], range(3))
    expected = capture_attention(whole, [5, 6, 7, 8], range(3))
    for layer in range(3):
        assert torch.equal(
            torch.as_tensor(found[layer].query), torch.as_tensor(expected[layer].query)
        )
    assert measure_activity(model, [[5, 6, 7]]).equals(measure_activity(whole, [[5, 6, 7]]))
    # and nothing can follow from what is not there
    with torch.inference_mode():
        assert model(torch.tensor([[5, 6]])).logits.isnan().all()
    assert Checkpoint(headless, "model mine").layers == 3


def test_answers_need_output_embeddings(headless):
    line = refused(headless)
    assert "have no output embeddings (lm_head.weight), as those of a reward model" in line
    assert "attention figures and hidden states work without" in line


def test_only_the_output_embeddings_may_be_missing(headless):
    prefix = "model." if "score.weight" in load_file(headless / "model.safetensors") else ""
    change(headless, lambda weights: weights.pop(f"{prefix}layers.1.mlp.up_proj.weight"))
    line = refused(headless, needs_head=False)
    assert "2 tensor(s) missing or of another shape, for example lm_head.weight" in line


def test_tied_output_embeddings_are_not_missed(tmp_path):
    config = tiny.config(num_labels=1, tie_word_embeddings=True)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    model, _ = load(tmp_path / "model")
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_that_are_not_finite_are_refused_by_name(folder, value, dtype):
    name = "model.layers.1.mlp.down_proj.weight"
    change(folder, lambda weights: weights[name][3].__setitem__(2, value))
    line = refused(folder, dtype=dtype)
    assert f"hold NaN or infinite numbers, for example in {name}; download them again" in line


def test_a_weight_that_overflows_is_told_from_one_that_is_infinite(tmp_path):
    folder = tmp_path / "model"
    model = tiny.model().to(torch.bfloat16)
    model.model.layers[2].self_attn.k_proj.weight.data[0, 0] = 1e6
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    line = refused(folder, dtype="float16")
    assert "do not fit in float16: model.layers.2.self_attn.k_proj.weight overflows" in line
    assert line.endswith("set dtype: float32, or bfloat16")
    for dtype in ("float32", "bfloat16"):
        model, _ = load(folder, dtype=dtype)
        found = model.model.layers[2].self_attn.k_proj.weight[0, 0].item()
        assert found == pytest.approx(1e6, rel=1e-2)


def test_what_is_finite():
    assert is_finite(torch.tensor([1e38, -1e38]))
    assert is_finite(torch.empty(0))
    assert is_finite(torch.tensor([1, 2]))
    assert is_finite(torch.tensor([448.0]).to(torch.float8_e4m3fn))
    assert not is_finite(torch.tensor([torch.nan]).to(torch.float8_e4m3fn))
    for kind in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for value in (torch.nan, torch.inf, -torch.inf):
            assert not is_finite(torch.tensor([1, value, 2], dtype=kind))


@pytest.mark.parametrize(
    ("family", "name", "layer", "projection"),
    [
        ("llama", "model.layers.1.mlp.down_proj.weight", 1, "mlp. down"),
        ("neox", "gpt_neox.layers.2.attention.query_key_value.weight", 2, "attn. q"),
        ("qwen3_moe", "model.layers.0.mlp.experts.1.up_proj.weight", 0, "mlp. up"),
    ],
)
def test_a_matrix_read_from_its_file_is_refused_with_layer_and_projection(
    tmp_path, family, name, layer, projection
):
    folder = tiny.save(tmp_path / "model", family=family)
    change(folder, lambda weights: weights[name][0].__setitem__(0, torch.nan))
    checkpoint = Checkpoint(folder, "model mine")
    with pytest.raises(UserError) as caught:
        list(checkpoint.matrices(layer, projection))
    line = str(caught.value)
    assert line.startswith(
        f"model mine: layer {layer}, {projection}, holds NaN or infinite numbers"
    )
    assert name in line
    assert list(checkpoint.matrices(layer, "attn. o"))


def test_a_token_id_without_an_embedding_is_refused_before_the_pass(folder):
    """The tokenizer is another model's; added tokens that no text holds do no harm."""
    tokenizer = tiny.tokenizer()
    added = 384 - len(tokenizer)
    tokenizer.add_tokens([f"<added-{n}>" for n in range(added + 1)])
    tokenizer.save_pretrained(folder)
    model, tokenizer = load(folder)
    with torch.inference_mode():
        model(torch.tensor([tokenizer("the lamp")["input_ids"]]))
        ids = tokenizer(f"the <added-{added}>")["input_ids"]
        assert max(ids) == 384
        with pytest.raises(UserError) as caught:
            model(torch.tensor([ids]))
    line = str(caught.value)
    assert f"token id 384 is beyond the 384 embeddings of the model in {folder}" in line
    assert "take the tokenizer that belongs to the weights" in line
    assert "\n" not in line


def test_scaled_embeddings_are_guarded_as_well(tmp_path):
    assert isinstance(tiny.config("gemma3"), Gemma3TextConfig)
    model, _ = load(tiny.save(tmp_path / "model", family="gemma3"))
    with pytest.raises(UserError, match="token id 999 is beyond the 384 embeddings"):
        model(torch.tensor([[5, 999]]))
