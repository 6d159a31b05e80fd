"""The table of sink_map, beside plain passes of transformers and loops, and what is drawn of it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import families
import tiny
from drawn_figures import drawn, texts
from llm_figures.attention import sink_figure
from llm_figures.attention.capture import build_state_rows, capture_attention, run_interventions
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import LayerStates, key_importance, uniform_causal
from llm_figures.attention.options import SinkMap
from llm_figures.attention.qk_store import open_states
from llm_figures.attention.sinks import (
    count_reach,
    list_claim_cells,
    score_sinks,
    summarize,
    summarize_uniform,
)
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_table, write_frame, write_tensors
from llm_figures.models.decoders import find_attentions
from llm_figures.workflow.config import check_claims

IDS = np.random.default_rng(0).integers(5, 300, 21).tolist()
OPTIONS = SinkMap(tokens=13)
FAMILIES = ["llama", "mistral", "qwen3", "gemma2", "gemma3", "gpt_oss"]


def score_model(model, ids=IDS, options=OPTIONS):
    captured = capture_attention(model, ids, find_attentions(model))
    states = [one.to_states(1, layer) for layer, one in sorted(captured.items())]
    return score_sinks(states, options)


def pivot(scores, component):
    """{layer: values [heads, positions]}."""
    rows = scores[scores["component"] == component]
    return {
        layer: part.pivot(index="head", columns="position", values="value").to_numpy()
        for layer, part in rows.groupby("layer")
    }


def plain_alpha(weights, k):
    """α_k by its published definition, positions counted from 1."""
    tokens = len(weights)
    return sum(weights[i - 1][k - 1] for i in range(k, tokens + 1)) / (tokens - k + 1)


def test_importance_is_the_published_sum():
    weights = np.random.default_rng(1).dirichlet(np.ones(7), size=(2, 7)) * np.tri(7)
    found = key_importance(weights)
    for head in range(2):
        for k in range(1, 8):
            assert found[head, k - 1] == pytest.approx(plain_alpha(weights[head], k), abs=1e-15)
    sink = np.zeros((5, 5))
    sink[:, 0] = 1
    assert key_importance(sink).tolist() == [1, 0, 0, 0, 0]
    assert key_importance(np.eye(4)).tolist() == [1 / 4, 1 / 3, 1 / 2, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_norms_are_those_of_a_plain_pass_over_the_first_tokens(family):
    """A separate pass over the first tokens alone, with forward hooks on the projections."""
    model = tiny.model(family)
    scores = score_model(model)
    seen = {"key": [], "value": []}
    normed = hasattr(model.model.layers[0].self_attn, "k_norm")
    for layer in model.model.layers:
        attention = layer.self_attn
        for name, module in (
            ("key", attention.k_norm if normed else attention.k_proj),
            ("value", attention.v_proj),
        ):
            module.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        output = model(torch.tensor([IDS[: OPTIONS.tokens]]), output_attentions=True)
    found = {name: pivot(scores, name) for name in ("attention", "key", "value")}
    for layer in range(3):
        weights = output.attentions[layer][0].double().tolist()
        expected = [
            [plain_alpha(head, k) for k in range(1, OPTIONS.tokens + 1)] for head in weights
        ]
        np.testing.assert_allclose(found["attention"][layer], expected, atol=1e-5)
        # rotary embedding turns keys and does not stretch them, but for YaRN's factor
        turned = model.model.rotary_emb.attention_scaling if family == "gpt_oss" else 1
        for name, factor in (("value", 1), ("key", turned)):
            states = seen[name][layer]
            if not (name == "key" and normed):
                states = states.unflatten(-1, (2, 12)).transpose(1, 2)
            elif states.shape[1] != 2:
                states = states.transpose(1, 2)
            expected = [
                [math.sqrt(sum(x * x for x in vector)) * factor for vector in head]
                for head in states[0].tolist()
            ]
            np.testing.assert_allclose(found[name][layer], expected, rtol=1e-5, atol=1e-5)
    # The comparison means something only if values differ.
    assert np.ptp(found["attention"][1][:, 0]) > 0.01
    assert np.ptp(found["value"][1]) > 0.1


@pytest.mark.parametrize("family", ["deepseek_v3", "llama4_text", "qwen3_next", "dots3_note_text"])
def test_other_masks_heads_and_layers_have_the_weights_of_a_plain_pass(family):
    """Latent attention, chunks, layers without attention, layers with fewer heads."""
    model = families.tiny_model(family)
    scores = score_model(model)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        attentions = model(torch.tensor([IDS[: OPTIONS.tokens]]), output_attentions=True).attentions
    attentions = [weights for weights in attentions if weights is not None]
    found = pivot(scores, "attention")
    assert len(found) == len(attentions)
    for own, theirs in zip(found.values(), attentions, strict=True):
        theirs = theirs[0].double().numpy()
        expected = [[plain_alpha(head, k) for k in range(1, OPTIONS.tokens + 1)] for head in theirs]
        np.testing.assert_allclose(own, expected, atol=1e-5)
    values = pivot(scores, "value")
    assert {layer: len(part) for layer, part in values.items()} == {
        layer: len(part) for layer, part in pivot(scores, "key").items()
    }
    assert all((part > 0).all() for part in values.values())
    text = sink_figure.describe(scores, "tiny", OPTIONS)
    assert ("Grey, and gaps" in text) == (family == "qwen3_next")
    assert ("fewer heads" in text) == (family == "dots3_note_text")
    assert ("at most 0.62" in text) == (family == "llama4_text")  # chunks of 8 of 13 tokens


def test_a_window_and_a_mask_bound_how_many_queries_see_the_first_token():
    states = planted_states()[0]
    assert count_reach(states, 6) == 6
    assert count_reach(with_(states, window=4), 6) == 4
    assert count_reach(with_(states, window=9), 6) == 6
    chunks = np.where(np.tri(8, dtype=bool) & (np.arange(8)[:, None] < 3), 0, -np.inf)
    chunks[3:, 3:] = np.where(np.tri(5, dtype=bool), 0, -np.inf)
    assert count_reach(with_(states, bias=chunks[None]), 6) == 3
    uniform = score_sinks([with_(states, window=4, query=0 * states.query)], SinkMap(tokens=6))
    alpha = uniform.query("component == 'attention' and position == 0")["value"]
    np.testing.assert_allclose(alpha, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 6)
    even = summarize_uniform(uniform, 0.3)
    assert even["alpha_first"].tolist() == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 6])
    assert even["rate_first"].tolist() == [1]  # as high as that in a text of so few tokens
    text = sink_figure.describe(uniform, "m", SinkMap(tokens=6))
    assert "In layers 0 later queries do not see the first token" in text
    assert "at most 0.67" in text


def with_(states, **changes):
    return LayerStates(**{**vars(states), **changes})


def planted_states(heads=(3, 3, 2), layers=(0, 1, 3), model_layers=4, tokens=(8, 5)):
    random = np.random.default_rng(2)
    return [
        LayerStates(
            input=text,
            layer=layer,
            query=random.normal(size=(count, length, 4)).astype(np.float32),
            key=random.normal(size=(1, length, 4)).astype(np.float32),
            scaling=2.0,
            value_norm=random.uniform(1, 2, size=(1, length)).astype(np.float32),
            model_layers=model_layers,
        )
        for text, length in enumerate(tokens, 1)
        for layer, count in zip(layers, heads, strict=True)
    ]


def test_rates_and_means_by_layer_are_those_of_loops():
    states = planted_states()
    options = SinkMap(tokens=6, threshold=0.35)
    found = summarize(score_sinks(states, options), options.threshold)
    assert found.index.tolist() == [0, 1, 3]
    for layer in found.index:
        rates = {position: [] for position in range(4)}
        norms = {"first": [], "others": []}
        for one in states:
            if one.layer != layer:
                continue
            length = min(6, one.query.shape[1])
            weights = one.compute_weights()[:, :length, :length].astype(float)
            for head in weights:
                for position in range(length // 2 + 1):
                    rates[position].append(plain_alpha(head.tolist(), position + 1))
            for head in one.key:
                for position in range(length):
                    size = math.sqrt(sum(float(x) ** 2 for x in head[position]))
                    norms["others" if position else "first"].append(size)
        share = {at: sum(a > 0.35 for a in own) / len(own) for at, own in rates.items() if own}
        mean = {at: sum(own) / len(own) for at, own in rates.items() if own}
        row = found.loc[layer]
        assert row["rate_first"] == pytest.approx(share[0])
        assert row["rate_other"] == pytest.approx(max(share[at] for at in share if at))
        assert row["alpha_first"] == pytest.approx(mean[0], rel=1e-6)
        assert row["alpha_other"] == pytest.approx(max(mean[at] for at in mean if at), rel=1e-6)
        for name, own in norms.items():
            assert row[f"key_{name}"] == pytest.approx(np.mean(own))
            assert row[f"key_{name}_low"] == pytest.approx(np.quantile(own, 0.05))
    assert found["rate_first"].max() > 0


def test_a_head_is_a_sink_above_the_threshold_only():
    """Two heads whose α₁ is exactly a half and more, by weights that are exact in binary."""
    states = planted_states(heads=(2,), layers=(0,), tokens=(2,))[0]
    query = np.zeros((2, 2, 4), np.float32)
    states = with_(states, query=query, key=0 * states.key)
    scores = score_sinks([states], SinkMap(tokens=2))
    assert pivot(scores, "attention")[0][:, 0].tolist() == [0.75, 0.75]
    assert summarize(scores, 0.75)["rate_first"].tolist() == [0]
    assert summarize(scores, 0.7499)["rate_first"].tolist() == [1]


def test_claims_are_about_the_summary_and_the_uniform_control():
    options = SinkMap(tokens=6)
    scores = score_sinks(planted_states(), options)
    cells = list_claim_cells(scores, options)
    assert not cells.duplicated(["row", "column", "control"]).any()
    own = cells[cells["control"] == "none"].pivot(index="row", columns="column", values="value")
    values = summarize(scores, options.threshold)
    np.testing.assert_array_equal(own["sink_rate"], values["rate_first"])
    np.testing.assert_array_equal(own["alpha_1"], values["alpha_first"])
    for layer, share in own["value_share"].items():
        first, others = values.loc[layer, ["value_first", "value_others"]]
        assert share == pytest.approx(first / (first + others))
    assert cells["value"].between(0, 1).all()
    uniform = cells[(cells["control"] == "uniform") & (cells["column"] == "alpha_1")]
    expected = np.mean([key_importance(uniform_causal(length))[0] for length in (6, 5)])
    np.testing.assert_allclose(uniform["value"], [expected] * 3)


def test_even_attention_is_a_sink_in_the_short_texts_only():
    """Its rate is the share of texts, not whether their mean is above the threshold."""
    options = SinkMap(tokens=64)
    scores = score_sinks(planted_states(tokens=(60, 5, 40)), options)
    cells = list_claim_cells(scores, options)
    rate = cells[(cells["control"] == "uniform") & (cells["column"] == "sink_rate")]
    np.testing.assert_allclose(rate["value"], [1 / 3] * 3)
    alpha = [key_importance(uniform_causal(length))[0] for length in (60, 5, 40)]
    assert alpha[1] > 0.3 > np.mean(alpha)
    even = "(of such even attention it would be 0.333)"
    assert even in sink_figure.describe(scores, "m", options)
    long = score_sinks(planted_states(tokens=(60, 40)), options)
    assert "even attention" not in sink_figure.describe(long, "m", options)


def planted_scores(bottom=0.2, above=0.8, other=0.05, key=0.5, value=0.1):
    """32 layers of two heads and four tokens; α₁ in the lowest two layers and above, the ratios."""
    rows = []
    for layer in range(32):
        first = {"attention": bottom if layer < 2 else above, "query": 1, "key": key}
        first["value"] = value
        rest = {"attention": other, "query": 1, "key": 1, "value": 1}
        rows += [
            (layer, component, head, position, float((rest if position else first)[component]))
            for component in ("attention", "query", "key", "value")
            for head in range(2)
            for position in range(4)
        ]
    table = pd.DataFrame(rows, columns=["layer", "component", "head", "position", "value"])
    return table.assign(input=1, text_tokens=4, tokens=4, model_layers=32, reach=4)


def check(root, scores):
    claims = check_claims({"claims": {"files": []}}, root / "config" / "claims.yaml")
    about = [claim for claim in claims if claim.figure == "sink_map"]
    return check_table_claims("m", about, list_claim_cells(scores, SinkMap())).set_index("claim")


def verdicts(root, **changes):
    return check(root, planted_scores(**changes))["verdict"]


def test_sinks_as_published_reproduce_every_claim(root):
    assert set(verdicts(root, above=0.95)) == {"reproduced"}


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"above": 0.3}, {"sink-leads", "sink-beyond-uniform", "sink-rate-large-models",
                          "sink-rate-most", "sink-small-models", "sink-all-above"}),
        ({"bottom": 0.8}, {"sink-bottom-local"}),
        ({"other": 0.4}, {"sink-only-first"}),
        ({"other": 0.7}, {"sink-only-first", "sink-leads"}),
        ({"key": 1.1}, {"sink-key-smaller"}),
        ({"value": 0.6}, {"sink-value-little"}),
        ({"value": 1.1}, {"sink-value-smaller", "sink-value-little"}),
    ],
)  # fmt: skip
def test_a_contrary_figure_fails_the_claims_about_it(root, changes, failing):
    found = verdicts(root, **{"above": 0.95, **changes})
    assert set(found.index[found == "not reproduced"]) == failing


def test_norms_that_are_smaller_in_every_layer_are_not_so_by_construction(root):
    """The most telling result: no ratio of the run is above 1."""
    scores = planted_scores(above=0.95, key=0.3)
    others = (scores["position"] > 0) & (scores["component"] != "attention")
    larger = np.random.default_rng(0).uniform(1.2, 1.6, others.sum())
    scores.loc[others, "value"] *= larger
    found = check(root, scores)
    assert set(found["verdict"]) == {"reproduced"}
    assert not found["decided"].any()
    assert (found["references"] == 300).all()


def test_stored_states_give_the_same_table_and_values_are_kept_of_clean_passes_only(tmp_path):
    model, tokenizer = tiny.model("mistral"), tiny.tokenizer()
    texts_ = [IDS, IDS[:9]]
    batches, states = [], []
    for index, ids in enumerate(texts_, 1):
        captured = capture_attention(model, ids, range(3))
        batches.append(build_state_rows(tokenizer, index, ids, captured, longest=len(IDS)))
        states += [one.to_states(index, layer) for layer, one in captured.items()]
    write_tensors(tmp_path / "states.parquet", batches)
    expected = score_sinks(states, OPTIONS)
    found = score_sinks(open_states(tmp_path / "states.parquet"), OPTIONS)
    pd.testing.assert_frame_equal(found, expected)
    write_frame(found, tmp_path / "sink_map.parquet")

    passes = [(1, Intervention("value", "scale", epsilon=0.5))]
    intervened = run_interventions(model, tokenizer, texts_, range(3), passes)
    write_tensors(tmp_path / "intervened.parquet", intervened)
    assert read_table(tmp_path / "intervened.parquet")["value_norm"].null_count == 3

    without = [
        (schema.remove(schema.get_field_index("value_norm")), rows) for schema, rows in batches
    ]
    write_tensors(tmp_path / "earlier.parquet", without)
    earlier = open_states(tmp_path / "earlier.parquet")
    np.testing.assert_array_equal(earlier[0].load().query, states[0].query)
    message = r"^forward/attention_states.parquet: input 1, layer 0: .*remove the file and run"
    with pytest.raises(UserError, match=message):
        score_sinks(earlier, OPTIONS)


def test_norms_that_are_not_finite_are_refused():
    states = planted_states()
    states[1].value_norm[0, 2] = np.inf
    with pytest.raises(UserError, match=r"input 1, layer 1: weights or norms are NaN or infinite"):
        score_sinks(states, SinkMap(tokens=6))


def test_the_figure_shows_the_table(tmp_path):
    options = SinkMap(tokens=6)
    scores = score_sinks(planted_states(), options)
    alpha = sink_figure.draw(scores, options).axes[0].panel[1]
    assert alpha.shape == (3, 4)
    # no attention in layer 2, a head fewer in layer 3
    assert np.isnan(alpha.to_numpy()).tolist() == [[False, False, True, False]] * 2 + [
        [False, False, True, True]
    ]
    first = scores.query("component == 'attention' and position == 0 and layer == 1 and head == 2")
    assert alpha.loc[2, 1] == pytest.approx(first["value"].mean())
    values = summarize(scores, options.threshold).reindex(range(4))
    fig = sink_figure.draw(scores, options)
    panels = [ax for ax in fig.axes if ax.lines]
    assert len(panels) == 4
    for ax, names in zip(
        panels,
        (
            ("rate_first", "rate_other"),
            *((f"{c}_first", f"{c}_others") for c in ("query", "key", "value")),
        ),
        strict=True,
    ):
        for line, name in zip(ax.lines, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), np.arange(4) + 0.5)
            np.testing.assert_array_equal(line.get_ydata(), values[name])
    words = texts(drawn(sink_figure.draw, scores, options, tmp_path))
    assert {"Head", "Layer", "α₁", "Sink rate", "‖Key‖", "first token", "other tokens"} <= {*words}
    text = sink_figure.describe(scores, "m", options)
    assert "layers 2 of 4 have no attention map" in text
    assert "layers 3 have fewer heads" in text
    assert "The 2 texts of inputs have 5 to 8 tokens: 1 of them" in text
    log = sink_figure.draw(scores, options.changed(norms="log"))
    assert [ax.get_yscale() for ax in log.axes if ax.lines] == ["linear", *["log"] * 3]
