"""Where each family keeps its projections, tried with tiny models of the real classes."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import families
from llm_figures.core.errors import UserError
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.models.decoders import decoder_layers
from llm_figures.models.projection_families import FAMILIES, find_places, layout_of
from llm_figures.models.projection_layouts import (
    ATTENTION,
    COLUMNS,
    DOWN,
    GATE,
    KV_DOWN,
    KV_UP,
    MLP,
    PROJECTIONS,
    Q_DOWN,
    Q_UP,
    SHARED,
    SHARED_DOWN,
    SHARED_GATE,
    SHARED_UP,
    UP,
    K,
    O,
    Q,
    V,
)
from llm_figures.models.projections import find_projections, watch_projections

IDS = [list(range(5, 17)), list(range(40, 28, -1))]
NO_GATE = (*ATTENTION, UP, DOWN)
LATENT = (Q_DOWN, Q_UP, KV_DOWN, KV_UP, O)
SHARED_TOO = (*PROJECTIONS, *SHARED)
SHARING = (Q, O, *MLP)

# {family or (family, changes): the columns of each layer}
EXPECTED = {
    "glm4_moe": [PROJECTIONS, SHARED_TOO],
    "ernie4_5_moe": [PROJECTIONS, SHARED_TOO],
    "minimax_m2": [PROJECTIONS] * 2,
    "phimoe": [PROJECTIONS] * 2,
    "granitemoe": [PROJECTIONS] * 2,
    "granitemoeshared": [SHARED_TOO] * 2,
    "hy_v3": [PROJECTIONS, SHARED_TOO],
    "laguna": [PROJECTIONS, *[SHARED_TOO] * 3],
    "hunyuan_v1_moe": [SHARED_TOO] * 2,
    "aria_text": [SHARED_TOO] * 2,
    "cohere2_moe": [SHARED_TOO] * 2,
    "mimo_v2_flash": [PROJECTIONS] * 3,
    "minimax_m3_vl_text": [PROJECTIONS, *[SHARED_TOO] * 2],
    "qwen2_moe": [SHARED_TOO] * 2,
    "llama4_text": [SHARED_TOO] * 2,
    "gemma3n_text": [PROJECTIONS] * 2 + [SHARING] * 2,
    "gemma4_text": [PROJECTIONS] * 2 + [SHARING] * 2,
    "gemma4_experts": [SHARED_TOO] * 2 + [(*SHARING, *SHARED)] * 2,
    "gemma4_one_map": [PROJECTIONS, tuple(n for n in PROJECTIONS if n != V)] + [SHARING] * 2,
    "deepseek_v2": [(*LATENT, *MLP, *SHARED)] * 2,
    "deepseek_v2_plain_query": [(Q, KV_DOWN, KV_UP, O, *MLP, *SHARED)] * 2,
    "deepseek_v3": [(*LATENT, *MLP), (*LATENT, *MLP, *SHARED)],
    "glm4_moe_lite": [(*LATENT, *MLP), (*LATENT, *MLP, *SHARED)],
    "minicpm3": [(*LATENT, *MLP)] * 2,
    "hy_v4": [(*LATENT, *MLP)] + [(*LATENT, *MLP, *SHARED)] * 2,
    "kimi_linear": [MLP, (*MLP, *SHARED), (Q, KV_DOWN, KV_UP, O, *MLP, *SHARED)],
    "bailing_hybrid": [MLP, (*MLP, *SHARED), (Q, KV_DOWN, KV_UP, O, *MLP, *SHARED)],
    "qwen3_5_text": [MLP, PROJECTIONS],
    "qwen3_5_moe_text": [(*MLP, *SHARED), SHARED_TOO],
    "qwen3_next": [(*MLP, *SHARED), SHARED_TOO],
    "olmo_hybrid": [MLP, PROJECTIONS],
    "minimax": [PROJECTIONS, MLP],
    "jamba": [MLP, PROJECTIONS, MLP, PROJECTIONS, MLP],
    "bamba": [MLP, PROJECTIONS] * 2,
    "granitemoehybrid": [(*MLP, *SHARED), SHARED_TOO] * 2,
    "falcon_h1": [PROJECTIONS] * 2,
    "nemotron_h": [(), (UP, DOWN, SHARED_UP, SHARED_DOWN), ATTENTION, (UP, DOWN)],
    "lfm2_moe": [MLP, PROJECTIONS] * 2,
    "lfm3": [MLP, PROJECTIONS, PROJECTIONS],
    "recurrent_gemma": [MLP, MLP, PROJECTIONS],
    "modernbert-decoder": [PROJECTIONS] * 2,
    "nanochat": [NO_GATE] * 2,
    "biogpt": [NO_GATE] * 2,
    "persimmon": [NO_GATE] * 2,
    "phi4_multimodal": [PROJECTIONS] * 2,
    "glm4": [PROJECTIONS] * 2,
}
VARIANTS = {
    "granitemoeshared": {"shared_intermediate_size": 24},
    "cohere2_moe": {"num_shared_experts": 1},
    "qwen2_moe": {"layer_types": ["full_attention"] * 2},
    "gemma4_experts": {
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 24,
    },
    "gemma4_one_map": {"attention_k_eq_v": True},
    "deepseek_v2_plain_query": {"q_lora_rank": None},
    "recurrent_gemma": {"num_hidden_layers": 3},
}
KINDS = {
    "gemma4_experts": "gemma4_text",
    "gemma4_one_map": "gemma4_text",
    "deepseek_v2_plain_query": "deepseek_v2",
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def build(family):
    kind = KINDS.get(family, family)
    if family not in VARIANTS:
        return families.tiny_model(kind)
    config = families.tiny_config(kind)
    changed = type(config)(**(config.to_dict() | VARIANTS[family]))
    torch.manual_seed(0)
    return families.perturb(AutoModelForCausalLM.from_config(changed).float().eval())


def seen_in(model):
    """{(layer, name, expert): application} of one pass, and its logits."""
    found = {}

    def watch(seen):  # a copy: Llama 4 adds to its shared expert's outputs in place
        own = replace(seen, outputs=seen.outputs.clone())
        found[seen.projection.layer, seen.projection.name, seen.expert] = own

    with watch_projections(model, watch):
        logits = model(torch.tensor(IDS)).logits
    return found, logits


def set_weight(projection, weight, expert=None):
    stored = projection._parameter(projection.place.weight)
    stored = stored if expert is None else stored[expert]
    (stored.T if projection.place.transposed else stored)[projection.rows] = weight


@pytest.mark.parametrize("family", EXPECTED)
def test_each_layer_has_its_columns_and_each_is_a_linear_map(family):
    model = build(family)
    columns = [[] for _ in decoder_layers(model)]
    for projection in find_projections(model):
        columns[projection.layer].append(projection.name)
    wanted = [tuple(name for name in COLUMNS if name in layer) for layer in EXPECTED[family]]
    assert [tuple(layer) for layer in columns] == wanted
    plain = model(torch.tensor(IDS)).logits
    found, logits = seen_in(model)
    torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)
    assert {key[:2] for key in found} == {
        (layer, name) for layer, names in enumerate(wanted) for name in names
    }
    for (_, _, expert), seen in found.items():
        weight = seen.projection.weight(expert)
        assert tuple(weight.shape) == seen.projection.shape
        torch.testing.assert_close(seen.linear, seen.inputs @ weight.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", EXPECTED)
def test_replaced_outputs_are_those_of_a_model_with_other_weights(family):
    model = build(family)
    ids = torch.tensor(IDS)
    plain = model(ids).logits
    for projection in find_projections(model):
        numbers = range(projection.experts) if projection.experts else [None]
        torch.manual_seed(2)
        other = {number: torch.randn(projection.shape) for number in numbers}
        own = {number: projection.weight(number).clone() for number in numbers}

        def exchange(seen, name=projection.name, other=other):
            if seen.projection.name != name:
                return None
            bias = seen.projection.bias(seen.expert)
            return seen.inputs @ other[seen.expert].T + (0 if bias is None else bias)

        with watch_projections(model, exchange, [projection.layer]):
            replaced = model(ids).logits
        for number in numbers:
            set_weight(projection, other[number], number)
        expected = model(ids).logits
        for number in numbers:
            set_weight(projection, own[number], number)
        where = f"{projection.name} of layer {projection.layer}"
        assert not torch.allclose(replaced, plain, atol=1e-3), where
        torch.testing.assert_close(replaced, expected, atol=1e-3, rtol=1e-3, msg=where)


@pytest.mark.parametrize("family", EXPECTED)
def test_a_checkpoint_has_the_same_matrices(family, tmp_path):
    model = build(family)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint(tmp_path, "model m")
    assert checkpoint.layers == len(EXPECTED[family])
    projections = find_projections(model)
    for layer in range(checkpoint.layers):
        mine = [one.name for one in projections if one.layer == layer]
        assert checkpoint.projections(layer) == mine
    for one in projections:
        at = (one.layer, one.name)
        assert checkpoint.shape(*at) == one.shape
        assert checkpoint.experts(*at) == (one.experts or 1)
        numbers = range(one.experts) if one.experts else [None]
        for number, matrix in zip(numbers, checkpoint.matrices(*at), strict=True):
            assert torch.equal(matrix, one.weight(number)), at


@pytest.mark.parametrize(
    "family",
    [
        *("glm4_moe", "ernie4_5_moe", "minimax_m2", "phimoe", "granitemoe", "granitemoeshared"),
        *("aria_text", "hunyuan_v1_moe", "deepseek_v3", "kimi_linear", "qwen3_5_moe_text"),
        *("jamba", "granitemoehybrid", "lfm2_moe", "phi4_multimodal"),
    ],
)
def test_gate_and_up_are_told_apart(family):
    """down's input is silu(gate) · up; the other way round it is another."""
    found, _ = seen_in(build(family))
    checked = 0
    for (layer, name, expert), seen in found.items():
        parts = {DOWN: (GATE, UP), SHARED_DOWN: (SHARED_GATE, SHARED_UP)}.get(name)
        if parts:
            gate, up = (found[layer, part, expert].outputs for part in parts)
            torch.testing.assert_close(seen.inputs, torch.nn.functional.silu(gate) * up)
            assert not torch.allclose(seen.inputs, torch.nn.functional.silu(up) * gate, atol=1e-3)
            checked += 1
    assert checked >= 2


@pytest.mark.parametrize("family", ["qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"])
def test_the_gate_of_the_output_is_no_part_of_the_query(family):
    """Without a query attention is uniform; the other rows of q_proj do not change it."""
    model = build(family)
    model.set_attn_implementation("eager")
    (query,) = (one for one in find_projections(model) if one.name == Q)
    seen = {}

    def keep(module, args, output):
        seen["weights"] = output[1]

    def attention():
        model(torch.tensor(IDS[:1]), use_cache=False)
        return seen["weights"][0]

    attention_module = decoder_layers(model)[query.layer].self_attn
    attention_module.register_forward_hook(keep)
    before, own = attention(), query.module.weight.clone()
    rest = torch.ones(len(own), dtype=torch.bool)
    rest[query.rows] = False
    assert int(rest.sum()) == query.shape[0] == len(own) // 2
    query.module.weight[rest] = 0
    torch.testing.assert_close(attention(), before)
    query.module.weight.copy_(own)
    query.module.weight[query.rows] = 0
    uniform = torch.ones(12, 12).tril() / torch.arange(1, 13)[:, None]
    torch.testing.assert_close(attention(), uniform.expand(before.shape))
    assert not torch.allclose(before, uniform.expand(before.shape), atol=0.1)


def test_keys_that_a_file_has_but_the_model_does_not_use_are_left_out():
    names = [f"self_attn.{name}_proj.weight" for name in "qkvo"]
    names += [f"mlp.{name}_proj.weight" for name in ("up", "down", "gate")]
    config = {"model_type": "gemma3n_text", "num_hidden_layers": 4, "num_kv_shared_layers": 1}
    assert list(find_places(config, 2, names)) == list(PROJECTIONS)
    assert list(find_places(config, 3, names)) == list(SHARING)
    for name in ("k_proj", "v_proj"):
        with pytest.raises(UserError, match=f"type gemma3n_text have no self_attn.{name} in"):
            find_places(config, 2, [one for one in names if name not in one])


def test_a_query_with_more_rows_than_known_is_refused(monkeypatch):
    model = families.tiny_model("llama")
    for block in decoder_layers(model):
        projection = block.self_attn.q_proj
        projection.weight = torch.nn.Parameter(torch.cat([projection.weight] * 2))
    find_projections(model)  # a known family, whose files are as known
    monkeypatch.setattr(type(model.config), "model_type", "unheard")
    with pytest.raises(UserError, match="q_proj of layer 0 has 128 outputs, o_proj 64 inputs"):
        find_projections(model)


def test_layers_that_share_a_module_are_refused():
    model = families.tiny_model("llama")
    blocks = decoder_layers(model)
    blocks[1].mlp = blocks[0].mlp
    with pytest.raises(UserError, match="layers 0 and 1 of models of type llama share mlp.up_proj"):
        find_projections(model)


def test_experts_that_are_not_as_known_are_refused():
    model = families.tiny_model("glm4_moe")
    decoder_layers(model)[1].mlp.experts.is_concatenated = False
    refused = "Glm4MoeExperts are not as known: is_concatenated is False"
    with pytest.raises(UserError, match=refused), watch_projections(model, lambda seen: None):
        pass


def test_every_absence_has_a_reason():
    for kind, layout in FAMILIES.items():
        for column in {name for one in (*layout.attentions, *layout.mlps) for name in one}:
            assert layout.explain_absence(column).startswith(("the layer", "each layer")), kind
    assert "linear attention" in layout_of("qwen3_5_text").explain_absence(Q)
    assert "an earlier one" in layout_of("gemma3n_text").explain_absence(K)
    assert layout_of("unheard").explain_absence(Q) == "the layer has none"
