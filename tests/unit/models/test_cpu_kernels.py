"""What is computed in another way on the CPU is what torch and transformers compute."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm_figures.models import cpu_kernels as processors
from llm_figures.models.cpu_kernels import OneDnnLinear, grouped_attention, prepare_for_cpu

CONFIG = LlamaConfig(
    vocab_size=50,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
)


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG).eval()


@pytest.fixture
def prepared(plain):
    model = copy.deepcopy(plain)
    prepare_for_cpu(model)
    return model


def linears(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_logits_are_those_of_plain_transformers(plain, prepared):
    assert {type(module) for module in linears(prepared)} == {OneDnnLinear}
    ids = torch.arange(14).reshape(2, 7)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    with torch.inference_mode():
        found = prepared(ids, attention_mask=mask).logits
        expected = plain(ids, attention_mask=mask).logits
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], rtol=1e-5, atol=1e-6)


def test_gradients_are_torchs_own(plain, prepared):
    ids = torch.arange(8)[None]
    for model in (plain, prepared):
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
    for (name, one), (_, other) in zip(
        plain.named_parameters(), prepared.named_parameters(), strict=True
    ):
        torch.testing.assert_close(other.grad, one.grad, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_numbers_are_left_to_torch(dtype):
    layer, ours = nn.Linear(6, 4, dtype=dtype), OneDnnLinear(6, 4, dtype=dtype)
    ours.load_state_dict(layer.state_dict())
    states = torch.randn(3, 6, dtype=dtype)
    with torch.inference_mode():
        assert torch.equal(ours(states), layer(states))


def test_a_changed_weight_is_seen():
    layer = OneDnnLinear(6, 4)
    with torch.inference_mode():
        states = torch.randn(3, 6)
        before = layer(states)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        torch.testing.assert_close(layer(states), 2 * before)


def test_without_onednn_the_layers_stay_torchs(plain, monkeypatch):
    monkeypatch.setattr(processors.torch.backends.mkl, "is_available", lambda: False)
    model = copy.deepcopy(plain)
    prepare_for_cpu(model)
    assert {type(module) for module in linears(model)} == {nn.Linear}


@pytest.mark.parametrize(("features", "outputs"), [(576, 192), (576, 1536), (1536, 576)])
def test_bits_depend_on_neither_threads_nor_company(features, outputs, threads):
    torch.manual_seed(0)
    layer, states = OneDnnLinear(features, outputs), torch.randn(64, features)
    with torch.inference_mode():
        threads(1)
        expected = layer(states)
        for count in (2, 3, 4):
            threads(count)
            assert torch.equal(layer(states), expected), count
        for rows in (4, 8, 20, 60):
            assert torch.equal(layer(states[:rows]), expected[:rows]), rows


class Attention(nn.Module):
    num_key_value_groups = 3
    is_causal = True


@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_grouped_attention_is_transformers_to_the_bit(tokens, masked, scaling):
    torch.manual_seed(0)
    keys = tokens + 8 if masked else tokens
    query = torch.randn(2, tokens, 6, 16).transpose(1, 2)
    key, value = torch.randn(2, 2, 2, keys, 16)
    mask = None
    if masked:
        mask = torch.ones(2, 1, tokens, keys, dtype=torch.bool).tril(8)
        mask[1, :, :, 3:6] = False
    given = (Attention(), query, key, value, mask)
    found, _ = grouped_attention(*given, scaling=scaling)
    expected, _ = sdpa_attention_forward(*given, scaling=scaling)
    assert found.shape == (2, tokens, 6, 16)
    assert torch.equal(found, expected)
