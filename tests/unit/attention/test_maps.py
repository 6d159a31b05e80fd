import re
from dataclasses import replace

import numpy as np
import pytest

from llm_figures.attention.interventions import STAGES, Intervention
from llm_figures.attention.maps import (
    LayerStates,
    distance_to_uniform,
    find_equivalent,
    find_strongest_head,
    find_strongest_layer,
    sink_strength,
    uniform_causal,
)
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.rope import Rotation
from llm_figures.attention.scores import compute_cells
from llm_figures.core.errors import UserError

TOKENS = 9


def states(layer=0, index=1, seed=0, sink=0.0, heads=(0, 1, 2, 3)):
    """Random states; `sink` makes every query of `heads` attend to the first token."""
    random = np.random.default_rng(seed)
    query, key = random.normal(size=(4, TOKENS, 6)), random.normal(size=(2, TOKENS, 6))
    for head in heads:
        query[head, :, 0] += sink
    key[:, 0, 0] += sink
    return LayerStates(index, layer, query, key, scaling=6**-0.5)


def test_rows_sum_to_one_and_no_query_attends_ahead():
    weights = states().compute_weights()
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    assert (weights[:, ~np.tri(TOKENS, dtype=bool)] == 0).all()


def test_mean_and_scale_of_a_small_example_by_hand():
    values = np.array([[[1.0, 3.0], [5.0, 7.0]]])
    assert Intervention("query", "mean", over="features")(values).tolist() == [[[2, 2], [6, 6]]]
    assert Intervention("query", "mean", over="tokens")(values).tolist() == [[[3, 5], [3, 5]]]
    scaled = Intervention("query", "scale", epsilon=0.5)(values)
    assert scaled.tolist() == [[[0.5, 1.5], [2.5, 3.5]]]
    assert values.tolist() == [[[1, 3], [5, 7]]]


def test_weights_of_a_small_example_by_hand():
    query, key = np.array([[[1.0], [2.0]]]), np.array([[[3.0], [1.0]]])
    second = np.exp([6.0, 2.0]) / np.exp([6.0, 2.0]).sum()
    np.testing.assert_allclose(
        LayerStates(1, 0, query, key, scaling=1.0).compute_weights(), [[[1, 0], second]]
    )
    capped = 2 * np.tanh(np.array([6.0, 2.0]) / 2)
    np.testing.assert_allclose(
        LayerStates(1, 0, query, key, 1.0, softcap=2.0).compute_weights()[0, 1],
        np.exp(capped) / np.exp(capped).sum(),
    )
    np.testing.assert_allclose(
        LayerStates(1, 0, query, key, 1.0, window=1).compute_weights(), [np.eye(2)]
    )
    with_sink = np.exp([6.0, 2.0]) / np.exp([6.0, 2.0, 4.0]).sum()
    np.testing.assert_allclose(
        LayerStates(1, 0, query, key, 1.0, sinks=np.array([4.0])).compute_weights()[0, 1], with_sink
    )


def test_scaling_the_query_is_scaling_the_key_and_value_changes_nothing():
    before = states(sink=2)
    scaled = [before.intervene(Intervention(c, "scale", epsilon=0.3)) for c in ("query", "key")]
    np.testing.assert_allclose(scaled[0].compute_weights(), scaled[1].compute_weights(), atol=1e-12)
    assert np.abs(scaled[0].compute_weights() - before.compute_weights()).max() > 0.05
    value = before.intervene(Intervention("value", "scale", epsilon=1e-10))
    np.testing.assert_array_equal(value.compute_weights(), before.compute_weights())


def test_the_mean_key_over_tokens_gives_the_uniform_causal_map():
    mean = states(sink=2).intervene(Intervention("key", "mean", over="tokens")).compute_weights()
    np.testing.assert_allclose(mean, np.broadcast_to(uniform_causal(TOKENS), mean.shape))
    query = states(sink=2).intervene(Intervention("query", "mean", over="tokens")).compute_weights()
    assert distance_to_uniform(query).min() > 0.05


def test_sink_strength_and_distance_of_known_maps():
    sink = np.zeros((4, 4))
    sink[:, 0] = 1
    assert sink_strength(sink) == 1
    assert sink_strength(uniform_causal(4)) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert distance_to_uniform(uniform_causal(4)) == 0
    # rows 2 to 4 differ from 1/i by 1, 4/3 and 3/2 in all, over ten cells
    assert distance_to_uniform(sink) == pytest.approx((1 + 4 / 3 + 3 / 2) / 10)


def test_auto_picks_the_planted_layer_and_head():
    layers = [states(layer, seed=layer, sink=3.0 if layer == 2 else 0.0) for layer in range(4)]
    assert find_strongest_layer(layers) == 2
    assert find_strongest_head([states(sink=3.0, heads=[3])]) == 3


MEAN = AttentionScoring(operation="mean", over="features")


def test_cells_are_tidy_and_hold_the_intervened_weights():
    clean = [
        states(layer, index, seed=10 * layer + index, sink=3.0 * (layer == 1))
        for index in (1, 2)
        for layer in range(3)
    ]
    cells = compute_cells("mean_qkv", MEAN, clean)
    assert len(cells) == 2 * 3 * TOKENS**2
    assert cells["layer"].unique() == [1]
    panel = cells[(cells["panel_row"] == 1) & (cells["panel_column"] == 0)]
    assert set(panel["input"]) == {2}
    expected = next(s for s in clean if (s.input, s.layer) == (2, 1)).intervene(
        Intervention("query", "mean", over="features")
    )
    table = panel.pivot(index="query_position", columns="key_position", values="weight")
    np.testing.assert_allclose(table, expected.compute_weights().mean(axis=0))


def test_a_head_can_be_chosen():
    clean = [states(sink=3.0, heads=[2])]
    for head, expected in ((1, 1), ("auto", 2)):
        cells = compute_cells("mean_qkv", MEAN.changed(head=head), clean)
        assert cells["head"].unique() == [str(expected)]
        value = cells[cells["component"] == "value"]
        np.testing.assert_allclose(
            value["weight"].to_numpy().reshape(TOKENS, TOKENS), clean[0].compute_weights()[expected]
        )


def test_scale_panels_are_components_by_epsilon():
    options = AttentionScoring(
        operation="scale", epsilon=[0.5, 1e-3], components=["query", "value"]
    )
    cells = compute_cells("scale_qkv", options, [states(sink=3.0)])
    rows = cells.drop_duplicates(["panel_row", "panel_column"])
    assert list(zip(rows["component"], rows["epsilon"], strict=True)) == [
        ("query", 0.5),
        ("query", 1e-3),
        ("value", 0.5),
        ("value", 1e-3),
    ]
    tail = cells[(cells["component"] == "query") & (cells["epsilon"] == 1e-3)]
    map_ = tail["weight"].to_numpy().reshape(TOKENS, TOKENS)
    assert distance_to_uniform(map_) < 0.01


@pytest.mark.parametrize("epsilon", [1e37, -1e37])
def test_a_map_that_leaves_float32_is_refused_by_panel_layer_and_head(epsilon):
    options = AttentionScoring(operation="scale", epsilon=[0.5, epsilon], components=["key"])
    large = states(sink=3.0)
    query, key = (np.float32(1e3) * part.astype(np.float32) for part in (large.query, large.key))
    large = replace(large, query=query, key=key)
    with pytest.raises(UserError) as caught, np.errstate(all="ignore"):
        compute_cells("scale_qkv", options, [large])
    assert re.fullmatch(
        rf"input 1, key × ε = {re.escape(f'{epsilon:g}')}, layer 0, head mean: \d+ of "
        rf"{TOKENS**2} attention weights are NaN or infinite: the states overflow; take an ε "
        r"nearer to 1",
        str(caught.value),
    )


@pytest.mark.parametrize("sinks", [None, np.array([0.5, -1.0, 2.0, 0.0])])
def test_a_selected_head_has_the_weights_that_it_has_among_the_others(sinks):
    """Four query heads read two key-value heads."""
    every = replace(states(sink=1.0), sinks=sinks, window=5, softcap=4.0)
    weights = every.compute_weights()
    for head in range(4):
        alone = every.select_head(head)
        assert alone.query.shape == alone.key.shape == (1, TOKENS, 6)
        np.testing.assert_allclose(alone.compute_weights()[0], weights[head], atol=1e-15)
    assert np.abs(weights[0] - weights[1]).max() > 0.05


@pytest.mark.parametrize("component", ["query", "key"])
def test_a_selected_head_can_be_intervened_on(component):
    intervention = Intervention(component, "mean", over="features")
    for head in range(4):
        np.testing.assert_allclose(
            states().select_head(head).intervene(intervention).compute_weights()[0],
            states().intervene(intervention).compute_weights()[head],
        )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["query", "key", "value"])
@pytest.mark.parametrize(
    "options",
    [{"operation": "mean", "over": "features"}, {"operation": "mean", "over": "tokens"},
     {"operation": "scale", "epsilon": 0.3}],
    ids=str,
)  # fmt: skip
def test_equivalent_interventions_give_equal_maps(stage, kind, options):
    """Also with a soft cap, a window, sinks and a rotation."""
    random = np.random.default_rng(3)
    angle = random.uniform(0, 6, size=(9, 2)).repeat(2, axis=1)
    sine = np.sin(angle) * [-1, 1, -1, 1]
    states = LayerStates(
        input=1,
        layer=0,
        query=random.normal(size=(4, 9, 4)),
        key=random.normal(size=(2, 9, 4)),
        scaling=0.5,
        window=6,
        softcap=2.0,
        sinks=random.normal(size=4),
        rotation=Rotation(np.cos(angle), sine, np.array([1, 0, 3, 2])),
    )
    intervention = Intervention(kind, stage=stage, **options)
    own, other = (
        states.intervene(one).compute_weights()
        for one in (intervention, find_equivalent(intervention))
    )
    np.testing.assert_allclose(other, own, rtol=1e-12)


def test_only_interventions_of_equal_maps_are_equivalent():
    def equal(component, operation, stage="after_rotary", **options):
        return find_equivalent(Intervention(component, operation, stage=stage, **options))

    assert equal("value", "scale", epsilon=2.0) is find_equivalent(None) is None
    assert equal("key", "scale", epsilon=2.0) == equal("query", "scale", epsilon=2.0)
    assert equal("key", "scale", epsilon=2.0) != equal("key", "scale", epsilon=3.0)
    assert equal("key", "mean", over="features") == equal("query", "mean", over="features")
    assert equal("key", "mean", over="tokens") != equal("query", "mean", over="tokens")
    before = {"over": "features", "stage": "before_rotary"}
    assert equal("key", "mean", **before) != equal("query", "mean", **before)
