"""Figures for the page of a venue, read back from their files."""

import re
import xml.etree.ElementTree as ET
from itertools import product

import numpy as np
import pandas as pd
import pytest

import planted
from drawn_figures import PROTOCOL, cells, probe_scores
from drawn_texts import find_faults, read_size
from llm_figures.attention import figure as attention
from llm_figures.claims import choices_figure
from llm_figures.claims.options import ChoicesDrawing
from llm_figures.comparison.figure import find_drawing
from llm_figures.core.options_reader import read_options
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as modules
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import drawing_style, save
from llm_figures.plotting.layout import draw_to_fit
from llm_figures.plotting.style import Style
from llm_figures.plotting.venues import VENUES
from llm_figures.probe import curves_figure, presets_figure
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
    both = pd.concat([plant_probe(layers).assign(preset=name) for name in PRESETS])
    shared = {key: options["probe_auc"][key] for key in ("metric", "palette", "limits")}
    drawn = presets_figure.OPTIONS.model_validate({**shared, "protocols": PRESETS})
    return presets_figure.draw(both, drawn)


def draw_comparison(name, plant):
    def draw(layers, options):
        drawing = find_drawing(name)
        own = {**options[name], **({"tokens": TOKENS["strict"]} if name == "probe_auc" else {})}
        if name == "module_map":
            own = ModuleMap.model_validate(own).of_metric("operation_strength").plain()
        tables = {model: plant(layers, options) for model in MODELS}
        return drawing.draw(tables, read_options(drawing.OPTIONS, own, name))

    return draw


# {figure: function of the number of layers and all figures' options}
BY_LAYER = {
    "probe_auc": lambda layers, options: probe.draw(
        plant_probe(layers), with_protocol(probe, options["probe_auc"], TOKENS["strict"])
    ),
    "probe_curves": lambda layers, options: curves_figure.draw(
        plant_probe(layers), with_protocol(curves_figure, options["probe_curves"], KEY_TOKENS)
    ),
    "probe_presets": draw_presets,
    "module_map": lambda layers, options: modules.draw(
        plant_modules(layers),
        ModuleMap.model_validate(options["module_map"]).of_metric("operation_strength"),
    ),
    "compare probe_auc": draw_comparison("probe_auc", lambda layers, _: plant_probe(layers)),
    "compare module_map": draw_comparison("module_map", lambda layers, _: plant_modules(layers)),
}
OTHERS = {
    "mean_qkv": draw_attention("mean_qkv"),
    "scale_qkv": draw_attention("scale_qkv"),
    "choices": lambda layers, options: choices_figure.draw(
        planted.choices(layers), ChoicesDrawing()
    ),
    "compare mean_qkv": draw_comparison(
        "mean_qkv", lambda layers, options: plant_cells("mean_qkv", options)
    ),
}
CASES = [
    *product(BY_LAYER, PAGES, (12, 32, 80)),
    *product(OTHERS, PAGES, (80,)),  # whose maps do not depend on the number of layers
]


@pytest.mark.parametrize(("name", "page", "layers"), CASES)
def test_every_text_is_legible_on_a_page(options, tmp_path, name, page, layers):
    style = Style(**PAGES[page], dpi=200)
    draw = {**BY_LAYER, **OTHERS}[name]
    files = [tmp_path / "figure.svg", tmp_path / "figure.pdf"]
    with drawing_style(style):
        save(draw_to_fit(name, lambda: draw(layers, options)), files)
    svg = ET.parse(files[0]).getroot()
    assert find_faults(svg) == []
    width, height = read_size(svg)
    assert width == pytest.approx(72 * style.inches, abs=0.5)
    assert height <= 72 * VENUES[page].height + 0.5
    pdf = files[1].read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert [float(side) for side in box.groups()] == pytest.approx([width, height], abs=0.5)
    assert len(pdf) < 500_000
    fonts = set(re.findall(rb"/Subtype /(Type\w+|CIDFont\w+|TrueType)", pdf))
    assert fonts
    assert fonts <= {b"Type0", b"Type42", b"CIDFontType2", b"TrueType"}
    assert b"/FontFile2" in pdf
