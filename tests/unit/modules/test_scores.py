import re

import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.models.projections import find_projections
from llm_figures.modules.activity import measure_activity
from llm_figures.modules.scores import compute_scores, score_activity

TEXTS = [[5, 6, 7, 8, 9], [10, 11, 12]]
METRICS = ["operation_strength", "output_rms", "input_alignment"]


def scores_of(model, texts=TEXTS):
    scores = score_activity(measure_activity(model, texts), METRICS)
    return scores.set_index(["metric", "layer", "projection"])["value"]


def test_scores_are_the_mean_over_every_token_of_every_text():
    model = tiny.model(attention_bias=True)
    for block in model.get_decoder().layers:
        torch.nn.init.normal_(block.self_attn.q_proj.bias)
    scores = scores_of(model)
    inputs = {}
    for projection in find_projections(model, [1]):
        projection.module.register_forward_hook(
            lambda module, args, output, name=projection.name: inputs.setdefault(name, []).extend(
                args[0][0]
            )
        )
    with torch.inference_mode():
        for text in TEXTS:
            model(torch.tensor([text]))
        for projection in find_projections(model, [1]):
            weight, vectors = projection.weight(), inputs[projection.name]
            assert len(vectors) == 8
            given = [torch.linalg.vector_norm(weight @ x) for x in vectors]
            size = torch.linalg.matrix_norm(weight)
            ratio = [
                g / size / torch.linalg.vector_norm(x) for g, x in zip(given, vectors, strict=True)
            ]
            strength = float(sum(ratio)) / 8
            rms = float(sum(g**2 for g in given) / 8 / len(weight)) ** 0.5
            at = (1, projection.name)
            assert scores["operation_strength", *at] == pytest.approx(strength, rel=1e-4)
            assert scores["output_rms", *at] == pytest.approx(rms, rel=1e-4)
            root = weight.shape[1] ** 0.5
            assert scores["input_alignment", *at] == pytest.approx(strength * root, rel=1e-4)
    assert set(scores.index.get_level_values("projection")) == set(PROJECTIONS)


def test_alignment_of_random_directions_is_one_and_of_the_largest_singular_one_more():
    random = np.random.default_rng(0)
    weight, inputs = random.normal(size=(64, 100)), random.normal(size=(500, 100))
    along = np.linalg.svd(weight)[2][:1] * 3.0

    def activity(inputs):
        return pd.DataFrame(
            {
                "layer": 0,
                "projection": "attn. q",
                "input_norm": np.linalg.norm(inputs, axis=1),
                "output_norm": np.linalg.norm(inputs @ weight.T, axis=1),
                "weight_norm": np.linalg.norm(weight),
                "d_in": 100,
                "d_out": 64,
            }
        )

    scores = score_activity(activity(inputs), METRICS).set_index("metric")["value"]
    assert scores["operation_strength"] == pytest.approx(0.1, rel=0.02)
    assert scores["input_alignment"] == pytest.approx(1.0, rel=0.02)
    assert scores["output_rms"] == pytest.approx(10, rel=0.02)  # ‖x‖ ≈ 10, unit weights
    scores = score_activity(activity(along), METRICS).set_index("metric")["value"]
    singular = np.linalg.svd(weight)[1]
    expected = singular[0] / np.linalg.norm(singular)
    assert scores["operation_strength"] == pytest.approx(expected)
    assert scores["input_alignment"] > 1.5


def test_experts_count_once_for_every_token_that_is_routed_to_them():
    model = tiny.model("mixtral")
    activity = measure_activity(model, TEXTS)
    of_experts = activity[activity["projection"] == "mlp. up"]
    pairs = of_experts.groupby(["text", "layer", "position"])["expert"].nunique()
    assert (pairs == 2).all()
    assert len(pairs) == 3 * 8
    assert activity.loc[activity["projection"] == "attn. q", "expert"].isna().all()
    experts = model.model.layers[0].mlp.experts
    row = of_experts[of_experts["layer"] == 0].iloc[0]
    weight = experts.gate_up_proj[int(row["expert"]), 48:].detach()
    assert row["weight_norm"] == pytest.approx(float(torch.linalg.matrix_norm(weight)), rel=1e-5)


def test_rows_are_in_the_order_of_the_figure():
    """Llama's blocks apply the gate first, and experts the gate before the down projection."""
    for family in ("llama", "mixtral"):
        activity = measure_activity(tiny.model(family), TEXTS)
        scores = compute_scores("activity", {"activity": activity}, "output_rms")
        assert list(scores["projection"]) == list(PROJECTIONS) * 3
        assert list(scores["layer"]) == [layer for layer in range(3) for _ in PROJECTIONS]


def test_a_family_without_a_gate_has_no_gate():
    assert set(scores_of(tiny.model("neox")).index.get_level_values("projection")) == {
        name for name in PROJECTIONS if name != "mlp. gate"
    }


def test_a_norm_that_is_no_number_is_refused_by_layer_and_projection():
    model = tiny.model()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("inf")
    with pytest.raises(UserError) as caught:
        measure_activity(model, TEXTS)
    assert str(caught.value).startswith(
        "the model of type llama gives values that are not finite in layer 1, mlp. up, of text 1, "
        "computed in float32; its weights hold NaN"
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_score_is_refused_by_metric_projection_and_layer(value):
    rows = [(layer, name, "relative_update", 0.1) for layer in range(2) for name in PROJECTIONS[:3]]
    table = pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])
    assert len(compute_scores("updates", {"updates": table}, "relative_update")) == 6
    table.loc[4, "value"] = value
    place = f"relative_update of {PROJECTIONS[1]} in layer 1 is infinite, as 1 of 6 values are"
    with pytest.raises(UserError, match=re.escape(place)):
        compute_scores("updates", {"updates": table}, "relative_update")
