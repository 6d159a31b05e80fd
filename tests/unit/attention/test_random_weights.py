"""The same model with random weights, whose maps claims are held against."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import families
import tiny
from llm_figures.attention import random_weights
from llm_figures.attention.capture import tokenize_texts
from llm_figures.attention.proof import prove_attention
from llm_figures.attention.qk_store import read_random_weights
from llm_figures.attention.random_weights import (
    REFERENCES,
    extract_random_weights,
    randomize_weights,
)
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_table, write_tensors
from llm_figures.models.decoders import decoder, decoder_layers

TEXTS = tokenize_texts(tiny.tokenizer(), tiny.TEXTS[1:3])
FAMILIES = ("llama", "gpt2", "gemma2", "qwen3", "neox", "gpt_oss", "mixtral", "olmo2")


def weights_of(module):
    return {name: part.detach().clone() for name, part in module.named_parameters()}


def is_loaded(model):
    """Mark its weights as transformers does where it reads them from files."""
    for part in (*model.parameters(), *model.modules()):
        part._is_hf_initialized = True
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_maps_are_those_of_the_model_with_the_same_random_weights(family, tmp_path):
    """The model's own attention, after weights drawn with the same seed."""
    model = is_loaded(tiny.model(family))
    proof = prove_attention(model)
    path = tmp_path / "states.parquet"
    write_tensors(path, extract_random_weights(model, tiny.tokenizer(), TEXTS, proof, seed=5))
    found = read_random_weights(path)
    layers = len(decoder_layers(model))
    assert len(found) == -(-REFERENCES // layers) * layers
    assert {len(states) for states in found} == {len(TEXTS)}
    other = is_loaded(tiny.model(family))
    other.set_attn_implementation("eager")
    for draw in range(2):
        randomize_weights(other, layers, TEXTS, seed=5 + draw)
        for index, ids in enumerate(TEXTS):
            with torch.inference_mode():
                returned = decoder(other)(
                    input_ids=torch.tensor([ids]), use_cache=False, output_attentions=True
                ).attentions
            for layer, expected in enumerate(returned):
                states = found[draw * layers + layer][index]
                assert (states.layer, states.input) == (layer, index + 1)
                ours = states.compute_weights()
                np.testing.assert_allclose(
                    ours, expected[0].numpy()[..., : ours.shape[-1]], atol=1e-5
                )


def test_weights_are_those_of_a_new_model_and_later_blocks_stay():
    model = is_loaded(tiny.model("llama"))
    before = weights_of(model)
    state = torch.random.get_rng_state()
    randomize_weights(model, 2, TEXTS, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    used = sorted({token for ids in TEXTS for token in ids})
    for name, part in weights_of(model).items():
        if "layers.2" in name or "lm_head" in name:
            assert torch.equal(part, before[name]), name
        elif "norm" in name:
            assert (part == 1).all(), name
        elif "embed" in name:
            changed = (part != before[name]).any(dim=1)
            assert changed.nonzero().ravel().tolist() == used
            assert part[used].std() == pytest.approx(model.config.initializer_range, rel=0.1)
        else:
            assert not torch.equal(part, before[name]), name
            assert part.std() == pytest.approx(model.config.initializer_range, rel=0.1)
    first = weights_of(model)
    randomize_weights(model, 2, TEXTS, seed=0)
    assert all(torch.equal(part, first[name]) for name, part in weights_of(model).items())
    randomize_weights(model, 2, TEXTS, seed=1)
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, first[
        "model.layers.0.mlp.up_proj.weight"])  # fmt: skip


def test_the_layers_with_attention_of_a_hybrid_model_are_captured(tmp_path):
    model = families.tiny_model("qwen3_next")
    proof = prove_attention(model)
    assert len(proof.attention_layers) < len(decoder_layers(model))
    path = tmp_path / "states.parquet"
    write_tensors(path, extract_random_weights(model, tiny.tokenizer(), TEXTS, proof))
    found = read_random_weights(path)
    assert {states[0].layer for states in found} == set(proof.attention_layers)
    assert len(found) >= REFERENCES


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"LONGEST": 3}, "a text has "),
        ({"MOST_WEIGHTS": 10, "MOST_OF_MODEL": 0}, "one layer has too many weights"),
    ],
)
def test_what_is_too_large_has_a_file_without_rows_and_a_reason(
    changes, reason, tmp_path, monkeypatch, caplog
):
    for name, value in changes.items():
        monkeypatch.setattr(random_weights, name, value)
    model = tiny.model("llama")
    path = tmp_path / "states.parquet"
    caplog.set_level("INFO")
    batches = extract_random_weights(model, tiny.tokenizer(), TEXTS, prove_attention(model))
    write_tensors(path, batches)
    assert len(read_table(path)) == 0
    assert read_random_weights(path) == []
    assert f"not held against a model with random weights: {reason}" in caplog.text


def test_of_a_large_model_only_the_first_layers_are_drawn(monkeypatch):
    model = tiny.model("llama")
    sizes = [sum(part.numel() for part in block.parameters()) for block in decoder_layers(model)]
    monkeypatch.setattr(random_weights, "MOST_OF_MODEL", 0)
    monkeypatch.setattr(random_weights, "MOST_WEIGHTS", sum(sizes[:2]))
    assert random_weights._choose_layers(model, (0, 1, 2), 10) == (0, 1)


def test_quantised_weights_are_left_alone():
    whole = torch.nn.Module()
    whole.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2, dtype=torch.float64)])
    model = SimpleNamespace(get_decoder=lambda: whole)
    with pytest.raises(UserError, match="quantised"):
        random_weights._choose_layers(model, (0,), 10)
