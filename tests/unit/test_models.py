import json
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from llm_figures.errors import UserError
from llm_figures.models import load_model, runtime_facts
from llm_figures.sources import prepare


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tmp_path / "model")


def load(folder):
    entry = {"path": str(folder), "source": "path"}
    card = prepare("mine", {**entry, "trust_remote_code": False, "safetensors_only": True})
    (folder.parent / "model.json").write_text(json.dumps(card))
    return load_model(folder.parent / "model.json", threads=1)


def test_a_prepared_model_loads_as_it_was_saved(folder):
    model, tokenizer = load(folder)
    expected = tiny.model().state_dict()
    assert all((expected[name] == weight).all() for name, weight in model.state_dict().items())
    assert tokenizer("the lamp")["input_ids"] == tiny.tokenizer()("the lamp")["input_ids"]
    assert not model.training


def test_missing_weights_are_named_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    gone = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensor\(s\) missing .* model.layers.1.mlp.up_proj"):
        load(folder)
    weights["model.layers.1.mlp.up_proj.weight"] = gone[:-1]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"do not fit .* of another shape.*up_proj"):
        load(folder)


def test_damaged_weights_are_one_clear_line(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="does not load") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_gone_or_not_shared_says_what_to_do(folder):
    load(folder)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(UserError, match="is gone, .* --forcerun prepare_model") as caught:
        load_model(folder.parent / "model.json")
    assert "XDG_CACHE_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_facts_of_a_loaded_model_are_its_own(folder):
    model, _ = load(folder)
    assert runtime_facts(model) == {
        "device": "cpu",
        "device_names": ["cpu"],
        "dtype": "float32",
        "attention": "sdpa",
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "tokenizers": version("tokenizers"),
        "cuda": None,
    }
    model.set_attn_implementation("eager")
    model.lm_head.to(torch.bfloat16)
    assert runtime_facts(model)["attention"] == "eager"
    assert runtime_facts(model)["dtype"] == "bfloat16+float32"
