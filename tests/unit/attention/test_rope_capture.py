import dataclasses
import sys

import numpy as np
import pytest
import torch

import families
import tiny
from llm_figures.attention.attention_hook import hook_attention
from llm_figures.attention.capture import build_state_rows, capture_attention
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import distance_to_uniform
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_states, read_layer_states
from llm_figures.attention.rope import Rotation
from llm_figures.attention.scores import compute_cells
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_table, tensor_file
from llm_figures.models.decoders import find_attentions

IDS = list(range(5, 17))
YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    }
}
FAMILIES = [
    ("llama", {}),
    ("llama", YARN),
    ("mistral", {}),
    ("qwen3", {}),
    ("gemma2", {}),
    ("gemma3", {}),
    ("gpt_oss", {}),
    ("neox", {"rotary_pct": 0.5}),
    ("phi", {}),
    ("cohere", {}),
]
CHANGES = [
    Intervention(component, operation, stage="before_rotary", **options)
    for component in ("query", "key")
    for operation, options in (
        ("mean", {"over": "features"}),
        ("mean", {"over": "tokens"}),
        ("scale", {"epsilon": 0.5}),
    )
]


def cached(model, tmp_path, interventions=None, ids=IDS):
    """States of all layers with their rotations, written to a file and read back."""
    captured = capture_attention(model, ids, range(3), interventions, rotation=True)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, ids, captured, longest=len(ids) + 3)
    with tensor_file(tmp_path / "states.parquet", schema) as file:
        file.write(rows)
    return [states for _, states in read_layer_states(read_table(tmp_path / "states.parquet"))]


def after(intervention):
    return dataclasses.replace(intervention, stage="after_rotary")


@pytest.mark.parametrize(("family", "changes"), FAMILIES, ids=str)
def test_an_intervention_before_rotary_on_cached_states_agrees_with_a_pass(
    family, changes, tmp_path
):
    model = tiny.model(family, **changes)
    clean = cached(model, tmp_path)
    for intervention in CHANGES:
        for layer in (0, 1):
            from_cache = clean[layer].intervene(intervention).compute_weights()
            in_the_pass = cached(model, tmp_path, {layer: intervention})[layer].compute_weights()
            np.testing.assert_allclose(from_cache, in_the_pass, atol=1e-5)
            other = clean[layer].intervene(after(intervention)).compute_weights()
            if intervention.operation == "scale":
                np.testing.assert_allclose(from_cache, other, atol=1e-6)
            else:
                assert np.abs(from_cache - other).max() > 0.01


@pytest.mark.parametrize("intervention", CHANGES, ids=str)
def test_a_pass_agrees_with_projections_changed_by_hand(intervention):
    """Llama has nothing between projection and rotary embedding."""
    model = tiny.model()
    with torch.inference_mode():
        plain = model(torch.tensor([IDS])).logits
        with hook_attention(model, interventions=dict.fromkeys(range(3), intervention)):
            hooked = model(torch.tensor([IDS])).logits

    def by_hand(_module, _inputs, output):
        heads = output.view(1, len(IDS), -1, 12)  # [batch, tokens, heads, head_dim]
        if intervention.operation == "scale":
            return output * intervention.epsilon
        axis = 3 if intervention.over == "features" else 1
        return heads.mean(axis, keepdim=True).expand_as(heads).reshape(output.shape)

    for layer in model.model.layers:
        getattr(layer.self_attn, f"{intervention.component[0]}_proj").register_forward_hook(by_hand)
    with torch.inference_mode():
        expected = model(torch.tensor([IDS])).logits
    torch.testing.assert_close(hooked, expected, atol=2e-5, rtol=1e-5)
    assert not torch.allclose(hooked, plain, atol=1e-3)


def test_the_cached_rotation_turns_llama_s_projections_into_queries_and_keys(tmp_path):
    model = tiny.model()
    projected = {}
    for name in ("q_proj", "k_proj"):
        getattr(model.model.layers[0].self_attn, name).register_forward_hook(
            lambda _module, _inputs, output, name=name: projected.update({name: output})
        )
    first = cached(model, tmp_path)[0]
    for name, states in (("q_proj", first.query), ("k_proj", first.key)):
        before = projected[name].view(len(IDS), -1, 12).transpose(0, 1).numpy()
        np.testing.assert_allclose(first.rotation.apply(before), states, atol=1e-5)
        np.testing.assert_allclose(first.rotation.undo(states), before, atol=1e-5)
        assert np.abs(before - states).max() > 0.1


@pytest.mark.parametrize(("family", "changes"), FAMILIES, ids=str)
def test_undo_inverts_apply(family, changes, tmp_path):
    for states in cached(tiny.model(family, **changes), tmp_path):
        rotation = states.rotation
        random = np.random.default_rng(0).normal(size=states.query.shape)
        np.testing.assert_allclose(rotation.undo(rotation.apply(random)), random, atol=1e-12)
        np.testing.assert_allclose(rotation.apply(rotation.undo(random)), random, atol=1e-12)
        assert rotation.cos.shape == (len(IDS), states.query.shape[-1])


def test_pairs_follow_the_model_s_layout(tmp_path):
    def first(family, **changes):
        return cached(tiny.model(family, **changes), tmp_path)[0].rotation

    assert first("llama").pair_index.tolist() == [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]
    assert first("cohere").pair_index.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    neox = first("neox", rotary_pct=0.5)
    assert neox.pair_index.tolist() == [2, 3, 0, 1, 4, 5, 6, 7]
    assert (neox.cos[:, 4:] == 1).all()
    assert (neox.sin[:, 4:] == 0).all()
    # Llama's first pair turns by one radian a position (Su et al. 2021, eq. 15).
    positions = np.arange(len(IDS))
    np.testing.assert_allclose(first("llama").cos[:, 0], np.cos(positions), atol=1e-6)
    np.testing.assert_allclose(first("llama").sin[:, 0], -np.sin(positions), atol=1e-6)
    scaled = first("llama", **YARN)
    np.testing.assert_allclose(scaled.cos[0], 0.1 * np.log(4) + 1, atol=1e-6)


def test_layers_of_two_frequencies_have_rotations_of_their_own(tmp_path):
    sliding, full, again = (states.rotation for states in cached(tiny.model("gemma3"), tmp_path))
    np.testing.assert_array_equal(sliding.cos, again.cos)
    assert np.abs(sliding.cos - full.cos).max() > 0.1


def test_a_rotation_found_in_blocks_is_the_same(monkeypatch, tmp_path):
    whole = cached(tiny.model(), tmp_path)[0].rotation
    monkeypatch.setattr("llm_figures.attention.rope_capture.BASIS_ENTRIES", 5 * len(IDS) * 12)
    blocks = cached(tiny.model(), tmp_path)[0].rotation
    for name in ("cos", "sin", "pair_index"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(blocks, name))


def test_a_model_in_bfloat16_has_a_rotation(tmp_path):
    states = cached(tiny.model().to(torch.bfloat16), tmp_path)[1]
    intervention = Intervention("key", "mean", over="tokens", stage="before_rotary")
    in_the_pass = cached(tiny.model().to(torch.bfloat16), tmp_path, {1: intervention})[1]
    np.testing.assert_allclose(states.intervene(intervention).key, in_the_pass.key, atol=0.05)
    assert np.abs(states.intervene(after(intervention)).key - in_the_pass.key).max() > 0.3


def test_the_mean_key_is_uniform_only_after_rotary(tmp_path):
    states = cached(tiny.model(), tmp_path)[1]
    intervention = Intervention("key", "mean", over="tokens", stage="before_rotary")
    assert distance_to_uniform(states.intervene(after(intervention)).compute_weights()).max() < 1e-6
    assert distance_to_uniform(states.intervene(intervention).compute_weights()).min() > 0.01


def test_the_stage_makes_no_difference_to_value():
    found = []
    for stage in ("after_rotary", "before_rotary"):
        intervention = Intervention("value", "mean", over="features", stage=stage)
        model = tiny.model("gpt2")
        with hook_attention(model, interventions={0: intervention}), torch.inference_mode():
            found.append(model(torch.tensor([IDS])).logits)
    assert torch.equal(*found)


def test_a_layer_whose_rotary_embedding_is_not_known_is_refused_in_one_line(tmp_path):
    model, layer = tiny.model("deepseek"), 0  # rotates a part of each head, and query and key apart
    clean = cached(model, tmp_path)
    assert clean[layer].rotation is None
    intervention = Intervention("key", "mean", over="features", stage="before_rotary")
    refused = (
        f"stage: before_rotary: the rotary embedding of layer {layer} is not of a form .* take"
    )
    with pytest.raises(UserError, match=refused):
        clean[layer].intervene(intervention)
    with pytest.raises(UserError, match=refused):
        capture_attention(model, IDS, [], {layer: intervention})
    options = AttentionScoring(
        components=["query", "value"], stage="before_rotary", layer=layer, head="mean"
    )
    with pytest.raises(UserError, match=rf"config: figures\.mean_qkv\.{refused}") as caught:
        compute_cells("mean_qkv", options, clean)
    assert "\n" not in str(caught.value)
    for harmless in ({"stage": "after_rotary"}, {"components": ["value"]}):
        harmless_options = options.changed(**harmless)
        cells = compute_cells("mean_qkv", harmless_options, clean)
        assert cells["stage"].unique() == [harmless_options.stage]


@pytest.mark.parametrize(
    ("family", "layer"),
    [("gpt2", 0), ("opt", 1), ("smollm3", 2), ("jamba", 1), ("nemotron_h", 1), ("glm5_next", 1)],
)
def test_without_rotary_embedding_both_stages_are_one(family, layer, tmp_path):
    known = ("gpt2", "opt", "smollm3")
    model = tiny.model(family) if family in known else families.tiny_model(family)
    layers = find_attentions(model)
    captured = capture_attention(model, IDS, layers, rotation=True)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, IDS, captured, longest=len(IDS))
    with tensor_file(tmp_path / "states.parquet", schema) as file:
        file.write(rows)
    stored = {row.layer: row for row in open_states(tmp_path / "states.parquet")}
    layer = layer if layer in stored else min(stored)
    assert all(row.rotated for row in stored.values()) or family == "smollm3"
    clean = stored[layer].load()
    for intervention in CHANGES:
        np.testing.assert_allclose(
            clean.intervene(intervention).compute_weights(),
            clean.intervene(after(intervention)).compute_weights(),
            atol=1e-6,
        )
        stages = [
            capture_attention(model, IDS, [layer], {layer: stage})[layer]
            for stage in (intervention, after(intervention))
        ]
        assert torch.equal(stages[0].query, stages[1].query)
        assert torch.equal(stages[0].key, stages[1].key)


def test_a_pass_with_interventions_before_rotary_reaches_layers_without_it(tmp_path):
    """SmolLM3's layer 2 has no rotary embedding, its other layers have."""
    model = tiny.model("smollm3")
    intervention = Intervention("key", "mean", over="tokens", stage="before_rotary")
    found = capture_attention(model, IDS, range(3), dict.fromkeys(range(3), intervention))
    key = found[2].key[0]
    torch.testing.assert_close(key, key.mean(dim=1, keepdim=True).expand_as(key))
    for layer in (0, 1):  # rotated after the mean
        assert (found[layer].key[0] - found[layer].key[0][:, :1]).abs().max() > 0.1
    options = AttentionScoring(
        over="tokens", components=["key"], stage="before_rotary", scope="model", layer=2, head=0
    )
    intervened = {(2, 1, intervention): found[2].to_states(1, 2)}
    cells = compute_cells("mean_qkv", options, cached(model, tmp_path), intervened)
    expected = found[2].to_states(1, 2).compute_weights()[0]
    np.testing.assert_allclose(cells["weight"], expected.ravel())


def test_a_call_whose_result_is_not_what_attention_receives_is_not_its_rotation(monkeypatch):
    """A function that overwrites its arguments, and one whose result is changed afterwards."""
    model = tiny.model()
    modeling = sys.modules[type(model).__module__]
    rotary = modeling.apply_rotary_pos_emb

    def in_place(query, key, cos, sin):
        rotated = rotary(query, key, cos, sin)
        return query.copy_(rotated[0]), key.copy_(rotated[1])

    monkeypatch.setattr(modeling, "apply_rotary_pos_emb", in_place)
    assert capture_attention(model, IDS, [0], rotation=True)[0].rotation is None
    monkeypatch.setattr(
        modeling,
        "apply_rotary_pos_emb",
        lambda query, key, cos, sin: rotary(query, key.exp(), cos, sin),  # not linear
    )
    assert capture_attention(model, IDS, [0], rotation=True)[0].rotation is None
    monkeypatch.setattr(modeling, "apply_rotary_pos_emb", rotary)
    attention = modeling.ALL_ATTENTION_FUNCTIONS.get_interface

    def normed(*args):
        return lambda module, query, *others, **options: attention(*args)(
            module, query / query.norm(dim=-1, keepdim=True), *others, **options
        )

    assert capture_attention(model, IDS, [0], rotation=True)[0].rotation is not None
    monkeypatch.setattr(modeling.ALL_ATTENTION_FUNCTIONS, "get_interface", normed)
    assert capture_attention(model, IDS, [0], rotation=True)[0].rotation is None


@pytest.mark.parametrize(("family", "changes"), FAMILIES, ids=str)
def test_the_model_is_afterwards_what_it_was(family, changes):
    model = tiny.model(family, **changes)
    ids = torch.tensor([IDS])
    modeling = sys.modules[type(model).__module__]
    names = {name: value for name, value in vars(modeling).items() if "rotary" in name}
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.inference_mode():
        plain = model(ids).logits
        with hook_attention(model, range(3), rotation=True):
            hooked = model(ids).logits
        with hook_attention(model, interventions=dict.fromkeys(range(3), CHANGES[1])):
            assert not torch.equal(model(ids).logits, plain)
        with pytest.raises(KeyError), hook_attention(model, range(3), rotation=True):
            assert modeling.apply_rotary_pos_emb is not names["apply_rotary_pos_emb"]
            raise KeyError
        again = model(ids).logits
    assert torch.equal(plain, hooked)
    assert torch.equal(plain, again)
    assert all(getattr(modeling, name) is value for name, value in names.items())
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())


def test_rotary_functions_are_wrapped_only_if_needed():
    model = tiny.model()
    modeling = sys.modules[type(model).__module__]
    own = modeling.apply_rotary_pos_emb
    with hook_attention(model, [0], {0: Intervention("key", "mean", over="tokens")}):
        assert modeling.apply_rotary_pos_emb is own
        with torch.inference_mode():
            model(torch.tensor([IDS]))


def test_undo_by_hand():
    quarter = Rotation(np.zeros((1, 2)), np.array([[-1.0, 1.0]]), np.array([1, 0]))
    np.testing.assert_array_equal(quarter.apply(np.array([[[3.0, 5.0]]])), [[[-5, 3]]])
    np.testing.assert_array_equal(quarter.undo(np.array([[[-5.0, 3.0]]])), [[[3, 5]]])
