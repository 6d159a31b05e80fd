import pytest
import torch

import families
import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.projections import find_projections, watch_projections
from llm_figures.modules import ablation as module_ablation
from llm_figures.modules.ablation import measure_ablation
from llm_figures.modules.scores import score_ablation

TEXTS = [list(range(5, 17)), list(range(40, 32, -1))]
FAMILIES = [
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "phi3", "phi", "opt",
    "neox", "gpt2", "cohere", "smollm3", "mixtral", "qwen3_moe", "gpt_oss",
]  # fmt: skip


def slow_effects(model, layer, name):
    """One projection replaced in full passes, a text at a time, in the plainest way."""
    sums, counts = {}, {}

    def add(seen):
        if (seen.projection.layer, seen.projection.name) == (layer, name):
            for row in seen.outputs.double():
                sums[seen.expert] = sums.get(seen.expert, 0) + row
                counts[seen.expert] = counts.get(seen.expert, 0) + 1

    def replace(seen):
        if (seen.projection.layer, seen.projection.name) == (layer, name):
            mean = sums[seen.expert] / counts[seen.expert]
            return mean.to(seen.outputs).expand(len(seen.outputs), -1)

    with watch_projections(model, add):
        for text in TEXTS:
            model(torch.tensor([text]))
    rises, divergences = [], []
    for text in TEXTS:
        before = model(torch.tensor([text])).logits[0].double().softmax(-1)
        with watch_projections(model, replace):
            after = model(torch.tensor([text])).logits[0].double().softmax(-1)
        for at in range(len(text)):
            divergences.append(float((before[at] * (before[at] / after[at]).log()).sum()))
            if at + 1 < len(text):
                rises.append(float((before[at, text[at + 1]] / after[at, text[at + 1]]).log()))
    return sum(rises) / len(rises), sum(divergences) / len(divergences)


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_those_of_full_passes_with_one_projection_replaced(family):
    # a scale of its own makes cohere's predictions nearly uniform
    model = tiny.model(family, **({"logit_scale": 1.0} if family == "cohere" else {}))
    logits = model(torch.tensor([TEXTS[0]])).logits
    scores = score_ablation(measure_ablation(model, TEXTS))
    found = scores.set_index(["metric", "layer", "projection"])["value"]
    with torch.no_grad():
        for projection in find_projections(model):
            at = (projection.layer, projection.name)
            rise, divergence = slow_effects(model, *at)
            assert found["ablation_effect", *at] == pytest.approx(rise, abs=2e-5, rel=1e-4)
            assert found["ablation_kl", *at] == pytest.approx(divergence, abs=2e-5, rel=1e-4)
    # the comparison means something only where there is an effect
    assert found["ablation_kl"].median() > 0.02
    assert len(scores) == 2 * len(find_projections(model))
    assert torch.equal(model(torch.tensor([TEXTS[0]])).logits, logits)


@pytest.mark.parametrize(
    "family",
    [
        *("gemma3n_text", "gemma4_text", "qwen3_5_moe_text", "kimi_linear", "deepseek_v3"),
        *("jamba", "nemotron_h", "minimax_m2", "granitemoehybrid", "hy_v4"),
    ],
)
def test_effects_where_layers_differ_are_those_of_full_passes(family):
    """In some, layers take more from earlier ones than their output, and none is skipped."""
    model = families.tiny_model(family)
    found = score_ablation(measure_ablation(model, TEXTS)).set_index(
        ["metric", "layer", "projection"]
    )["value"]
    projections = find_projections(model)
    assert len(found) == 2 * len(projections)
    for projection in projections:
        at = (projection.layer, projection.name)
        with torch.inference_mode():
            rise, divergence = slow_effects(model, *at)
        assert found["ablation_effect", *at] == pytest.approx(rise, abs=1e-4, rel=1e-3)
        assert found["ablation_kl", *at] == pytest.approx(divergence, abs=1e-4, rel=1e-3)
    assert found["ablation_kl"].median() > 1e-3


def test_a_weight_that_is_no_number_is_named_by_layer_and_projection():
    model = tiny.model()
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    with pytest.raises(UserError, match="values that are not finite in layer 1, mlp. up, comput"):
        measure_ablation(model, TEXTS)


def test_a_projection_without_effect_has_none_and_one_that_helps_costs():
    model = tiny.model()
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
    scores = score_ablation(measure_ablation(model, TEXTS)).set_index(
        ["metric", "layer", "projection"]
    )["value"]
    for name in ("attn. q", "attn. k", "attn. v", "attn. o"):
        assert scores["ablation_kl", 1, name] == pytest.approx(0, abs=2e-6)
        assert scores["ablation_effect", 1, name] == pytest.approx(0, abs=2e-6)
    assert (scores["ablation_kl"] > -2e-6).all()


def test_the_blocks_before_are_not_run_again_and_copies_share_a_pass(monkeypatch):
    model = tiny.model()
    runs = [0, 0, 0]
    for layer, block in enumerate(model.model.layers):
        block.input_layernorm.register_forward_hook(
            lambda *_, layer=layer: runs.__setitem__(layer, runs[layer] + 1)
        )
    whole = measure_ablation(model, TEXTS[:1])
    # once for the means, once clean, and for each block up to this one once to try whether a pass
    # may begin there and once with ablations
    assert runs == [4, 6, 8]
    runs[:] = [0, 0, 0]
    monkeypatch.setattr(module_ablation, "LOGIT_BYTES", 3 * len(TEXTS[0]) * 384 * 4)
    parts = measure_ablation(model, TEXTS[:1])  # three copies at a time
    assert runs == [2 + 1 + 3, 2 + 2 + 6, 2 + 3 + 9]
    assert parts["kl"].to_numpy() == pytest.approx(whole["kl"].to_numpy(), abs=1e-6)
    assert list(parts["projection"]) == list(whole["projection"])


def test_entries_that_a_model_excludes_change_no_effect():
    """Padding of the vocabulary with a logit of -inf has no probability, before and after."""
    model = tiny.model()
    forward = model.lm_head.forward
    logits = []

    def masked(states, value):
        found = forward(states)
        found[..., 300:] = value
        logits.append(found)
        return found

    effects = []
    for value in (-torch.inf, -1e4):
        model.lm_head.forward = lambda states, value=value: masked(states, value)
        effects.append(measure_ablation(model, TEXTS))
    assert torch.isinf(logits[0]).any()
    for metric in ("loss_rise", "kl"):
        assert effects[0][metric].abs().median() > 1e-3
        assert effects[0][metric].tolist() == pytest.approx(effects[1][metric].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (None, "gives logits that are not finite at token 1 of text 1, computed in float32"),
        (1, "gives logits that are not finite on text 1 with mlp. gate of layer 1 ablated"),
    ],
    ids=str,
)
def test_effects_that_are_no_numbers_are_refused(layer, message):
    model = tiny.model()
    if layer is None:
        model.lm_head.weight.data[3] = float("nan")
    else:
        forward = model.lm_head.forward
        passes = []

        def spoilt(states):
            logits = forward(states)
            passes.append(len(states))
            # the clean pass, one that begins at each layer, then one for each layer
            if len(passes) == 1 + 3 + 1 + layer:
                logits[-1] = float("nan")
            return logits

        model.lm_head.forward = spoilt
    with pytest.raises(UserError, match=message):
        measure_ablation(model, TEXTS[:1])
