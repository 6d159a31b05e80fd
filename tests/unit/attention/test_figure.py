"""The panels of an attention figure: clean ones, masked cells, titles, and tokens by name."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from drawn_figures import drawn, texts
from llm_figures.attention import figure as attention_figure
from llm_figures.attention.interventions import CLEAN
from llm_figures.attention.maps import LayerStates, bin_edges, compute_mean_map, find_masked
from llm_figures.attention.options import AttentionFigure, MeanQkv, MeanQkvTokens, ScaleQkv
from llm_figures.attention.scores import compute_cells, list_panels
from llm_figures.claims.panels import compute_maps, read_maps
from llm_figures.comparison.figure import find_drawing
from llm_figures.notebook.plots import plot_attention_map
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.finite import check_drawn
from llm_figures.plotting.saving import save
from llm_figures.plotting.style import Style
from llm_figures.provenance.summaries import summarise_attention

WORDS = ["The", " lamp", " ", " was", "</b>", " lit"]


def states(index, **changes):
    random, shape = np.random.default_rng(index), (2, len(WORDS), 4)
    query, key = random.normal(size=shape), random.normal(size=shape)
    return LayerStates(index, 0, query, key, 0.5, tokens=WORDS, **changes)


TEXTS = [states(1), states(2)]
KINDS = {"mean": MeanQkv(), "scale": ScaleQkv(epsilon=(0.5, 0.1))}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_published_figures_have_no_clean_panels_and_others_have():
    assert [kind().clean for kind in (MeanQkv, MeanQkvTokens, ScaleQkv)] == [False] * 3
    assert AttentionFigure().clean


def compute(options, scope="layer"):
    options = options.changed(scope=scope)
    intervened = None
    if scope == "model":
        intervened = {
            (0, text, intervention): TEXTS[text - 1].intervene(intervention)
            for _, _, text, intervention in list_panels(options, len(TEXTS))
        }
    return options, compute_cells("mine", options, TEXTS, intervened)


@pytest.mark.parametrize("scope", ["layer", "model"])
@pytest.mark.parametrize("kind", KINDS)
def test_clean_panels_stand_left_of_the_others_which_stay_the_same(kind, scope):
    _, without = compute(KINDS[kind], scope)
    options, cells = compute(KINDS[kind].changed(clean=True), scope)
    clean = cells["component"] == CLEAN
    others = cells[~clean].reset_index(drop=True)
    moved = without.assign(panel_column=without["panel_column"] + 1)
    pd.testing.assert_frame_equal(others, moved)
    assert set(cells.loc[clean, "panel_column"]) == {0}
    assert set(cells.loc[clean, "panel_row"]) == set(others["panel_row"])
    assert cells.loc[clean, "epsilon"].isna().all()
    for (_, text), panel in cells[clean].groupby(["panel_row", "input"]):
        own = TEXTS[text - 1]
        shown = panel.pivot(index="query_position", columns="key_position", values="weight")
        np.testing.assert_array_equal(shown, compute_mean_map(own, bin_edges(len(WORDS), None)))
    # what is said and claimed of the interventions is the same
    computed = compute_maps(options.changed(layer=0, scope="layer"), TEXTS)
    assert read_maps(cells).keys() == read_maps(without).keys() == computed.keys()
    assert summarise_attention(cells) == summarise_attention(without)
    numbers, before = (attention_figure.state_numbers(table, options) for table in (cells, without))
    for name, number in before.items():
        assert numbers[name].text == number.text, name
    added = {
        "scale": {"clean_sink", "clean_distance"},
        "mean": {f"text_{n}_clean_{what}" for n in (1, 2) for what in ("sink", "distance")},
    }
    assert numbers.keys() - before.keys() == added[kind]
    caption = attention_figure.describe(cells, "m", options)
    assert " The first column is the clean model." in caption
    assert "clean model." not in attention_figure.describe(without, "m", KINDS[kind])


def test_clean_panels_are_titled_and_headed(tmp_path):
    _, cells = compute(KINDS["mean"].changed(clean=True))
    words = " ".join(texts(drawn(attention_figure.draw, cells, KINDS["mean"], tmp_path)))
    assert words.count("Clean Model (Input") == 2
    assert attention_figure.label_panels(cells) == (
        ["Clean", "*Query*", "*Key*", "*Value*"], ["Input 1", "Input 2"]
    )  # fmt: skip
    _, cells = compute(KINDS["scale"].changed(clean=True))
    words = " ".join(texts(drawn(attention_figure.draw, cells, KINDS["scale"], tmp_path)))
    assert words.count("Clean Model") == 3
    assert attention_figure.label_panels(cells) == (
        ["Clean", "ε = 5e-1", "ε = 1e-1"], ["Query", "Key", "Value"]
    )  # fmt: skip
    compared = find_drawing("scale_qkv").draw({"a": cells, "b": cells}, KINDS["scale"])
    assert [text.get_text() for text in compared.texts].count("Clean") == 2
    ax = plot_attention_map(cells, component="clean", cbar=False)
    assert ax.panel[1].shape == (len(WORDS), len(WORDS))


def test_titles_may_be_left_out(tmp_path):
    for kind, heads in (("mean", {"Query", "Value", "Input 1", "Input 2"}),
                        ("scale", {"ε = 5e-1", "ε = 1e-1", "Query", "Value"})):  # fmt: skip
        options, cells = compute(KINDS[kind].changed(titles=False))
        shown = texts(drawn(attention_figure.draw, cells, options, tmp_path))
        assert heads <= set(shown)
        assert not [text for text in shown if "The" in text or "Modifying" in text]
    compared = find_drawing("mean_qkv")
    tables = {"a": compute(KINDS["mean"])[1]}
    with_title, without = (
        texts(drawn(compared.draw, tables, KINDS["mean"].changed(titles=titles), tmp_path))
        for titles in (True, False)
    )
    assert "The Mean Operation For" in with_title
    assert "The Mean Operation For" not in without


CHUNKS = np.where(np.arange(6)[:, None] // 3 == np.arange(6) // 3, 0.0, -np.inf)
CHUNKS = np.where(np.tril(np.ones((6, 6))), CHUNKS, -np.inf)[None]


@pytest.mark.parametrize("bins", [6, 3])
@pytest.mark.parametrize(
    "changes", [{}, {"window": 2}, {"bias": CHUNKS}], ids=["causal", "window", "bias"]
)
def test_a_cell_is_masked_where_no_query_may_attend_to_a_key(changes, bins):
    own, edges = states(1, **changes), bin_edges(6, bins)
    weights = own.compute_weights().mean(axis=0)
    expected = [
        [(weights[a:b, c:d] == 0).all() for c, d in itertools.pairwise(edges)]
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_array_equal(find_masked(own, edges), expected)


def test_masked_cells_are_grey_if_asked_for_and_the_caption_says_so():
    options = KINDS["mean"].changed(masked="grey")
    cells = compute_cells("mine", options, [states(1, window=3), states(2, window=3)])
    fig = attention_figure.draw(cells, options)
    _, values = fig.axes[0].panel
    place = np.arange(len(WORDS))
    distance = place[:, None] - place
    np.testing.assert_array_equal(values.isna(), (distance < 0) | (distance >= 3))
    caption = attention_figure.describe(cells, "m", options)
    assert " Grey: keys that the queries cannot attend to." in caption
    check_drawn(fig, caption, "mine")
    tables = {"a": cells, "b": cells}
    compared = find_drawing("mean_qkv")
    assert compared.draw(tables, options).axes[0].panel[1].isna().any(axis=None)
    check_drawn(compared.draw(tables, options), compared.describe(tables, options), "mean_qkv")
    zero = attention_figure.draw(cells, KINDS["mean"])
    assert zero.axes[0].panel[1].notna().all(axis=None)
    assert "Grey" not in attention_figure.describe(cells, "m", KINDS["mean"])
    # files of earlier versions have no such column, and those before them no counts
    older = cells.drop(columns=["masked", "query_count", "key_count"])
    values = attention_figure.draw(older, options).axes[0].panel[1]
    np.testing.assert_array_equal(values.isna(), distance < 0)


def test_the_notes_on_a_panel_name_the_tokens(tmp_path):
    """They are for the report's pointer; in bins several tokens share a place."""
    with drawing_style(Style()):
        fig = attention_figure.draw(compute(KINDS["mean"])[1], KINDS["mean"])
        save(fig, [tmp_path / "a.svg"], tmp_path / "a.json")
    panels = pd.read_json(tmp_path / "a.json")["panels"]
    for panel in panels:
        assert panel["rows"] == [str(place) for place in range(len(WORDS))]
        assert panel["row_names"] == panel["column_names"]
        assert panel["row_names"] == ["The", "lamp", "␣", "was", "</b>", "lit"]
    options = KINDS["mean"].changed(bins=3)
    fig = attention_figure.draw(compute_cells("mine", options, TEXTS), options)
    assert fig.axes[0].panel_names == {}
    unknown = compute(KINDS["mean"])[1].assign(query_token="", key_token="")
    with drawing_style(Style()):
        save(attention_figure.draw(unknown, KINDS["mean"]), [], tmp_path / "a.json")
    assert "row_names" not in pd.read_json(tmp_path / "a.json")["panels"][0]
