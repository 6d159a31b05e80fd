import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

import tiny
from llm_figures.attention.attention_hook import hook_attention
from llm_figures.attention.capture import build_state_rows, capture_attention
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.qk_store import read_layer_states
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_table, tensor_file

IDS = list(range(5, 17))
FAMILIES = ["llama", "mistral", "qwen3", "gemma2", "neox"]


def cached(model, tmp_path, interventions=None):
    """States of all layers, written to a file and read back."""
    captured = capture_attention(model, IDS, range(3), interventions)
    schema, rows = build_state_rows(tiny.tokenizer(), 1, IDS, captured, longest=len(IDS) + 3)
    with tensor_file(tmp_path / "states.parquet", schema) as file:
        file.write(rows)
    return [states for _, states in read_layer_states(read_table(tmp_path / "states.parquet"))]


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_states_give_the_weights_of_eager_attention(family, tmp_path):
    model = tiny.model(family)
    found = [states.compute_weights() for states in cached(model, tmp_path)]
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        expected = model(torch.tensor([IDS]), output_attentions=True).attentions
    assert len(expected) == 3
    for layer in range(3):
        np.testing.assert_allclose(found[layer], expected[layer][0].numpy(), atol=1e-5)
    # The comparison means something only if attention is not uniform.
    assert np.abs(found[1][:, -1] - 1 / len(IDS)).max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_capturing_changes_no_logit_and_leaves_the_model_as_it_was(family):
    model = tiny.model(family)
    ids = torch.tensor([IDS, IDS[::-1]])
    before, implementation = model.state_dict(), model.config._attn_implementation
    before = {name: weight.clone() for name, weight in before.items()}
    with torch.inference_mode():
        plain = model(ids).logits
        with hook_attention(model, capture=range(3)):
            hooked = model(ids).logits
        after = model(ids).logits
    assert torch.equal(plain, hooked)
    assert torch.equal(plain, after)
    assert model.config._attn_implementation == implementation
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_the_hook_is_removed_after_an_exception():
    model = tiny.model()
    implementation = model.config._attn_implementation
    with pytest.raises(KeyError), hook_attention(model, capture=[0]):
        raise KeyError
    assert model.config._attn_implementation == implementation
    with hook_attention(model, capture=[0]) as captured, torch.inference_mode():
        model(torch.tensor([IDS]))
    assert captured[0].query.shape == (1, 4, len(IDS), 12)
    assert captured[0].key.shape == (1, 2, len(IDS), 12)


@pytest.mark.parametrize("intervention", tiny.INTERVENTIONS, ids=str)
@pytest.mark.parametrize("layer", [0, 2])
def test_a_pass_with_an_intervention_in_one_layer_agrees_with_the_cached_states(
    intervention, layer, tmp_path
):
    model = tiny.model()
    from_cache = cached(model, tmp_path)[layer].intervene(intervention).compute_weights()
    in_the_pass = cached(model, tmp_path, {layer: intervention})[layer].compute_weights()
    np.testing.assert_allclose(from_cache, in_the_pass, atol=1e-5)


@pytest.mark.parametrize("intervention", tiny.INTERVENTIONS, ids=str)
def test_a_pass_with_interventions_agrees_with_a_hand_written_one(intervention):
    """Eager attention with the intervention written out gives the same logits."""
    model = tiny.model()
    with (
        hook_attention(model, interventions=dict.fromkeys(range(3), intervention)),
        torch.inference_mode(),
    ):
        hooked = model(torch.tensor([IDS])).logits

    def by_hand(module, query, key, value, mask, scaling, **_):
        parts = {"query": query, "key": key, "value": value}
        part = parts[intervention.component].clone()
        if intervention.operation == "scale":
            part *= intervention.epsilon
        else:
            for head in range(part.shape[1]):
                if intervention.over == "features":
                    for token in range(part.shape[2]):
                        part[0, head, token] = sum(part[0, head, token]) / part.shape[3]
                else:
                    for feature in range(part.shape[3]):
                        column = part[0, head, :, feature]
                        part[0, head, :, feature] = sum(column) / part.shape[2]
        parts[intervention.component] = part
        repeats = module.num_key_value_groups
        output = torch.zeros_like(query)
        for head in range(query.shape[1]):
            for i in range(query.shape[2]):
                scores = parts["key"][0, head // repeats, : i + 1] @ parts["query"][0, head, i]
                weights = torch.softmax(scores * scaling, dim=0)
                output[0, head, i] = weights @ parts["value"][0, head // repeats, : i + 1]
        return output.transpose(1, 2), None

    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register("by_hand", by_hand)
    AttentionMaskInterface.register("by_hand", eager_mask)
    model.set_attn_implementation("by_hand")
    with torch.inference_mode():
        expected = model(torch.tensor([IDS])).logits
    torch.testing.assert_close(hooked, expected, atol=2e-5, rtol=1e-5)
    if intervention.epsilon != 1e-3:
        with torch.inference_mode():
            model.set_attn_implementation("sdpa")
            assert not torch.allclose(hooked, model(torch.tensor([IDS])).logits, atol=1e-3)


def test_an_architecture_that_bypasses_the_interface_is_refused_by_name():
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2))
    with (
        pytest.raises(UserError, match="type bloom .* attention interface"),
        hook_attention(model, capture=[0]),
    ):
        model(torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize("queries", [5, 2])  # with 2 the mask is long, too
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3", "gpt_oss"])
def test_eager_attention_of_a_long_text_runs_in_blocks_of_queries(family, queries, monkeypatch):
    """The scores of all queries are never held together, and the states are the same."""
    model = tiny.model(family, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    whole = capture_attention(model, IDS, range(3))
    sizes = []
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(
        "llm_figures.attention.attention_hook.EAGER_BYTES", 4 * 4 * queries * len(IDS)
    )

    def observed(scores, *args, **options):
        if scores.ndim == 4:  # of attention, not of a router
            sizes.append(scores.shape[2])
        return softmax(scores, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "softmax", observed)
    blocks = capture_attention(model, IDS, range(3))
    of_layer = [min(queries, len(IDS) - row) for row in range(0, len(IDS), queries)]
    compared = [len(IDS)]  # the queries whose weights are compared with the model's own
    # the last layer is captured before its attention
    assert sizes == [*compared, *of_layer, *compared, *of_layer, *compared]
    for layer in range(3):
        for name in ("query", "key"):
            one, other = getattr(whole[layer], name), getattr(blocks[layer], name)
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_layers_can_be_received_one_by_one():
    model, received = tiny.model(), []
    with hook_attention(model, range(3), on_layer=lambda *pair: received.append(pair)) as captured:
        with torch.inference_mode():
            model(torch.tensor([IDS]))
        assert captured == {}
    expected = capture_attention(model, IDS, range(3))
    assert [layer for layer, _ in received] == [0, 1, 2]
    assert all(torch.equal(state.query, expected[layer].query) for layer, state in received)


@pytest.mark.parametrize("layers", [[0], [1], [0, 2], [1, 2]])
def test_a_pass_ends_where_the_last_layer_is_captured(layers):
    model, begun, ended = tiny.model(), [], []
    for index, block in enumerate(model.model.layers):
        block.register_forward_pre_hook(lambda *_, index=index: begun.append(index))
        block.register_forward_hook(lambda *_, index=index: ended.append(index))
    stopped = capture_attention(model, IDS, layers)
    assert begun == list(range(max(layers) + 1))
    assert ended == list(range(max(layers)))
    with hook_attention(model, capture=layers) as whole, torch.inference_mode():
        model(torch.tensor([IDS]))
    assert stopped.keys() == whole.keys() == set(layers)
    assert all(torch.equal(stopped[layer].key, whole[layer].key) for layer in layers)


def test_an_intervention_behind_the_last_captured_layer_is_not_required():
    model, intervention = tiny.model(), Intervention("query", "scale", epsilon=0.5)
    found = capture_attention(model, IDS, [1], dict.fromkeys(range(3), intervention))
    everywhere = capture_attention(model, IDS, range(3), dict.fromkeys(range(3), intervention))
    assert torch.equal(found[1].query, everywhere[1].query)
    with pytest.raises(UserError, match="in layer 7"):
        capture_attention(model, IDS, [7])
