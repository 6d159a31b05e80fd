"""Long texts: weights in blocks, maps in bins, states a row at a time."""

import tracemalloc
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import planted
import tiny
from llm_figures.attention import figure as attention_figure
from llm_figures.attention import maps as attention
from llm_figures.attention.capture import (
    build_state_rows,
    capture_attention,
    run_interventions,
    tokenize_texts,
)
from llm_figures.attention.interventions import Intervention
from llm_figures.attention.maps import (
    BinnedMap,
    LayerStates,
    bin_edges,
    compute_mean_map,
    distance_to_uniform,
    find_strongest_head,
    find_strongest_layer,
    mean_distance,
    sink_strength,
)
from llm_figures.attention.options import MeanQkv
from llm_figures.attention.qk_store import open_intervened_states, open_states, read_layer_states
from llm_figures.attention.scores import compute_cells
from llm_figures.claims.attention_claims import check_attention_claims
from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.definitions import STATISTICS
from llm_figures.claims.panels import read_maps
from llm_figures.core import parquet_tensors as tensors
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_table, tensor_file, write_tensors

TOKENS = 41
OPTIONS = MeanQkv(layer=0)


def states(tokens=TOKENS, index=1, layer=0, **changes):
    """Four query heads on two key-value heads, their attention far from uniform."""
    random = np.random.default_rng(index + 10 * layer)
    query, key = random.normal(size=(4, tokens, 6)), random.normal(size=(2, tokens, 6))
    names = [f"word{place}" for place in range(tokens)]
    return LayerStates(index, layer, 2 * query, key, scaling=0.6, tokens=names, **changes)


KINDS = {
    "causal": {},
    "window": {"window": 7},
    "capped": {"softcap": 3.0},
    "sinks": {"sinks": np.array([0.5, -1.0, 2.0, 0.0])},
    "all": {"window": 11, "softcap": 2.0, "sinks": np.array([0.5, -1.0, 2.0, 0.0])},
}
SIZES = [1, 8 * TOKENS, 8 * TOKENS * 7, 8 * TOKENS**2, 8 * TOKENS**2 * 3, 8 * TOKENS**2 * 100]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_blocks_joined_are_the_weights(size, kind):
    whole = states(**KINDS[kind])
    expected, found = whole.compute_weights(), np.full((4, TOKENS, TOKENS), np.nan)
    for heads, rows, weights in whole.iterate_blocks(size):
        block = np.zeros((*weights.shape[:2], TOKENS))
        block[..., : weights.shape[2]] = weights
        found[heads, rows] = block
        assert weights.nbytes <= max(size, 8 * TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_measures_computed_in_blocks_are_those_of_the_whole_map(size, kind, monkeypatch):
    whole = states(**KINDS[kind])
    expected = whole.compute_weights()
    monkeypatch.setattr(attention, "BLOCK_BYTES", size)
    mean = compute_mean_map(whole, bin_edges(TOKENS, None))
    np.testing.assert_allclose(mean, expected.mean(axis=0), rtol=1e-13, atol=0)
    np.testing.assert_allclose(whole.strength, sink_strength(expected), rtol=1e-13)
    assert mean_distance(whole) == pytest.approx(distance_to_uniform(expected.mean(axis=0)))
    for head in range(4):
        one = compute_mean_map(whole.select_head(head), bin_edges(TOKENS, TOKENS))
        np.testing.assert_allclose(one, expected[head], rtol=1e-13, atol=0)


def test_a_short_text_gives_exactly_the_numbers_of_the_whole_map():
    whole = states()
    mean = compute_mean_map(whole, bin_edges(TOKENS, 256))
    np.testing.assert_array_equal(mean, whole.compute_weights().mean(axis=0))
    np.testing.assert_array_equal(whole.strength, sink_strength(whole.compute_weights()))


@pytest.mark.parametrize(("tokens", "bins"), [(41, 9), (10, 9), (300, 256), (8192, 256), (5, 2)])
def test_bins_are_even_but_for_the_first_token(tokens, bins):
    counts = np.diff(bin_edges(tokens, bins))
    assert len(counts) == bins
    assert counts[0] == 1
    assert counts.sum() == tokens
    assert counts[1:].max() - counts[1:].min() <= 1
    assert counts.min() >= 1


@pytest.mark.parametrize("bins", [None, 41, 500])
def test_a_short_text_has_a_bin_per_token(bins):
    assert bin_edges(41, bins).tolist() == list(range(42))


@pytest.mark.parametrize("kind", ["causal", "all"])
@pytest.mark.parametrize("size", [1, 8 * TOKENS * 7, 2**23])
def test_binned_cells_are_those_of_a_slow_reference(size, kind, monkeypatch):
    whole = states(**KINDS[kind])
    maps = whole.compute_weights().mean(axis=0)
    edges = bin_edges(TOKENS, 9)
    monkeypatch.setattr(attention, "BLOCK_BYTES", size)
    found = compute_mean_map(whole, edges)
    for row in range(9):
        for column in range(9):
            of_queries = [
                sum(maps[query, key] for key in range(edges[column], edges[column + 1]))
                for query in range(edges[row], edges[row + 1])
            ]
            assert found[row, column] == pytest.approx(sum(of_queries) / len(of_queries), rel=1e-12)
    if kind == "causal":
        np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[:, 0] @ np.diff(edges), maps[:, 0].sum())  # the sink is exact


def test_no_array_of_heads_by_tokens_by_tokens_is_made(monkeypatch):
    """Cells, the choice of a layer and claims of a text of 600 tokens, in blocks of 100 kB."""
    monkeypatch.setattr(attention, "BLOCK_BYTES", 100_000)
    whole = states(tokens=600)
    options = OPTIONS.changed(bins=16, layer="auto")
    tracemalloc.start()
    cells = compute_cells("mean_qkv", options, [whole])
    about = planted_claim("sink_strength")
    check_attention_claims("m", [about], cells, options, [whole])
    mean_distance(whole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 600 * 600 * 8  # one head's map; four heads' are four times as much
    assert len(cells) == 3 * 16 * 16


def planted_claim(statistic, **changes):
    about = {"id": "planted", "figures": ["mean_qkv"], "statement": "It is so.", "source": "here",
             "statistic": statistic, "comparison": ">=", "threshold": 0.0,
             "panels": {"component": "value"}}  # fmt: skip
    return read_options(FigureClaim, about | changes, "claim")


def test_cells_name_their_bins():
    short, long_ = states(tokens=9, index=1), states(tokens=41, index=2)
    cells = compute_cells("mean_qkv", OPTIONS.changed(bins=9), [short, long_])
    first, second = (cells[cells["input"] == index] for index in (1, 2))
    assert set(first["query_count"]) == set(first["key_count"]) == {1}
    assert sorted(set(second["key_count"])) == [1, 5]
    assert sorted(set(second["query_position"])) == [0, *range(1, 41, 5)]
    place = second[second["key_position"] == 6].iloc[0]
    assert (place["key_count"], place["key_token"]) == (5, "word6")
    rows = cells.groupby(["panel_row", "panel_column", "query_position"])["weight"].sum()
    np.testing.assert_allclose(rows, 1)
    panel = second[second["component"] == "value"]
    later = panel[(panel["key_position"] == 0) & (panel["query_position"] > 0)]
    strength = np.average(later["weight"], weights=later["query_count"])
    assert strength == pytest.approx(long_.strength.mean(), rel=1e-12)


# Claims.

EXACT = {
    "first_cell",
    "sink_strength",
    "first_column_excess",
    "mean",
    "visible_mean",
    "tokens",
    "squareness",
}
OF_MAPS = [name for name, (of, options, _) in STATISTICS.items() if of == "map" and not options]


@pytest.mark.parametrize("statistic", OF_MAPS)
def test_a_claim_on_a_binned_map_is_exact_or_not_applicable(statistic):
    whole = [states()]
    about = [planted_claim(statistic)]
    rows = []
    for bins in (9, 256):
        options = OPTIONS.changed(bins=bins)
        cells = compute_cells("mean_qkv", options, whole)
        rows.append(check_attention_claims("m", about, cells, options, whole).iloc[0])
    binned, cell_by_cell = rows
    if statistic in EXACT:
        assert binned["value"] == pytest.approx(cell_by_cell["value"], rel=1e-12)
        assert binned["verdict"] == cell_by_cell["verdict"]
    else:
        assert binned["verdict"] == "not applicable"
        assert binned["reason"] == (
            f"a text of 41 tokens is shown in 9 bins; {statistic} needs its single cells"
        )
        assert pd.isna(binned["value"])


def test_a_claim_that_compares_binned_maps_is_not_applicable():
    whole = [states(index=1), states(index=2)]
    about = planted_claim("correlation", across="input")
    options = OPTIONS.changed(bins=9)
    cells = compute_cells("mean_qkv", options, whole)
    row = check_attention_claims("m", [about], cells, options, whole).iloc[0]
    assert (row["verdict"], "needs its single cells" in row["reason"]) == ("not applicable", True)


def test_cells_without_counts_are_single_tokens():
    maps = read_maps(planted.mean_figure(planted.sink))
    assert not any(isinstance(map_, BinnedMap) for map_ in maps.values())


# The file.


@pytest.fixture
def states_file(tmp_path):
    """(path, model, texts): states of two texts through a tiny model."""
    model, tokenizer = tiny.model("mistral"), tiny.tokenizer()
    texts = [tokenizer(text)["input_ids"] for text in tiny.TEXTS[:2]]
    longest = max(map(len, texts))
    path = tmp_path / "states.parquet"
    batches = [
        build_state_rows(
            tokenizer, index, ids, capture_attention(model, ids, range(3), rotation=True), longest
        )
        for index, ids in enumerate(texts, 1)
    ]
    write_tensors(path, batches)
    return path, model, texts


@pytest.mark.parametrize("group_bytes", [1, 100_000, tensors.ROW_GROUP_BYTES])
def test_rows_read_one_at_a_time_are_those_of_the_whole_file(group_bytes, states_file, monkeypatch):
    path, _, _ = states_file
    expected = [row for _, row in read_layer_states(read_table(path))]
    rewritten = path.with_name("rewritten.parquet")
    monkeypatch.setattr(tensors, "ROW_GROUP_BYTES", group_bytes)
    table = read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    for name in ("query", "key", "value_norm", "cos", "sin"):
        columns[name] = tensors.read_tensors(table, name)
    with tensor_file(rewritten, table.schema) as file:
        file.write(columns)
    rows = open_states(rewritten)
    assert len(rows) == len(expected) == 6
    for row, states_ in [*zip(rows, expected, strict=True)][::-1]:
        loaded = row.load()
        assert (row.input, row.layer, row.intervention) == (states_.input, states_.layer, None)
        assert row.heads == states_.heads == 4
        assert row.rotated
        for name in ("query", "key", "value_norm", "stored_strength"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(states_, name))
        np.testing.assert_array_equal(loaded.rotation.cos, states_.rotation.cos)
        assert loaded.tokens == states_.tokens
        np.testing.assert_array_equal(row.strength, sink_strength(states_.compute_weights()))
    assert find_strongest_layer(rows) == find_strongest_layer(expected)
    assert find_strongest_head(rows) == find_strongest_head(expected)


def test_stored_rows_give_the_same_cells_as_states(states_file):
    path, _, _ = states_file
    options = OPTIONS.changed(layer="auto", head="auto")
    whole = [row for _, row in read_layer_states(read_table(path))]
    stored = compute_cells("mean_qkv", options, open_states(path))
    pd.testing.assert_frame_equal(stored, compute_cells("mean_qkv", options, whole))


def test_passes_with_interventions_are_found_by_intervention(states_file):
    path, model, texts = states_file
    passes = [
        (index, Intervention("key", "scale", epsilon=e)) for index in (1, 2) for e in (0.5, 0.1)
    ]
    intervened = path.with_name("intervened.parquet")
    write_tensors(intervened, run_interventions(model, tiny.tokenizer(), texts, [1], passes))
    found = open_intervened_states(intervened)
    assert set(found) == {(1, index, intervention) for index, intervention in passes}
    assert found[1, 2, passes[3][1]].load().input == 2
    assert {states_.strength for states_ in found.values()} == {None}
    assert open_intervened_states(None) is None


def test_damaged_rows_are_named(states_file):
    path, _, _ = states_file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"states.parquet (was changed|cannot be read)"):
        open_states(path)[5].load()


def test_a_text_that_is_too_long_is_named():
    with pytest.raises(UserError, match=r"^config: inputs\[2\]: \d+ tokens, .* accepts at most 8"):
        tokenize_texts(tiny.tokenizer(), ["The lake", tiny.TEXTS[0]], context_length=8)


# The figure.


def drawn(options, texts, **changes):
    cells = compute_cells("mean_qkv", options, texts)
    for column, value in changes.items():
        cells[column] = value
    fig = attention_figure.draw(cells, options)
    fig.draw_without_rendering()
    return cells, fig


def axis_labels(ax):
    return ([text.get_text() for text in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis))


def test_binned_panels_name_the_positions_of_their_bins():
    options = OPTIONS.changed(bins=9, tick_labels="none")
    cells, fig = drawn(options, [states(tokens=43)])
    _, values = fig.axes[0].panel
    assert list(values.index[:3]) == ["0", "1–5", "6–10"]
    assert values.shape == (9, 9)
    assert list(axis_labels(fig.axes[0])) == [[], []]
    caption = attention_figure.describe(cells, "m", options)
    assert "Texts of more than 9 tokens (here up to 43) are shown in 9 bins per axis" in caption
    assert "bins of up to 6 tokens" in caption
    short = compute_cells("mean_qkv", options, [states(tokens=9)])
    assert "bins" not in attention_figure.describe(short, "m", options)
    plt.close(fig)


def test_tokens_label_the_maps_if_they_are_readable():
    options = OPTIONS.changed(bins=256, tick_labels="tokens")
    _, fig = drawn(options, [states(tokens=9, index=1), states(tokens=12, index=2)])
    words = [f"word{place}" for place in range(12)]
    assert list(axis_labels(fig.axes[0])) == [words[:9], words[:9]]
    assert list(axis_labels(fig.axes[1])) == [words[:9], []]  # rows are labelled only at the left
    assert list(axis_labels(fig.axes[3])) == [words, words]
    plt.close(fig)
    _, fig = drawn(options.changed(components=["query"]), [states(tokens=200)])
    below, left = axis_labels(fig.axes[0])
    assert below == left == [str(place) for place in range(0, 200, 20)]
    plt.close(fig)
    _, fig = drawn(options.changed(bins=9), [states(tokens=41)])
    below, _ = axis_labels(fig.axes[0])
    assert below == ["0", *map(str, range(1, 41, 5))]
    plt.close(fig)


def test_labels_neither_overlap_nor_leave_the_figure():
    for tokens, wanted in ((30, "tokens"), (90, "tokens"), (256, "positions")):
        _, fig = drawn(
            OPTIONS.changed(bins=64, tick_labels=wanted, components=["query"]),
            [states(tokens=tokens)],
        )
        for ax in fig.axes[:1]:
            for axis, ends in ((ax.xaxis, ("x0", "x1")), (ax.yaxis, ("y0", "y1"))):
                boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
                spans = sorted(tuple(getattr(box, end) for end in ends) for box in boxes)
                for (_, end), (start, _) in pairwise(spans):
                    assert end <= start + 0.5
                for box in boxes:
                    assert box.x0 >= 0
                    assert box.y0 >= 0
        plt.close(fig)


@pytest.mark.parametrize(
    ("token", "shown"),
    [(" lamp", "lamp"), ("\n", "\\n"), (" ", "␣"), ("$x$", "$x$"), ("x" * 30, "x" * 13 + "…")],
)
def test_any_token_can_be_a_label(token, shown):
    options = OPTIONS.changed(tick_labels="tokens", components=["query"])
    _, fig = drawn(options, [states(tokens=5)], key_token=token)
    below, _ = axis_labels(fig.axes[0])
    assert below == [shown] * 5
    plt.close(fig)
