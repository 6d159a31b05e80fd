import copy

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, GPTJConfig, GPTJForCausalLM
from transformers.masking_utils import sdpa_mask

import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.projection_families import FAMILIES, find_places
from llm_figures.models.projection_layouts import (
    COLUMNS,
    DOWN,
    GATE,
    PROJECTIONS,
    Q_DOWN,
    SHARED,
    UP,
    Heads,
    K,
    O,
    Place,
    Q,
    V,
    output_rows,
)
from llm_figures.models.projections import find_projections, watch_projections

IDS = [list(range(5, 17)), list(range(40, 28, -1))]
DENSE = [
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "phi3", "phi", "opt",
    "neox", "gpt2", "cohere", "smollm3",
]  # fmt: skip
EXPERTS = ["mixtral", "qwen3_moe", "gpt_oss"]
UNGATED = ["phi", "opt", "neox", "gpt2"]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def seen_in(model, ids=IDS):
    """{(layer, name, expert): application} of one pass."""
    found = {}

    def watch(seen):
        found[seen.projection.layer, seen.projection.name, seen.expert] = seen

    with watch_projections(model, watch):
        model(torch.tensor(ids))
    return found


def randomised_biases(model):
    torch.manual_seed(1)
    for name, weights in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weights)
    return model


@pytest.mark.parametrize("family", [*DENSE, *EXPERTS])
def test_every_family_has_its_columns_and_each_is_a_linear_map(family):
    model = randomised_biases(tiny.model(family))
    found = seen_in(model)
    expected = [name for name in PROJECTIONS if not (family in UNGATED and name == GATE)]
    by_layer = [projection.name for projection in find_projections(model) if projection.layer == 2]
    assert by_layer == expected
    assert {(layer, name) for layer, name, _ in found} == {
        (layer, name) for layer in range(3) for name in expected
    }
    for (_, _, expert), seen in found.items():
        weight, bias = seen.projection.weight(expert), seen.projection.bias(expert)
        assert tuple(weight.shape) == seen.projection.shape
        linear = seen.inputs @ weight.T
        torch.testing.assert_close(seen.linear, linear, atol=1e-4, rtol=1e-4)
        given = linear if bias is None else linear + bias
        torch.testing.assert_close(seen.outputs, given, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "neox", "phi3", "llama", "qwen2", "opt"])
def test_query_key_and_value_are_what_attention_gets(family):
    """At position 0 a rotation turns nothing, so that the slices can be compared as they are."""
    changes = {} if family in ("gpt2", "neox", "opt") else {"num_key_value_heads": 2}
    model = randomised_biases(tiny.model(family, **changes))
    got = {}

    def noting(module, query, key, value, mask, scaling=None, **_):
        got[module.layer_idx] = (query, key, value)
        repeated = [
            states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)
            for states in (key, value)
        ]
        output = torch.nn.functional.scaled_dot_product_attention(
            query, *repeated, is_causal=True, scale=scaling
        )
        return output.transpose(1, 2), None

    AttentionInterface.register("noting", noting)
    AttentionMaskInterface.register("noting", sdpa_mask)
    model.set_attn_implementation("noting")
    found = seen_in(model, IDS[:1])
    for layer, states in got.items():
        for name, tensor in zip((Q, K, V), states, strict=True):
            outputs = found[layer, name, None].outputs  # [tokens, heads * head_dim]
            at = slice(None) if name == V else slice(0, 1)
            here = tensor[0].transpose(0, 1).flatten(1)
            if family == "opt" and name == Q:  # scaled before attention
                outputs = outputs * model.model.decoder.layers[0].self_attn.scaling
            torch.testing.assert_close(here[at], outputs[at], atol=1e-5, rtol=1e-5)
    assert got.keys() == {0, 1, 2}


@pytest.mark.parametrize("family", ["llama", "phi3", "mixtral", "qwen3_moe"])
def test_gate_and_up_are_told_apart(family):
    """down's input is silu(gate) · up; the other way round it is another."""
    found = seen_in(tiny.model(family))
    checked = 0
    for (layer, name, expert), seen in found.items():
        if name == DOWN:
            gate, up = (found[layer, part, expert].outputs for part in (GATE, UP))
            torch.testing.assert_close(seen.inputs, torch.nn.functional.silu(gate) * up)
            assert not torch.allclose(seen.inputs, torch.nn.functional.silu(up) * gate, atol=1e-3)
            checked += 1
    assert checked >= 3


def test_gate_and_up_of_gpt_oss_alternate():
    model = randomised_biases(tiny.model("gpt_oss", num_local_experts=4, num_experts_per_tok=2))
    experts = model.model.layers[1].mlp.experts
    found = seen_in(model)
    for expert in range(4):
        if (1, DOWN, expert) in found:
            gate = found[1, GATE, expert].outputs.clamp(max=experts.limit)
            up = found[1, UP, expert].outputs.clamp(-experts.limit, experts.limit)
            expected = (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
            torch.testing.assert_close(found[1, DOWN, expert].inputs, expected)
            break
    else:
        raise AssertionError("no expert was used")


@pytest.mark.parametrize("family", [*DENSE, *EXPERTS])
def test_watching_changes_nothing_and_is_undone(family):
    model = tiny.model(family)
    ids = torch.tensor(IDS)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    plain = model(ids).logits
    with watch_projections(model, lambda seen: None):
        seen = model(ids).logits
    with pytest.raises(KeyError), watch_projections(model, lambda seen: {}[0]):
        model(ids)
    after = model(ids).logits
    if family in EXPERTS:  # one by one instead of all at once
        torch.testing.assert_close(seen, plain, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(seen, plain)
    assert torch.equal(after, plain)
    assert all(torch.equal(before[name], weights) for name, weights in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", DENSE)
def test_replaced_outputs_are_those_of_a_model_with_other_weights(family):
    """A projection whose outputs are replaced by a constant is one without weights but a bias."""
    model = randomised_biases(tiny.model(family))
    ids = torch.tensor(IDS)
    for projection in find_projections(model, [1]):
        torch.manual_seed(2)
        constant = torch.randn(projection.shape[0])
        other = copy.deepcopy(model)
        (same,) = [p for p in find_projections(other, [1]) if p.name == projection.name]
        with torch.no_grad():
            same.weight()[...] = 0  # for indices of rows a copy, see below
            if isinstance(same.rows, np.ndarray):
                same.module.weight[same.rows] = 0
            if same.module.bias is None:
                same.module.bias = torch.nn.Parameter(torch.zeros(len(same.module.weight)))
            same.module.bias[same.rows] = constant

        def replace(seen, name=projection.name, constant=constant):
            if seen.projection.name == name:
                return constant.expand(len(seen.outputs), -1)

        with torch.inference_mode():
            expected = other(ids).logits
            with watch_projections(model, replace, [1]):
                found = model(ids).logits
            assert not torch.allclose(found, model(ids).logits, atol=1e-2)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("name", [UP, DOWN, GATE])
def test_replaced_outputs_of_experts_agree_with_a_loop_over_tokens(family, name):
    more = {"num_local_experts": 4, "num_experts_per_tok": 2} if family == "gpt_oss" else {}
    model = randomised_biases(tiny.model(family, **more))
    experts = model.model.layers[1].mlp.experts
    given = {}
    handle = experts.register_forward_hook(
        lambda module, args, output: given.update(args=args, output=output)
    )

    def constant(expert, d_out):
        return torch.linspace(-1, 1, d_out) * (expert + 1)

    def replace(seen):
        if seen.projection.name == name:
            return constant(seen.expert, seen.outputs.shape[1]).expand(len(seen.outputs), -1)

    with watch_projections(model, replace, [1]):
        model(torch.tensor(IDS))
    handle.remove()
    states, index, shares = given["args"]
    parts = {p.name: p for p in find_projections(model, [1])}
    expected = torch.zeros_like(states)
    for token in range(len(states)):
        for slot in range(index.shape[1]):
            expert = int(index[token, slot])

            def applied(part, x, expert=expert):
                if part == name:
                    return constant(expert, parts[part].shape[0])
                bias = parts[part].bias(expert)
                out = parts[part].weight(expert) @ x
                return out if bias is None else out + bias

            gate, up = applied(GATE, states[token]), applied(UP, states[token])
            if family == "gpt_oss":
                gate, up = gate.clamp(max=experts.limit), up.clamp(-experts.limit, experts.limit)
                inner = (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
            else:
                inner = torch.nn.functional.silu(gate) * up
            expected[token] += shares[token, slot] * applied(DOWN, inner)
    torch.testing.assert_close(given["output"], expected.detach(), atol=1e-4, rtol=1e-4)


def test_every_row_of_the_table_names_its_columns():
    for layout in FAMILIES.values():
        for option in layout.attentions:
            assert O in option
            assert Q in option or Q_DOWN in option
        for option in layout.mlps:
            assert set(option) - set(SHARED) in ({UP, DOWN}, {UP, DOWN, GATE}, set())
        for option in (*layout.attentions, *layout.mlps):
            assert set(option) <= set(COLUMNS)
            for name, place in option.items():
                assert (place.part is None) == (place.fused is None)
                assert place.part in (None, name)


def test_rows_of_fused_maps():
    heads = Heads(query=4, key_value=2, size=3)
    q, k, v = (output_rows(Place("qkv", part, "stacked"), 24, heads) for part in (Q, K, V))
    assert (q, k, v) == (slice(0, 12), slice(12, 18), slice(18, 24))
    heads = Heads(query=2, key_value=1, size=2)
    assert output_rows(Place("x", Q, "gated"), 8, heads).tolist() == [0, 1, 4, 5]
    with pytest.raises(UserError, match="x has 4 outputs, its config says 2 query heads of 2, eac"):
        output_rows(Place("x", Q, "gated"), 4, heads)
    heads = Heads(query=2, key_value=2, size=2)
    rows = {
        part: output_rows(Place("x", part, "by_head"), 12, heads).tolist() for part in (Q, K, V)
    }
    assert rows == {Q: [0, 1, 6, 7], K: [2, 3, 8, 9], V: [4, 5, 10, 11]}
    outputs = np.arange(6)
    assert outputs[output_rows(Place("x", GATE, "alternating"), 6, heads)].tolist() == [0, 2, 4]
    assert outputs[output_rows(Place("x", UP, "alternating"), 6, heads)].tolist() == [1, 3, 5]
    assert outputs[output_rows(Place("x", GATE, "stacked"), 6, heads)].tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="13 outputs, its config says 2 query and 2 key-value"):
        output_rows(Place("x", Q, "stacked"), 13, heads)


def test_what_is_not_known_is_refused_by_name():
    names = {"self_attn.qkv_proj.weight", "self_attn.o_proj.weight", "mlp.gate_up_proj.weight"}
    with pytest.raises(UserError, match=r"type other have no self_attn.q_proj or self_attn.k_proj"):
        find_places({"model_type": "other"}, 0, names)
    model = GPTJForCausalLM(GPTJConfig(vocab_size=64, n_embd=16, n_layer=2, n_head=2, rotary_dim=4))
    with pytest.raises(UserError, match="type gptj have no self_attn.q_proj"):
        find_projections(model)
