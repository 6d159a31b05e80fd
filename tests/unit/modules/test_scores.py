import numpy as np
import pandas as pd
import pytest
import torch

import families
import tiny
from llm_figures.core.errors import UserError
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.models.projections import find_projections
from llm_figures.modules.activity import measure_activity
from llm_figures.modules.metrics import METRICS as KNOWN
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


def test_the_size_of_the_inputs_stands_beside_metrics_of_activity():
    model = tiny.model()
    tables = {"activity": measure_activity(model, TEXTS)}
    info = {"layers": 4, "model_type": "llama"}  # one layer more, without projections
    scores = compute_scores("activity", tables, "operation_strength", info)
    widths = {
        (projection.layer, projection.name): projection.weight().shape[1]
        for projection in find_projections(model, range(3))
    }
    for row in scores.itertuples():
        size = widths.get((row.layer, row.projection))
        assert row.d_in == size if size else np.isnan(row.d_in)
    assert len(set(widths.values())) > 1
    table = {"updates": measured([0.1, 0.2, 0.3, 0.4])}
    assert "d_in" not in compute_scores("updates", table, "relative_update")


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


def measured(values, metric="relative_update"):
    """A table of two layers' attn. q and mlp. up."""
    at = [(layer, name) for layer in (0, 1) for name in ("attn. q", "mlp. up")]
    rows = [(*place, metric, value) for place, value in zip(at, values, strict=True)]
    frame = pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])
    return frame.astype({"layer": "int32"})


@pytest.mark.parametrize(("measure", "metric"), [(m.measure, n) for n, m in KNOWN.items()])
def test_an_infinite_value_is_refused_by_layer_and_projection(measure, metric):
    if measure == "activity":
        model = tiny.model()
        table = measure_activity(model, TEXTS)
        at = (table["layer"] == 1) & (table["projection"] == "mlp. up")
        table.loc[at, "output_norm"] = np.inf
    elif measure == "ablation":
        table = pd.DataFrame(
            {"layer": [0, 1], "projection": "mlp. up", "predicted": 2, "positions": 3}
        ).assign(loss_rise=[0.5, np.inf], kl=[0.5, np.inf])
    else:
        table = measured([0.5, 0.5, 0.5, np.inf], metric)
    with pytest.raises(UserError, match=rf"{metric} of layer 1, mlp. up, is inf \(and 0 more"):
        compute_scores(measure, {measure: table}, metric)


def test_a_value_that_is_not_defined_is_noted_and_any_other_nan_refused():
    tables = {"updates": measured([0.5, np.nan, 0.25, 0.125])}
    scores = compute_scores("updates", tables, "relative_update")
    assert list(scores["note"]) == ["", "its earlier weights are all zero", "", ""]
    tables = {"updates": measured([0.5, np.nan, 0.25, np.nan], "update_density")}
    with pytest.raises(UserError, match=r"update_density of layer 0, mlp. up, is nan \(and 1 more"):
        compute_scores("updates", tables, "update_density")


def test_weights_of_zeros_leave_one_cell_undefined_and_inputs_of_zeros_no_token():
    model = tiny.model("opt")
    model.model.decoder.layers[1].self_attn.v_proj.weight.data.zero_()
    activity = {"activity": measure_activity(model, TEXTS)}
    info = {"model_type": "opt", "layers": 3}
    scores = compute_scores("activity", activity, "operation_strength", info)
    undefined = scores[scores["value"].isna()]
    # what attention adds up is zero as well
    wanted = [[1, "attn. v"], [1, "attn. o"]]
    assert undefined[["layer", "projection"]].values.tolist() == wanted
    assert set(undefined["note"]) == {"its weights, or all of its inputs, are zero"}
    rms = compute_scores("activity", activity, "output_rms", info)
    assert rms.loc[(rms["layer"] == 1) & (rms["projection"] == "attn. v"), "value"].item() == 0
    table = pd.DataFrame(
        {
            "layer": 0,
            "projection": "mlp. down",
            "output_norm": [0.0, 3.0, 5.0],
            "d_in": 4,
            "d_out": 2,
        }
    ).assign(input_norm=[0.0, 2.0, 5.0], weight_norm=2.0)
    found = compute_scores("activity", {"activity": table}, "operation_strength")
    assert found["value"].item() == pytest.approx((3 / 4 + 5 / 10) / 2)


def test_norms_of_very_small_and_very_large_vectors():
    model = tiny.model()
    plain = measure_activity(model, TEXTS)
    for factor in (1e-30, 1e30):
        scaled = tiny.model()
        down = scaled.model.layers[2].mlp.down_proj.weight
        down.data *= factor
        table = measure_activity(scaled, TEXTS)
        at = (table["layer"] == 2) & (table["projection"] == "mlp. down")
        for name in ("weight_norm", "output_norm"):
            assert table.loc[at, name].to_numpy() == pytest.approx(
                plain.loc[at, name].to_numpy(float) * factor, rel=1e-5
            )
        scores = compute_scores("activity", {"activity": table}, "operation_strength")
        wanted = compute_scores("activity", {"activity": plain}, "operation_strength")
        assert scores["value"].to_numpy() == pytest.approx(wanted["value"].to_numpy(), rel=1e-5)


def test_every_layer_has_every_column_and_an_absent_one_its_reason():
    model = families.tiny_model("nemotron_h")  # the first layer has no projection at all
    activity = {"activity": measure_activity(model, TEXTS)}
    for layers in (4, None, 5):
        info = {"model_type": "nemotron_h", "layers": layers}
        scores = compute_scores("activity", activity, "output_rms", info)
        rows = layers or 4
        assert len(scores) == rows * 8
        assert scores.groupby("layer")["value"].count().to_dict() == dict(
            zip(range(rows), (0, 4, 4, 2, 0), strict=False)
        )
        notes = scores.loc[scores["value"].isna(), "note"].unique()
        assert list(notes) == ["each layer is an attention, an MLP or a state space (Mamba) alone"]
        assert (scores.loc[scores["value"].notna(), "note"] == "").all()


def test_what_no_column_shows_is_noted():
    model = families.tiny_model("falcon_h1")
    activity = {"activity": measure_activity(model, TEXTS)}
    info = {"model_type": "falcon_h1", "layers": 2}
    scores = compute_scores("activity", activity, "output_rms", info)
    assert (scores["note"] == "a state space (mamba)").all()
    assert scores["value"].notna().all()
