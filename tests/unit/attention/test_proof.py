"""A model proves itself before a figure is drawn."""

import sys
from functools import wraps

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

import families
import tiny
from llm_figures.attention import attention_hook
from llm_figures.attention.capture import build_state_rows, capture_attention
from llm_figures.attention.eager_weights import choose_rows
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.proof import LONGEST, SHORTEST, choose_length, prove_attention
from llm_figures.attention.qk_store import open_states
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import tensor_file
from llm_figures.models.decoders import decoder, decoder_layers, find_attentions

IDS = np.random.default_rng(2).integers(5, 380, 40).tolist()
# What the states of their layers hold beside queries and keys.
KINDS = {
    "doge": "a mask of its own for every text",
    "inkling_text": "a position bias",
    "inkling2_text": "a position bias, and a sink of each query",
    "deepseek_v32": "keys that an indexer chose",
    "minimax_m3_vl_text": "blocks of keys",
    "llama4_text": "chunks",
    "gemma4_text": "heads of two sizes",
    "mimo_v2_flash": "two numbers of heads, and sinks that the kernel is not told",
    "granite_swa": "sinks after the softmax",
    "gpt_oss": "sinks in the softmax",
    "qwen3_next": "layers without attention",
    "jamba": "layers without attention, and no rotary embedding",
}


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return families.tiny_model(request.param)


def store(model, tmp_path, interventions=None):
    """The states of every attention layer, written to a file, by layer."""
    captured = capture_attention(model, IDS, find_attentions(model), interventions, rotation=True)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, IDS, captured, len(IDS) + 3)
    with tensor_file(tmp_path / "states.parquet", schema) as file:
        file.write(rows)
    return {row.layer: row for row in open_states(tmp_path / "states.parquet")}


def test_stored_states_give_the_weights_that_the_model_returns(model, tmp_path):
    stored = store(model, tmp_path)
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        returned = decoder(model)(
            input_ids=torch.tensor([IDS]), use_cache=False, output_attentions=True
        ).attentions
    model.set_attn_implementation(before)
    returned = [weights for weights in returned if weights is not None]
    assert len(returned) == len(stored)
    for row, expected in zip(stored.values(), returned, strict=True):
        states, expected = row.load(), expected[0].numpy()
        found = states.compute_weights()
        assert (row.heads, row.model_layers) == (len(expected), len(decoder_layers(model)))
        if states.sinks is None:
            np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
        else:  # shown after the sink took its share, whatever the model returns
            assert found.sum(axis=-1).min() < 0.99
            expected = expected / expected.sum(axis=-1, keepdims=True)
            found = found / found.sum(axis=-1, keepdims=True)
        # sdpa rounds otherwise than eager attention, and sharp attention shows it
        np.testing.assert_allclose(found, expected, atol=5e-5)
        assert np.abs(found[:, -1] - 1 / len(IDS)).max() > 0.05  # not uniform


def test_interventions_on_stored_states_are_those_of_a_pass(model, tmp_path):
    stored = store(model, tmp_path)
    layer = max(stored)
    for intervention in tiny.INTERVENTIONS:
        passed = capture_attention(model, IDS, [layer], {layer: intervention})[layer]
        np.testing.assert_allclose(
            stored[layer].load().intervene(intervention).compute_weights(),
            passed.to_states(1, layer).compute_weights(),
            atol=2e-5,
        )


def test_a_long_text_runs_in_blocks_with_the_same_states(model, monkeypatch):
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    layers = find_attentions(model)
    whole = capture_attention(model, IDS, layers)
    monkeypatch.setattr(attention_hook, "EAGER_BYTES", 4 * 4 * 7 * len(IDS))
    blocks = capture_attention(model, IDS, layers)
    model.set_attn_implementation(before)
    for layer in layers:
        torch.testing.assert_close(whole[layer].query, blocks[layer].query, atol=1e-5, rtol=1e-5)
        assert (whole[layer].bias is None) == (blocks[layer].bias is None)


def test_the_proof_names_what_it_compared(model):
    implementation = model.config._attn_implementation
    before = [tensor.clone() for tensor in model.parameters()]
    proof = prove_attention(model)
    assert proof.attention_layers == tuple(find_attentions(model))
    assert 0 < proof.deviation < 1e-5
    assert 0 < proof.output_deviation < 1e-4
    assert proof.to_facts()["largest_deviation"] == pytest.approx(proof.deviation, rel=0.1)
    assert model.config._attn_implementation == implementation
    after = model.parameters()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("family", ["doge", "llama4_text", "inkling_text", "deepseek_v32"])
def test_a_mask_that_is_not_kept_is_found_out(family, monkeypatch):
    model = families.tiny_model(family)
    monkeypatch.setattr(attention_hook, "capture_mask", lambda *_: (None, None))
    refused = (
        rf"^models of type {family}: attention weights of layer \d+ computed from .* by [01][.\d]*"
    )
    with pytest.raises(UserError, match=rf"{refused} \(at most 0.0001 is accepted\)"):
        prove_attention(model)
    with pytest.raises(UserError, match=refused):  # also without a proof before
        capture_attention(model, IDS, find_attentions(model))


@pytest.mark.parametrize("family", ["gpt_oss", "granite_swa", "inkling2_text"])
def test_sinks_that_are_not_kept_are_found_out(family, monkeypatch):
    model = families.tiny_model(family)
    monkeypatch.setattr(attention_hook, "capture_sinks", lambda *_: None)
    with pytest.raises(UserError, match=f"models of type {family}: attention .* of layer 0"):
        prove_attention(model)


def test_attention_that_changes_its_weights_in_an_unknown_way_is_refused(monkeypatch):
    model = tiny.model()
    modeling = sys.modules[type(model).__module__]
    eager = modeling.eager_attention_forward

    def sharpened(module, query, *others, **options):
        return eager(module, 2 * query, *others, **options)

    monkeypatch.setattr(modeling, "eager_attention_forward", sharpened)
    with pytest.raises(UserError, match="type llama: attention weights of layer 0"):
        prove_attention(model)


def test_a_kernel_that_differs_from_eager_attention_is_found_out(monkeypatch):
    """The pass runs another implementation than the one whose weights are compared."""
    from transformers import AttentionInterface

    model = tiny.model()
    assert model.config._attn_implementation == "sdpa"
    sdpa = AttentionInterface._global_mapping["sdpa"]

    def blurred(module, query, *others, **options):
        return sdpa(module, 0.5 * query, *others, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", blurred)
    with pytest.raises(UserError, match="type llama: attention outputs of layer 0"):
        capture_attention(model, IDS, range(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e3, 1e5, 1e6])
def test_large_scores_are_no_reason_to_refuse(size, dtype):
    """Biases of Qwen 2's queries and keys give scores whose rounding exceeds the bound."""
    config = Qwen2Config(
        vocab_size=384, hidden_size=256, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.05,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    slow = slice(60, 64)  # features that hardly rotate
    for block in decoder_layers(model):
        attention = block.self_attn
        with torch.no_grad():
            attention.q_proj.bias.zero_().unflatten(0, (2, 128))[:, slow] = (size / 4) ** 0.5
            attention.k_proj.bias.zero_()[slow] = (size / 4) ** 0.5
    proof = prove_attention(model.to(dtype))
    largest = size / 128**0.5
    assert proof.bound == pytest.approx(max(1e-4, largest * 2**-21), rel=0.5)
    assert proof.deviation <= proof.bound


def test_a_layer_that_calls_its_attention_again_with_the_same_states_is_captured_once(tmp_path):
    model = families.tiny_model("diffllama")
    layers = []
    capture_attention(
        model, IDS, [0, 1], rotation=True, on_layer=lambda layer, captured: layers.append(layer)
    )
    assert layers == [0, 1]
    stored = store(model, tmp_path)
    assert all(row.rotated for row in stored.values())
    before = Intervention("key", "mean", over="tokens", stage="before_rotary")
    passed = capture_attention(model, IDS, [1], dict.fromkeys([0, 1], before))
    assert passed[1].deviation < 1e-5


def test_a_layer_with_several_maps_is_refused(monkeypatch):
    model = tiny.model()
    attention = type(decoder_layers(model)[1].self_attn)
    forward = attention.forward

    @wraps(forward)
    def twice(self, hidden_states, *others, **options):
        first, weights = forward(self, hidden_states, *others, **options)
        second, _ = forward(self, 0.5 * hidden_states, *others, **options)
        return first - 0.5 * second, weights

    monkeypatch.setattr(attention, "forward", twice)
    with pytest.raises(UserError, match="layer 0 calls its attention several times in a pass"):
        prove_attention(model)
    monkeypatch.setattr(attention, "forward", forward)
    assert prove_attention(model).deviation < 1e-5
    blocks = decoder_layers(model)
    blocks.append(blocks[2])  # a loop: the block runs twice
    model.config.num_hidden_layers = 4
    with pytest.raises(UserError, match="layer 2 calls its attention several times in a pass"):
        prove_attention(model)


def test_the_text_is_longer_than_windows_and_blocks_within_bounds():
    assert choose_length({}, None) == SHORTEST
    assert choose_length({"sliding_window": 128}, None) == 208
    assert choose_length({"text_config": {"attention_chunk_size": 300}}, None) == 466
    assert choose_length({"sliding_window": 4096, "index_topk": 64}, None) == 112
    assert choose_length({"sliding_window": True, "window": None}, 40) == 40
    assert max(choose_length({"window": size}, None) for size in range(1000)) <= LONGEST


def test_the_first_and_the_last_query_are_compared():
    assert choose_rows(3) == [0, 1, 2]
    rows = choose_rows(5000)
    assert (rows[0], rows[-1], len(rows)) == (0, 4999, 24)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [(torch.float32, "check the weights"), (torch.bfloat16, "set dtype: float32")],
)
def test_states_that_are_not_finite_name_the_layer_and_the_cause(dtype, advice):
    model = tiny.model().to(dtype)
    with torch.no_grad():
        decoder_layers(model)[1].self_attn.k_proj.weight[3, 3] = torch.nan
    with pytest.raises(UserError, match=f"^queries or keys of layer 1 are not finite: .*{advice}$"):
        prove_attention(model)
