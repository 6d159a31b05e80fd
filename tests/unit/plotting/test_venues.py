"""Figures for the page of a venue, read back from their files."""

import json
import re
import xml.etree.ElementTree as ET
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import planted
import resampled
from drawn_figures import PROTOCOL, cells, head_scores, probe_scores
from drawn_texts import find_faults, read_panels, read_size, read_texts
from llm_figures.attention import figure as attention
from llm_figures.attention import sink_figure
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.sinks import score_sinks
from llm_figures.claims import choices_figure
from llm_figures.claims.options import ChoicesDrawing
from llm_figures.comparison.figure import find_drawing
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as modules
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.layout import draw_to_fit, find_problem, make_figure
from llm_figures.plotting.saving import save
from llm_figures.plotting.style import Style
from llm_figures.plotting.venues import VENUES
from llm_figures.probe import curves_figure, heads_figure, presets_figure
from llm_figures.probe import figure as probe
from llm_figures.probe.protocol import KEY_TOKENS, PRESETS, TOKENS

PAGES = {
    "icml": {"venue": "icml", "width": "column"},
    "neurips": {"venue": "neurips", "width": "full"},
    "nature": {"venue": "nature", "width": "89mm"},
}
MODELS = ("SmolLM2-135M-Instruct", "a_model-of.32-layers", "Llama-3.1-70B-Instruct")
WORDS = ["The", "extraordinarily_long", " lighthouse", " keeper", "\n", "ing", "."]


def plant_modules(layers):
    random = np.random.default_rng(layers)
    return planted.module_figure({name: random.uniform(size=layers) for name in PROJECTIONS})


def plant_probe(layers):
    return probe_scores(layers + 1, TOKENS["strict"])


def plant_cells(name, options):
    table = cells(name, options[name], tokens=len(WORDS))
    return table.assign(key_token=[WORDS[position] for position in table["key_position"]])


def with_protocol(module, options, tokens):
    return module.OPTIONS.model_validate({**options, **PROTOCOL, "tokens": tokens})


def draw_attention(name):
    def draw(layers, options):
        labelled = {**options[name], "tick_labels": "tokens"}
        return attention.draw(plant_cells(name, options), attention.OPTIONS(**labelled))

    return draw


def draw_presets(layers, options):
    every = pd.concat([plant_probe(layers).assign(preset=name) for name in PRESETS])
    shared = {key: options["probe_auc"][key] for key in ("metric", "palette", "limits")}
    drawn = presets_figure.OPTIONS.model_validate({**shared, "protocols": PRESETS})
    return presets_figure.draw(every, drawn)


def draw_planted(module, table, options):
    return module.draw(table, options)


def draw_comparison(name, plant):
    def draw(layers, options):
        drawing = find_drawing(name)
        own = {**options[name], **({"tokens": TOKENS["strict"]} if name == "probe_auc" else {})}
        if name == "module_map":
            own = ModuleMap.model_validate(own).of_metric("operation_strength").plain()
        tables = {model: plant(layers, options) for model in MODELS}
        return drawing.draw(tables, read_options(drawing.OPTIONS, own, name))

    return draw


def draw_sinks(layers, options):
    random = np.random.default_rng(layers)
    states = [
        LayerStates(
            1, layer, random.normal(size=(layers // 2, 9, 4)), random.normal(size=(2, 9, 4)), 1.0,
            value_norm=random.uniform(1, 900, size=(2, 9)), model_layers=layers,
        )
        for layer in range(layers)
    ]  # fmt: skip
    own = sink_figure.OPTIONS.model_validate(options["sink_map"])
    return sink_figure.draw(score_sinks(states, own), own)


# {figure: function of the number of layers and all figures' options}
BY_LAYER = {
    "sink_map": draw_sinks,
    "probe_auc": lambda layers, options: probe.draw(
        plant_probe(layers), with_protocol(probe, options["probe_auc"], TOKENS["strict"])
    ),
    "probe_curves": lambda layers, options: curves_figure.draw(
        plant_probe(layers), with_protocol(curves_figure, options["probe_curves"], KEY_TOKENS)
    ),
    "probe_heads": lambda layers, options: heads_figure.draw(
        head_scores(layers, 32), heads_figure.OPTIONS(token="last_q", **PROTOCOL)
    ),
    "probe_presets": draw_presets,
    "module_map": lambda layers, options: modules.draw(
        plant_modules(layers),
        ModuleMap.model_validate(options["module_map"]).of_metric("operation_strength"),
    ),
    "error_kinds": lambda layers, _: draw_planted(*resampled.plant_kinds(layers)),
    "compare probe_auc": draw_comparison("probe_auc", lambda layers, _: plant_probe(layers)),
    "compare module_map": draw_comparison("module_map", lambda layers, _: plant_modules(layers)),
}
OTHERS = {
    "mean_qkv": draw_attention("mean_qkv"),
    "scale_qkv": draw_attention("scale_qkv"),
    "choices": lambda layers, options: choices_figure.draw(
        planted.choices(layers), ChoicesDrawing()
    ),
    "answer_choice": lambda layers, options: draw_planted(*resampled.plant_choice()),
    "compare mean_qkv": draw_comparison(
        "mean_qkv", lambda layers, options: plant_cells("mean_qkv", options)
    ),
}
CASES = [
    *product(BY_LAYER, PAGES, (12, 80)),
    *(pytest.param(*case, 32, marks=pytest.mark.slow) for case in product(BY_LAYER, PAGES)),
    *product(OTHERS, PAGES, (80,)),  # whose maps do not depend on the number of layers
]


def measure_panels(fig):
    """The shorter side of every panel in inches, without colour bars."""
    fig.draw_without_rendering()
    shown = [ax for ax in fig.axes if ax.get_visible() and not hasattr(ax, "_colorbar")]
    return [min(ax.get_position().size * fig.get_size_inches()) for ax in shown]


@pytest.mark.parametrize("name", [*BY_LAYER, *OTHERS])
def test_a_figure_of_its_own_size_grows_with_the_font(options, name):
    draw, sides = {**BY_LAYER, **OTHERS}[name], {}
    for size in (9, 4, 15, 24):
        with drawing_style(Style(font_size=size, dpi=200)):
            fig = draw_to_fit(name, lambda: draw(12, options))
            sides[size] = measure_panels(fig)
            if size > 9:
                assert find_problem(fig, on_page=False) == ""
            plt.close(fig)
    for size, measured in sides.items():
        for before, after in zip(sides[9], measured, strict=True):
            assert after >= 0.9 * before * max(1, size / 9)


def test_a_font_for_which_no_figure_is_large_enough_is_refused():
    def draw():
        fig = make_figure((4, 4), 4)
        fig.text(0.1, 0.5, "one")
        fig.text(0.1, 0.5, "other")
        return fig

    message = (
        r"^lines: in 15 pt 'one' and 'other' would overlap \(config: style.font_size\); take a "
        "smaller font, or set a style.width$"
    )
    with drawing_style(Style(font_size=15)), pytest.raises(UserError, match=message):
        draw_to_fit("lines", draw)
    with drawing_style(Style()):
        draw_to_fit("lines", draw)  # as it always was


def make(name, style, layers, options, folder):
    """Draw a figure in a style; its files by kind, and the notes on its panels."""
    files = {kind: folder / f"figure.{kind}" for kind in ("svg", "pdf")}
    draw = {**BY_LAYER, **OTHERS}[name]
    with drawing_style(style):
        fig = draw_to_fit(name, lambda: draw(layers, options))
        save(fig, list(files.values()), folder / "panels.json")
    return files, json.loads((folder / "panels.json").read_text())["panels"]


@pytest.mark.parametrize(("name", "page", "layers"), CASES)
def test_every_text_is_legible_on_a_page(options, tmp_path, name, page, layers):
    style = Style(**PAGES[page], dpi=200)
    files, notes = make(name, style, layers, options, tmp_path)
    svg = ET.parse(files["svg"]).getroot()
    assert find_faults(svg) == []
    width, height = read_size(svg)
    assert width == pytest.approx(72 * style.inches, abs=0.5)
    assert height <= 72 * VENUES[page].height + 0.5
    # the report's pointer finds the heatmaps
    drawn = [tuple(box.min(axis=0)) + tuple(box.max(axis=0)) for box in read_panels(svg).values()]
    for note in notes:
        box = np.array(note["box"]) * (width, height, width, height)
        assert any(np.allclose(box, other, atol=0.1) for other in drawn), note["title"]
    pdf = files["pdf"].read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert [float(side) for side in box.groups()] == pytest.approx([width, height], abs=0.5)
    assert len(pdf) < 500_000
    # Type 42: TrueType outlines, no drawn glyphs (Type 3)
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_a_page_has_the_fonts_and_titles_of_its_venue(options, tmp_path):
    files, _ = make("mean_qkv", Style(venue="icml"), 12, options, tmp_path)
    texts = list(read_texts(ET.parse(files["svg"]).getroot()))
    assert {text.words for text in texts} >= {"Query", "Key", "Value", "Input 1", "Input 3"}
    assert not [text.words for text in texts if "Mean" in text.words]  # the caption says it
    assert {text.size for text in texts} == {6.0, 8.0}
    assert b"STIXGeneral" in files["pdf"].read_bytes()
    own = Style(venue="icml", font="DejaVu Serif", font_size=9)
    files, _ = make("mean_qkv", own, 12, options, tmp_path)
    texts = list(read_texts(ET.parse(files["svg"]).getroot()))
    assert {text.size for text in texts} == {7.0, 9.0}
    assert b"STIXGeneral" not in files["pdf"].read_bytes()


def test_a_figure_too_narrow_to_read_names_the_least_width(options, tmp_path):
    """And at that width it can be drawn."""
    with pytest.raises(
        UserError, match=r"^probe_auc: at a width of 1.57in .*config: style"
    ) as refused:
        make("probe_auc", Style(width="4cm"), 12, options, tmp_path)
    assert not list(tmp_path.iterdir())
    least = re.search(r"from about ([\d.]+in) \(", str(refused.value))[1]
    files, _ = make("probe_auc", Style(width=least), 12, options, tmp_path)
    assert find_faults(ET.parse(files["svg"]).getroot()) == []


def test_labels_of_six_texts_give_way_to_positions_on_a_low_page(options, tmp_path):
    """Tokens are readable on maps of the page's width, which are too high for the page."""
    table = cells("mean_qkv", options["mean_qkv"], inputs=6, tokens=len(WORDS))
    table = table.assign(key_token=[WORDS[position] for position in table["key_position"]])
    labelled = attention.OPTIONS(**{**options["mean_qkv"], "tick_labels": "tokens"})
    style = Style(venue="nature", width="full", dpi=200)
    with drawing_style(style):
        fig = draw_to_fit("mean_qkv", lambda: attention.draw(table, labelled))
        save(fig, [tmp_path / "figure.svg"])
    svg = ET.parse(tmp_path / "figure.svg").getroot()
    assert find_faults(svg) == []
    words = [text.words for text in read_texts(svg)]
    assert words.count("6") >= 9
    assert "keeper" not in words
    maps = [np.ptp(box, axis=0) for box in read_panels(svg).values()][:18]
    assert min(side for size in maps for side in size) > 60  # points


@pytest.mark.parametrize("count", [2, 6])
def test_maps_of_several_models_fill_the_page(options, tmp_path, count):
    drawing = find_drawing("mean_qkv")
    chosen = read_options(drawing.OPTIONS, options["mean_qkv"], "mean_qkv")
    tables = {f"model-{index}": plant_cells("mean_qkv", options) for index in range(count)}
    with drawing_style(Style(venue="icml", dpi=200)):
        fig = draw_to_fit("mean_qkv", lambda: drawing.draw(tables, chosen))
        save(fig, [tmp_path / "figure.svg"])
    svg = ET.parse(tmp_path / "figure.svg").getroot()
    width, _ = read_size(svg)
    assert max(text.box[:, 0].max() for text in read_texts(svg)) > width - 10


@pytest.mark.parametrize("layers", [2, 80])
def test_colour_bars_are_equally_broad(options, layers):
    with drawing_style(Style(venue="icml")):
        fig = draw_to_fit("probe_auc", lambda: BY_LAYER["compare probe_auc"](layers, options))
        bar = fig.axes[-1].get_window_extent()
    assert bar.width / fig.dpi == pytest.approx(0.1, abs=0.03)


def test_what_no_width_makes_legible_is_refused():
    def draw():
        fig = make_figure((4, 40), 40)
        for line in range(200):
            fig.text(0.1, (line + 0.5) / 220, str(line))
        return fig

    message = (
        "^lines: '0' and '1' would overlap on a page 6.69in high, whatever the width .*; show few"
    )
    with drawing_style(Style(venue="nature")), pytest.raises(UserError, match=message):
        draw_to_fit("lines", draw)


@pytest.mark.parametrize(
    ("venue", "width", "inches", "spans"),
    [
        ("default", None, None, False),
        ("default", "3.25in", 3.25, False),
        ("neurips", "column", 5.5, False),
        ("iclr", "full", 5.5, False),
        ("icml", None, 3.25, False),
        ("icml", "full", 6.75, True),
        ("acl", "column", 7.7 / 2.54, False),
        ("acl", "10cm", 10 / 2.54, True),
        ("aaai", "full", 7.0, True),
        ("nature", "89 mm", 89 / 25.4, False),
        ("icml", "234.8775pt", 3.25, False),
        ("icml", "234bp", 3.25, False),
    ],
)
def test_widths_are_those_of_the_venue_or_as_given(venue, width, inches, spans):
    style = Style(venue=venue, width=width)
    assert style.inches == (inches and pytest.approx(inches))
    assert style.spans_columns == spans


@pytest.mark.parametrize("page", [{"venue": "icml"}, {"width": "3in"}], ids=str)
def test_a_font_too_small_for_a_page_is_refused(page):
    assert Style(font_size=5).font_size == 5
    with pytest.raises(ValidationError, match="must be at least 6"):
        Style(**page, font_size=5)


def test_large_heatmaps_are_images_in_a_small_pdf(options, tmp_path):
    table = cells("mean_qkv", options["mean_qkv"], tokens=64)
    with drawing_style(Style(dpi=200)):
        fig = attention.draw(table, attention.OPTIONS(**options["mean_qkv"]))
        save(fig, [tmp_path / "figure.pdf"])
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Subtype /Image" in pdf
    assert len(pdf) < 500_000
