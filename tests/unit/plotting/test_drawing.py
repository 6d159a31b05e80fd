"""Figures read back from their SVG: titles, ticks, order, and text that stays text."""

import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from drawn_figures import (
    PROTOCOL,
    STYLE,
    SVG,
    cells,
    drawn,
    probe_scores,
    texts,
    with_details,
    with_nested,
)
from llm_figures.attention import figure as attention_figure
from llm_figures.attention.figure import format_epsilon
from llm_figures.attention.options import AttentionFigure
from llm_figures.comparison.figure import find_drawing
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as module_figure
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import (
    add_colour_bar,
    choose_tick_step,
    draw_heatmap,
    drawing_style,
    find_colour_map,
    save,
)
from llm_figures.plotting.layout import draw_to_fit
from llm_figures.plotting.style import Style
from llm_figures.probe import curves_figure
from llm_figures.probe import figure as probe_figure
from llm_figures.probe.controls import CONTROLS
from llm_figures.probe.figure import find_highlighted_layers
from llm_figures.probe.protocol import OUTPUT_AND_GROUP, TOKENS


def drawn_options(module, options, **changes):
    """The options of a probe's figure as an object, with the strict protocol."""
    return module.OPTIONS.model_validate({**options, **PROTOCOL, **changes})


def attention(options, name):
    return read_options(AttentionFigure, options[name], name)


def titles(root):
    """{prefix of the id: title}, pieces joined in order, italic ones starred."""
    found: dict[str, list[str]] = {}
    for group in root.iter(f"{SVG}g"):
        if match := re.fullmatch(r"(.*title)-(\d+)", group.get("id", "")):
            text = next(group.iter(f"{SVG}text"))
            words = "".join(text.itertext()).strip()
            italic = "italic" in (text.get("style") or "")
            found.setdefault(match[1], []).append(f"*{words}*" if italic else words)
    return {name: re.sub(r" ([,.])", r"\1", " ".join(parts)) for name, parts in found.items()}


def test_the_mean_figure_has_the_published_titles(options, tmp_path):
    table = cells("mean_qkv", options["mean_qkv"])
    svg = drawn(attention_figure.draw, table, attention(options, "mean_qkv"), tmp_path)
    found = titles(svg)
    assert found.pop("figure-title") == "The Mean Operation For *Query*, *Key* and *Value*"
    assert found == {
        f"panel-{row}-{column}-title": f"Taking the Mean of *{name}* (Input {row + 1})"
        for row in range(3)
        for column, name in enumerate(("Query", "Key", "Value"))
    }
    assert [text for text in texts(svg) if re.fullmatch(r"[\d.]+", text)] == [
        "0.0",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "1.0",
    ]
    assert "Attention Weight" in texts(svg)
    places = title_places(svg)
    for row in range(3):
        for column in range(3):
            x, y = places[f"panel-{row}-{column}-title"]
            if column:
                assert x > places[f"panel-{row}-{column - 1}-title"][0]
            if row:
                assert y > places[f"panel-{row - 1}-{column}-title"][1]
            assert y < places["figure-title"][1]
    ticks = positions(svg, ["0.0", "1.0"])
    assert ticks["0.0"][0] > max(x for x, _ in places.values())
    assert ticks["1.0"][1] < ticks["0.0"][1]
    centre = float(svg.get("width").removesuffix("pt")) / 2
    assert 0.3 * centre < places["figure-title"][0] < centre  # begins left of the middle
    # The palette: the first token's weight on itself is 1, the warm end.
    assert "#b40426" in ET.tostring(svg, encoding="unicode")


def title_places(root):
    """{prefix of the id: (x, y)} of each title's first piece, y growing downwards."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        if match := re.fullmatch(r"(.*title)-0", group.get("id", "")):
            text = next(group.iter(f"{SVG}text"))
            found[match[1]] = (float(text.get("x")), float(text.get("y")))
    return found


def test_the_title_of_the_control_names_its_axis(options, tmp_path):
    table = cells("mean_qkv_tokens", options["mean_qkv_tokens"])
    svg = drawn(attention_figure.draw, table, attention(options, "mean_qkv_tokens"), tmp_path)
    title = titles(svg)["figure-title"]
    assert title == "The Mean Operation over Tokens For *Query*, *Key* and *Value*"


def test_the_scale_figure_has_the_published_titles(options, tmp_path):
    table = cells("scale_qkv", options["scale_qkv"])
    found = titles(drawn(attention_figure.draw, table, attention(options, "scale_qkv"), tmp_path))
    title = "The Attention Weight after Modifying Query, Key and Value"
    assert found.pop("figure-title") == title
    assert found == {
        f"panel-{row}-{column}-title": f"Modifying {name} with ε = {epsilon}"
        for row, name in enumerate(("Query", "Key", "Value"))
        for column, epsilon in enumerate(("5e-1", "1e-3", "1e-10"))
    }


def positions(root, wanted):
    """(x, y) of ticks' labels in the SVG, by text."""
    found = {}
    for text in root.iter(f"{SVG}text"):
        label = "".join(text.itertext()).strip()
        if label in wanted:
            numbers = re.findall(r"-?[\d.]+", text.get("transform", ""))
            x, y = text.get("x"), text.get("y")
            if x is None:
                x, y = re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", text.get("transform"))[0]
            assert numbers or x
            found.setdefault(label, (float(x), float(y)))
    return found


def test_the_probe_figure_counts_layers_from_the_top_every_two(options, tmp_path):
    tokens = TOKENS["strict"]
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=tokens)
    table = probe_scores(33, tokens)
    svg = drawn(probe_figure.draw, table, probe, tmp_path)
    found = texts(svg)
    tokens = [token.replace("-", "−") for token in tokens]
    assert {"Token", "Layer", "AUC", *tokens} <= set(found)
    ticks = [text for text in found if re.fullmatch(r"\d+", text)]
    assert ticks == [str(layer) for layer in range(0, 33, 2)]
    heights = [positions(svg, ticks)[tick][1] for tick in ticks]
    assert heights == sorted(heights)
    lefts = [positions(svg, tokens)[token][0] for token in tokens]
    assert lefts == sorted(lefts)
    assert [text for text in found if re.fullmatch(r"\d\.\d", text)] == [
        "0.5",
        "0.6",
        "0.7",
        "0.8",
        "0.9",
        "1.0",
    ]
    rectangle = next(group for group in svg.iter(f"{SVG}g") if group.get("id") == "highlight")
    numbers = [float(n) for n in re.findall(r"[\d.]+", next(rectangle.iter(f"{SVG}path")).get("d"))]
    xs, ys = numbers[::2], numbers[1::2]
    step = (heights[-1] - heights[0]) / 32
    mesh = next(group for group in svg.iter(f"{SVG}g") if group.get("id") == "cells-1")
    cells = [
        [float(n) for n in re.findall(r"[\d.]+", path.get("d"))] for path in mesh.iter(f"{SVG}path")
    ]
    top, left = min(min(c[1::2]) for c in cells), min(min(c[::2]) for c in cells)
    assert (min(ys) - top) / step == pytest.approx(4, abs=0.01)
    assert (max(ys) - min(ys)) / step == pytest.approx(25, abs=0.01)  # layers 4 to 28
    width = (lefts[-1] - lefts[0]) / 13
    assert (max(xs) - min(xs)) / width == pytest.approx(13, abs=0.2)  # first_answer to -1
    assert (min(xs) - left) / width == pytest.approx(1, abs=0.2)


def test_the_rectangle_scales_with_the_depth_or_is_given_in_layers():
    assert find_highlighted_layers(["12.5%", "87.5%"], 32) == (4, 28)
    assert find_highlighted_layers(["12.5%", "87.5%"], 80) == (10, 70)
    assert find_highlighted_layers([4, 28], 80) == (4, 28)


def test_an_empty_cell_and_another_order_of_tokens(options, tmp_path):
    tokens = ["-1", "last_q"]
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=tokens, highlight=None)
    table = probe_scores(4, ["last_q", "-1"])
    table.loc[table["token"] == "-1", "mean"] = np.nan
    svg = drawn(probe_figure.draw, table, probe, tmp_path)
    at = positions(svg, ["−1", "last_q"])
    assert at["−1"][0] < at["last_q"][0]
    assert "Too few answers for a score (grey): -1." in probe_figure.describe(table, "m", probe)
    table["mean"] = np.nan
    assert "ighest of" not in probe_figure.describe(table, "m", probe)


def test_the_caption_names_the_highest_cell_and_what_explains_it(options):
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=["-1", "last_q"])
    table = probe_scores(4, ["last_q", "-1"]).assign(mean=0.6)
    table.loc[table["token"] == "-1", "n"] = 900
    best = (table["layer"] == 2) & (table["token"] == "last_q")
    table.loc[best & (table["control"] == "none"), ["mean", "ci_low", "ci_high"]] = 0.9, 0.85, 0.95
    table.loc[best & (table["control"] == "group_only"), "mean"] = 0.77
    text = probe_figure.describe(table, "m", probe)
    assert "The highest of 8 cells: layer 2, last_q: 0.900 [0.850, 0.950];" in text
    assert "group alone 0.770" in text
    assert "Each cell has 1,000 answers (-1: 900)." in text
    assert "No control explains the highest cell" in text
    assert "6 of 6 cells are above the embeddings" in text
    assert "8 of 8 cells are above labels shuffled within group" in text
    table.loc[best & (table["control"] == "group_only"), "gain_low"] = -0.01
    explained = probe_figure.describe(table, "m", probe)
    assert "The highest cell is explained by the group of the question alone:" in explained
    # Without an interval there is no evidence of a difference either.
    table.loc[best & (table["control"] == "embeddings"), "gain_low"] = np.nan
    assert "explained by the token itself" in probe_figure.describe(table, "m", probe)


def test_the_caption_says_how_often_labels_are_shuffled_and_which_errors_are_detected(options):
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=["-1", "last_q"])
    once = probe_figure.describe(with_nested(probe_scores(4, ["last_q", "-1"])), "m", probe)
    assert "Labels are shuffled once in each fold, so these controls scatter." in once
    assert "name no option" not in once
    text = probe_figure.describe(with_details(probe_scores(4, ["last_q", "-1"])), "m", probe)
    assert "labels shuffled 0.700 ± 0.004" in text
    assert (
        "There labels are shuffled 20 times in each fold (±: standard deviation from one time to "
        "the next), in all other cells once." in text
    )
    assert (
        "Of wrong answers against right ones the AUC is 0.954 [0.914, 0.994] for those that name "
        "no option and 0.583 [0.543, 0.623] for all others." in text
    )


WITHIN = "shuffled_within_group"


def described(options, table, **protocol):
    """The captions of probe_auc and probe_curves."""
    found = []
    for module, name in ((probe_figure, "probe_auc"), (curves_figure, "probe_curves")):
        shown = drawn_options(module, options[name], tokens=["-1", "last_q"])
        shown = shown.changed(protocol=shown.protocol.changed(**protocol))
        found.append(module.describe(table, "m", shown))
    return found


def test_nothing_is_said_of_groups_that_are_all_large(options):
    auc, curves = described(options, probe_scores(4, ["last_q", "-1"]))
    assert "8 of 8 cells are above labels shuffled within group" in auc
    for text in (auc, curves):
        assert "20 training questions" not in text
        assert "probe.split" not in text


def test_the_captions_say_that_groups_are_too_small_to_shuffle_within(options):
    table = probe_scores(4, ["last_q", "-1"]).assign(groups=24)
    table = table[table["control"] != WITHIN]
    auc, curves = described(options, table)
    for text in (auc, curves):
        assert (
            "Labels cannot be shuffled within group, for the 24 groups have fewer than 20 training "
            "questions each; only group alone tests the group of the question as an explanation "
            "(probe.split: group_folds trains and tests on different groups)."
        ) in text
    assert "cells are above labels shuffled within group" not in auc
    assert "No control explains the highest cell" in auc
    # Who left the control out need not be told.
    for text in described(options, table, controls=("shuffled_labels",)):
        assert "shuffled within group" not in text


def test_the_captions_say_what_share_is_shuffled_within_group(options):
    table = probe_scores(4, ["last_q", "-1"])
    within = table["control"] == WITHIN
    table.loc[within, "within_group"] = 0.667
    table.loc[within & (table["token"] == "-1"), "within_group"] = 0.999
    auc, curves = described(options, table)
    for text in (auc, curves):
        assert (
            "Labels are shuffled within group for 67% to 99% of the training questions; groups "
            "with fewer than 20 training questions are shuffled together."
        ) in text
    assert re.search(r"Controls there: .*labels shuffled within group \((67|99)% of them\) 0", auc)
    # Fewer answers have the last token, and there no group is large enough.
    auc, curves = described(options, table[~within | (table["token"] != "-1")])
    for text in (auc, curves):
        assert "within group for 67% of the training questions" in text
        assert (
            "At -1 all groups have fewer than 20 training questions, and no labels are shuffled "
            "within group."
        ) in text
    assert "4 of 4 cells are above labels shuffled within group" in auc


def test_without_groups_the_group_is_untested_as_an_explanation(options):
    table = probe_scores(4, ["last_q", "-1"]).assign(groups=1)
    table = table[~table["control"].isin([WITHIN, "group_only"])]
    auc, curves = described(options, table)
    untested = (
        "The questions have no groups (dataset.group), so that the group of the question is "
        "untested as an explanation."
    )
    assert untested in auc
    assert untested in curves
    assert "No control explains" not in auc
    assert (
        "The token itself, which its embedding gives away, does not explain the highest cell: "
        "the interval of probe − control is above zero."
    ) in auc
    table["gain_low"] = -0.1
    auc, _ = described(options, table)
    assert "The highest cell is explained by the token itself" in auc
    assert untested in auc


def test_folds_by_group_are_described_with_what_group_alone_is(options):
    table = probe_scores(4, ["last_q", "-1"])
    auc, curves = described(options, table, split="group_folds")
    assert "5 folds by group, whole groups in the test set; 95% intervals over folds" in auc
    constant = (
        "No group is in both the training and the test set, so that group alone gives every tested "
        "answer the same score."
    )
    assert constant in auc
    assert constant in curves
    assert "No control explains the highest cell" in auc
    table.loc[table["control"] == "group_only", "gain_low"] = -0.1
    auc, _ = described(options, table, split="group_folds")
    assert (
        "In groups that it was not trained on, the probe of the highest cell is no better "
        "than a constant score (group alone): the interval of probe − control is not above zero."
    ) in auc
    assert "explain" not in auc
    small, _ = described(options, table[table["control"] != WITHIN], split="group_folds")
    assert "for the 7 groups have fewer than 20 training questions each. " in small


def test_a_panel_without_the_control_still_has_it_in_the_legend(options, tmp_path):
    curves = drawn_options(curves_figure, options["probe_curves"], tokens=["last_q", "-1"])
    table = probe_scores(5, ["last_q", "-1"])
    table = table[(table["control"] != WITHIN) | (table["token"] != "last_q")]
    found = texts(drawn(curves_figure.draw, table, curves, tmp_path))
    assert found.count(CONTROLS[WITHIN]) == 1
    without = table[table["control"] != WITHIN]
    assert CONTROLS[WITHIN] not in texts(drawn(curves_figure.draw, without, curves, tmp_path))


@pytest.mark.parametrize(
    ("tokens", "columns"),
    [(["last_q", "exact_answer_last"], [(1, 1)]), (["last_q"], []),
     (["-1", "last_q", "exact_answer_last", "-2"], [(0, 1), (2, 2)])],
    ids=["one", "none", "two"],
)  # fmt: skip
def test_the_default_rectangle_is_drawn_around_what_of_it_is_shown(
    options, tmp_path, tokens, columns
):
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=tokens)
    table = probe_scores(9, tokens)
    fig = probe_figure.draw(table, probe)
    rectangles = fig.axes[0].patches
    assert [(box.get_x(), box.get_width()) for box in rectangles] == columns
    assert all((box.get_y(), box.get_height()) == (1, 7) for box in rectangles)
    ids = [box.get_gid() for box in rectangles]
    assert ids == ["highlight", "highlight-2"][: len(ids)]
    plt.close(fig)


@pytest.mark.parametrize("tokens", [["last_q"], TOKENS["strict"][:4], TOKENS["strict"][:6]])
def test_the_curves_have_a_panel_per_token_with_band_and_controls(options, tmp_path, tokens):
    curves = drawn_options(curves_figure, options["probe_curves"], tokens=tokens)
    table = probe_scores(5, TOKENS["strict"])
    fig = curves_figure.draw(table, curves)
    panels = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title() for ax in panels] == tokens
    for ax in panels:
        lines = {line.get_label(): line for line in ax.get_lines()}
        # one line for all confidence scores; with the group, too, they stand in the caption
        drawn_controls = [CONTROLS[name] for name in CONTROLS if name != OUTPUT_AND_GROUP]
        assert set(lines) == {"probe", *drawn_controls}
        shown = table[(table["token"] == ax.get_title()) & (table["control"] == "embeddings")]
        np.testing.assert_allclose(
            lines[CONTROLS["embeddings"]].get_ydata(), shown.sort_values("layer")["mean"]
        )
        assert lines["probe"].get_linestyle() == "-"
        assert all(line.is_dashed() for label, line in lines.items() if label != "probe")
        (band,) = ax.collections
        assert band.get_paths()
    svg = drawn(curves_figure.draw, table, curves, tmp_path)
    assert {*tokens, "probe", "p(true)", "Layer", "AUC"} <= set(texts(svg))
    assert "Nadeau" in curves_figure.describe(table, "m", curves)
    plt.close("all")


def test_the_module_map_counts_layers_from_the_bottom(options, tmp_path):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            (layer, projection, "operation_strength", random.uniform(0.075, 0.105))
            for layer in range(28)
            for projection in reversed(PROJECTIONS)
        ],
        columns=["layer", "projection", "metric", "value"],
    )
    module_map = ModuleMap.model_validate(options["module_map"]).of_metric("operation_strength")
    svg = drawn(module_figure.draw, table, module_map, tmp_path)
    found = texts(svg)
    ticks = [text for text in found if re.fullmatch(r"\d+", text)]
    assert ticks == [str(layer) for layer in range(28)]
    heights = [positions(svg, ticks)[tick][1] for tick in ticks]
    assert heights == sorted(heights, reverse=True)
    lefts = [positions(svg, PROJECTIONS)[column][0] for column in PROJECTIONS]
    assert lefts == sorted(lefts)
    assert 2 <= len([text for text in found if re.fullmatch(r"0\.\d+", text)]) <= 5
    assert "1/√d_in" in module_figure.describe(table, "m", module_map)


def test_files_are_vector_with_real_text_deterministic_and_fine_enough(options, tmp_path):
    from PIL import Image

    table = cells("mean_qkv", options["mean_qkv"])
    made = []
    for run in ("one", "two"):
        folder = tmp_path / run
        folder.mkdir()
        svg = drawn(attention_figure.draw, table, attention(options, "mean_qkv"), folder)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert not list(svg.iter(f"{SVG}image"))
    pdf = made[0]["figure.pdf"]
    assert b"/Subtype /Image" not in pdf
    assert b"/FontFile2" in pdf  # TrueType text, not outlines
    with Image.open(tmp_path / "one" / "figure.png") as image:
        assert min(image.info["dpi"]) >= 199.9
        assert min(image.size) > 1500


def test_captions_state_layer_operation_and_scope(options):
    mean_qkv = attention(options, "mean_qkv")
    table = cells("mean_qkv", mean_qkv)
    caption = attention_figure.describe(table, "tiny", mean_qkv)
    for part in (
        "tiny",
        "layer 0",
        "sink of the clean model is strongest",
        "head dimension",
        "in this layer only",
    ):
        assert part in caption
    assert "Query or Key (after rotary embedding) or Value" in caption
    before = mean_qkv.changed(stage="before_rotary")
    assert "(before rotary embedding)" in attention_figure.describe(table, "tiny", before)


@pytest.mark.parametrize(
    ("components", "named"),
    [
        (("value",), " Value is replaced"),
        (("query",), " Query (after rotary embedding) is replaced"),
        (("key", "value"), " Key (after rotary embedding) or Value is replaced"),
        (("query", "key"), " Query or Key (after rotary embedding) is replaced"),
    ],
)
def test_captions_name_the_components_that_are_shown(options, components, named):
    mean_qkv = attention(options, "mean_qkv").changed(components=components)
    table = cells("mean_qkv", attention(options, "mean_qkv"))
    table = table[table["component"].isin(components)]
    assert f".{named} by its mean" in attention_figure.describe(table, "tiny", mean_qkv)


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.5, "5e-1"), (1e-3, "1e-3"), (1e-10, "1e-10"), (0.75, "0.75"), (0.05, "5e-2"), (2, "2"),
     (1, "1"), (20, "20"), (0, "0"), (1.5, "1.5"), (-1, "-1"), (-0.5, "-5e-1"), (-2.25, "-2.25"),
     (0.00025, "0.00025"), (2.5e-7, "2.5e-7"), (1e6, "1000000"), (3e12, "3e12"),
     (0.1 + 0.2, "3e-1")],
)  # fmt: skip
def test_epsilons_are_written_as_published_or_as_short_numbers(value, label):
    assert format_epsilon(value) == label


@pytest.mark.parametrize("page", [{}, {"venue": "icml"}], ids=str)
def test_a_dot_marks_the_highest_cell_and_the_caption_says_what_is_drawn(options, tmp_path, page):
    tokens = ["-1", "last_q", "exact_answer_last"]
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=tokens)
    table = probe_scores(9, tokens).assign(mean=0.6)
    best = (table["layer"] == 3) & (table["token"] == "exact_answer_last")
    table.loc[best & (table["control"] == "none"), "mean"] = 0.9
    with drawing_style(Style(**page)):
        fig = draw_to_fit("probe_auc", lambda: probe_figure.draw(table, probe))
        (dot,) = fig.axes[0].lines
    assert dot.get_gid() == "best"
    assert dot.get_xydata().tolist() == [[2.5, 3.5]]
    caption = probe_figure.describe(table, "m", probe)
    assert (
        " The dot marks the highest cell. The rectangle frames layers 1 to 7 at -1, "
        "exact_answer_last, which is where the published figure has it.\n" in caption
    )
    own = {"tokens": ["-1", "last_q"], "layers": [2, 4]}
    other = drawn_options(
        probe_figure, options["probe_auc"], tokens=tokens, highlight=own, mark_best=False
    )
    assert not probe_figure.draw(table, other).axes[0].lines
    caption = probe_figure.describe(table, "m", other)
    assert caption.endswith("lightest. The rectangle frames layers 2 to 4 at -1 to last_q.\n")
    bare = other.changed(highlight=None)
    assert probe_figure.describe(table, "m", bare).endswith("lower values take the lightest.\n")
    # nothing to mark
    empty = table.assign(mean=np.nan)
    assert not probe_figure.draw(empty, probe).axes[0].lines
    assert "The dot" not in probe_figure.describe(empty, "m", probe)
    compared = find_drawing("probe_auc")
    shown = compared.OPTIONS.model_validate({**options["probe_auc"], "tokens": tokens})
    tables = {"a": table, "b": table}
    drawn_pair = compared.draw(tables, shown)
    assert [ax.lines[0].get_gid() for ax in drawn_pair.axes[:2]] == ["best-0", "best-1"]
    assert "A dot marks the highest cell of each." in compared.describe(tables, shown)
    plt.close("all")


@pytest.mark.parametrize(
    ("lowest", "highest", "extend"),
    [(0.5, 1.0, "neither"), (0.4, 1.0, "min"), (0.5, 1.1, "max"), (0.4, 1.1, "both"),
     (0.5, 1 + 1e-9, "neither")],
)  # fmt: skip
def test_a_colour_bar_is_pointed_where_values_lie_beyond_it(options, lowest, highest, extend):
    """In every figure, and whichever of its panels has them."""
    random = np.random.default_rng(0)
    panels = [pd.DataFrame(random.uniform(0.6, 0.9, size=(4, 3))) for _ in range(2)]
    panels[0].iloc[1, 2], panels[0].iloc[2, 0] = lowest, highest
    panels[1].iloc[0, 0] = np.nan
    fig, axes = plt.subplots(1, 2)
    meshes = [
        draw_heatmap(values, ax, cmap=find_colour_map("Blues"), limits=(0.5, 1.0))
        for values, ax in zip(panels, axes, strict=True)
    ]
    assert add_colour_bar(fig, meshes[1], "AUC", ax=axes).extend == extend
    assert add_colour_bar(fig, meshes[1], "AUC", ax=axes[1]).extend == "neither"
    assert add_colour_bar(fig, meshes[1], "AUC", cax=fig.add_axes((0, 0, 0.1, 1))).extend == extend
    plt.close(fig)


def test_scores_below_the_colours_of_the_probe_point_its_bar(options, tmp_path):
    probe = drawn_options(probe_figure, options["probe_auc"], tokens=["last_q", "-1"])
    table = probe_scores(4, ["last_q", "-1"])
    for scores in (table, table.assign(mean=table["mean"] - 0.3)):
        fig = probe_figure.draw(scores, probe)
        shown = scores[scores["control"] == "none"]["mean"]
        bar = fig.axes[0].collections[0].colorbar
        assert bar.extend == ("min" if (shown < 0.5).any() else "neither")
        plt.close(fig)


def read_cells(root):
    """{id of a heatmap: left, top, right and bottom of its cells [cells, 4]}, in points."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("id", "").startswith("cells-"):
            places = [re.findall(r"([-\d.]+) ([-\d.]+)", path.get("d"))
                      for path in group.iter(f"{SVG}path")]  # fmt: skip
            corners = np.array([place[:4] for place in places], dtype=float)
            found[group.get("id")] = np.hstack([corners.min(axis=1), corners.max(axis=1)])
    return found


@pytest.mark.parametrize("name", ["mean_qkv", "module_map"])
def test_cells_leave_no_seams_in_vector_files(options, tmp_path, name):
    """Each reaches under the next ones by a pixel of 60 dpi."""
    if name == "mean_qkv":
        table, shape = cells("mean_qkv", options["mean_qkv"]), (7, 7)
        svg = drawn(attention_figure.draw, table, attention(options, name), tmp_path)
    else:  # its first row is the lowest
        shape, random = (9, 7), np.random.default_rng(0)
        table = pd.DataFrame(
            [(layer, column, "output_rms", random.uniform())
             for layer in range(9) for column in PROJECTIONS],
            columns=["layer", "projection", "metric", "value"],
        )  # fmt: skip
        own = ModuleMap.model_validate({**options[name], "metric": "output_rms"})
        svg = drawn(module_figure.draw, table, own.of_metric("output_rms"), tmp_path)
    found = read_cells(svg)
    assert len(found) == (9 if name == "mean_qkv" else 1)
    for boxes in found.values():
        left, top, right, bottom = boxes.reshape(*shape, 4).transpose(2, 0, 1)
        np.testing.assert_allclose((right[:, :-1] - left[:, 1:]).min(), 1.2, atol=0.01)
        down = name == "mean_qkv"
        overlap = bottom[:-1] - top[1:] if down else bottom[1:] - top[:-1]
        np.testing.assert_allclose(overlap, 1.2, atol=0.01)
        np.testing.assert_allclose(np.diff(left[0]), left[0, 1] - left[0, 0], atol=0.01)


def test_svg_text_has_a_generic_font_to_fall_back_to(options, tmp_path):
    table = cells("mean_qkv", options["mean_qkv"])
    for font, generic in (("DejaVu Sans", "sans-serif"), ("STIXGeneral", "serif"),
                          ("DejaVu Serif", "serif")):  # fmt: skip
        for page in ({}, {"venue": "icml"}):
            with drawing_style(Style(font=font, **page)):
                fig = attention_figure.draw(table, attention(options, "mean_qkv"))
                save(fig, [tmp_path / "a.svg"])
            root = ET.parse(tmp_path / "a.svg").getroot()
            styles = [text.get("style") for text in root.iter(f"{SVG}text")]
            fonts = {re.search("font-family: ([^;]*)", style)[1] for style in styles}
            assert fonts
            for one in fonts:
                assert one.startswith(f"'{font}', ")
                assert one.endswith(f", {generic}")


def test_svg_text_may_be_paths(options, tmp_path):
    table = cells("mean_qkv", options["mean_qkv"])
    with drawing_style(Style(svg_text="paths")):
        save(attention_figure.draw(table, attention(options, "mean_qkv")), [tmp_path / "a.svg"])
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert texts(root) == []
    assert len(list(root.iter(f"{SVG}use"))) > 50


def test_the_module_map_marks_random_inputs_on_its_colour_bar(options):
    random = np.random.default_rng(0)
    sizes = {"attn. q": 100, "attn. o": 64, "mlp. down": 400}
    table = pd.DataFrame(
        [
            (layer, name, "operation_strength", random.uniform(0.08, 0.13), "", size)
            for layer in range(9)
            for name, size in sizes.items()
        ],
        columns=["layer", "projection", "metric", "value", "note", "d_in"],
    )
    module_map = ModuleMap.model_validate({**options["module_map"], "limits": "data"})
    shown = module_map.of_metric("operation_strength")
    fig = module_figure.draw(table, shown)
    lines = {line.get_gid(): line.get_ydata()[0] for line in fig.axes[1].lines}
    assert {name: lines[name] for name in lines if name and name.startswith("random")} == {
        "random-64": 0.125, "random-100": 0.1
    }  # fmt: skip
    caption = module_figure.describe(table, "m", shown)
    assert (
        " A line across the colour bar marks 1/√d_in: 0.1250 for 64 inputs, 0.1000 for 100 inputs. "
        "Beyond the colours, 1/√d_in is 0.0500 for 400 inputs." in caption
    )
    # of earlier versions, and of other metrics
    older = table.drop(columns="d_in")
    assert "across" not in module_figure.describe(older, "m", shown)
    other = table.assign(metric="output_rms")
    own = ModuleMap.model_validate({**options["module_map"], "metric": "output_rms"})
    assert "across" not in module_figure.describe(other, "m", own.of_metric("output_rms"))
    plt.close("all")


def test_tick_steps_grow_with_the_depth():
    assert [choose_tick_step(rows) for rows in (7, 33, 81, 127)] == [1, 2, 5, 10]


def test_unknown_palettes_and_fonts_are_one_clear_line():
    with pytest.raises(UserError, match="^config: palette: 'Bleus' is not known"):
        find_colour_map("Bleus")
    with (
        pytest.raises(UserError, match=r"style.font: 'Comic' is not known"),
        drawing_style(Style(font="Comic")),
    ):
        pass


def test_control_characters_of_tokens_are_escaped_so_that_the_svg_is_xml(options, tmp_path):
    table = cells("mean_qkv", options["mean_qkv"], inputs=1)
    names = ["a\x1b[0m", "b\x00c", "\ufffe", "d\x0be", "f\n", "g", "\x7f"]
    table["key_token"] = [names[position] for position in table["key_position"]]
    labelled = attention(options, "mean_qkv").changed(tick_labels="tokens")
    svg = drawn(attention_figure.draw, table, labelled, tmp_path)
    assert {"a\\x1b[0m", "b\\x00c", "\\ufffe", "d\\x0be", "f", "g", "\\x7f"} <= set(texts(svg))


def test_every_format_has_the_caption_as_alt_text(tmp_path):
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    caption = "Weights of a & b (ε = 5e-1), layer 3.\nA second sentence."
    with drawing_style(STYLE):
        save(fig, [tmp_path / f"a.{kind}" for kind in ("pdf", "svg", "png")], caption=caption)
    root = ET.parse(tmp_path / "a.svg").getroot()
    alt = "Weights of a & b (ε = 5e-1), layer 3. A second sentence."
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == alt
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Description"] == alt
    assert "ε".encode("utf-16-be").hex().encode() in (tmp_path / "a.pdf").read_bytes() or (
        "ε".encode("utf-16-be") in (tmp_path / "a.pdf").read_bytes()
    )


def test_a_matplotlibrc_of_the_users_changes_nothing(options, tmp_path):
    table = cells("mean_qkv", options["mean_qkv"])
    drawn(attention_figure.draw, table, attention(options, "mean_qkv"), tmp_path / "a")
    with plt.rc_context({"axes.labelsize": 20, "axes.facecolor": "red", "figure.dpi": 50}):
        drawn(attention_figure.draw, table, attention(options, "mean_qkv"), tmp_path / "b")
    for kind in ("pdf", "svg", "png"):
        one, other = (tmp_path / folder / f"figure.{kind}" for folder in "ab")
        assert one.read_bytes() == other.read_bytes(), kind
