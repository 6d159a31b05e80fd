"""Several models side by side: which are compared, what they share, what stands in the table."""

import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import compare_claims
import render_comparison
from drawn_figures import STYLE, cells, probe_scores, texts
from llm_figures.claims.comparison import (
    find_claims_problem,
    render_claims_comparison,
    stack_claims,
)
from llm_figures.comparison.attention import label_panels
from llm_figures.comparison.figure import describe_comparison, find_drawing
from llm_figures.comparison.panels import choose_grid, choose_layer_step, wrap_name
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.result_folders import compared, comparison_problem, folder_problems
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules.options import MetricMap, ModuleMap
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.saving import save
from llm_figures.probe.protocol import TOKENS
from llm_figures.workflow.figures import list_scores

LONG = "Some-Model-3.1-70B-Instruct-with_a_very.long-name-v2"


@pytest.fixture
def options(options):
    """The figures' options, those of the module map for its one metric."""
    module_map = ModuleMap.model_validate(options["module_map"])
    return options | {"module_map": module_map.of_metric("operation_strength").plain()}


def module_scores(layers, scale=1.0, projections=PROJECTIONS):
    random = np.random.default_rng(layers)
    return pd.DataFrame(
        [
            (layer, projection, "operation_strength", scale * random.uniform(0.05, 0.1))
            for layer in range(layers)
            for projection in projections
        ],
        columns=["layer", "projection", "metric", "value"],
    )


def tables(figure, options, count=3):
    """Scores of models with 5, 10, … layers, the second with a long name."""
    names = ["first", LONG, *(f"m{index}" for index in range(2, count))][:count]
    found = {}
    for index, name in enumerate(names):
        layers = 5 * (index + 1)
        if figure == "module_map":
            found[name] = module_scores(layers, scale=index + 1)
        elif figure == "probe_auc":
            found[name] = probe_scores(layers + 1, TOKENS["strict"])
        else:
            found[name] = cells(figure, options[figure]).assign(layer=layers - 1)
    return found


def draw_comparison(figure, shown, options):
    """The figure of several models, from plain options."""
    drawing = find_drawing(figure)
    return drawing.draw(shown, read_options(drawing.OPTIONS, options, "options"))


def comparison_caption(figure, shown, options, folders=(), left_out=()):
    """Its caption."""
    drawing = find_drawing(figure)
    text = drawing.describe(shown, read_options(drawing.OPTIONS, options, "options"))
    return describe_comparison(text, shown, folders, left_out)


def find_problem(figure, table, options):
    """Why a model's table cannot be drawn with others."""
    drawing = find_drawing(figure)
    return drawing.find_problem(table, read_options(drawing.OPTIONS, options, "options"))


@pytest.fixture
def drawn(options):
    """A function that draws `count` models in a style and places everything."""

    def draw(figure, count=3, **changes):
        options["probe_auc"]["tokens"] = TOKENS["strict"]
        shown = tables(figure, options, count)
        with drawing_style(STYLE.changed(**changes)):
            fig = draw_comparison(figure, shown, options[figure])
            fig.draw_without_rendering()
        return fig, shown

    yield draw
    plt.close("all")


def bars(fig):
    return [ax for ax in fig.axes if ax.get_label() == "<colorbar>" or ax.get_gid() == "bar"]


def meshes(fig):
    """The heatmaps in the order of drawing; not the colour bar's."""
    return [mesh for ax in fig.axes if ax not in bars(fig) for mesh in ax.collections]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (8, (2, 4)), (9, (3, 4))],
)
def test_panels_wrap_into_a_grid(count, expected):
    assert choose_grid(count) == expected


def test_the_module_maps_share_limits_and_one_bar_whose_points_say_what_lies_beyond(drawn):
    fig, shown = drawn("module_map")
    values = np.concatenate([table["value"] for table in shown.values()])
    wanted = np.percentile(values, [2, 98])
    assert len(meshes(fig)) == 3
    for mesh, table in zip(meshes(fig), shown.values(), strict=True):
        np.testing.assert_allclose(mesh.get_clim(), wanted)
        drawn_values = mesh.get_array().reshape(-1, len(PROJECTIONS))
        wide = table.pivot(index="layer", columns="projection", values="value")[list(PROJECTIONS)]
        np.testing.assert_allclose(drawn_values, wide)
    assert len(bars(fig)) == 1


def test_depths_compare_panels_are_equally_high_and_wide(drawn):
    for figure, depths in (("module_map", (5, 10, 15)), ("probe_auc", (6, 11, 16))):
        fig, _ = drawn(figure)
        panels = [mesh.axes for mesh in meshes(fig)]
        boxes = [ax.get_window_extent() for ax in panels]
        assert np.ptp([box.height for box in boxes]) < 1
        assert np.ptp([box.width for box in boxes]) < 1
        assert np.ptp([box.y0 for box in boxes]) < 1
        # as in the single figures: layer 0 at the bottom of the map, at the top of the probe's
        sign = 1 if figure == "module_map" else -1
        assert [np.diff(ax.get_ylim())[0] for ax in panels] == [sign * depth for depth in depths]


def test_the_probes_share_the_options_limits_and_each_has_the_rectangle(drawn):
    fig, shown = drawn("probe_auc")
    assert {mesh.get_clim() for mesh in meshes(fig)} == {(0.5, 1.0)}
    for index, (mesh, table) in enumerate(zip(meshes(fig), shown.values(), strict=True)):
        (rectangle,) = mesh.axes.patches
        depth = table["layer"].max()
        assert rectangle.get_gid() == f"highlight-{index}"
        assert rectangle.get_y() == round(0.125 * depth)
        assert rectangle.get_x() == 1


def test_a_rectangle_outside_a_model_is_left_out_and_said(options):
    probe = options["probe_auc"]
    probe.update(tokens=TOKENS["strict"])
    probe["highlight"]["layers"] = [2, 8]
    shown = tables("probe_auc", options)
    with drawing_style(STYLE):
        fig = draw_comparison("probe_auc", shown, probe)
    assert [len(mesh.axes.patches) for mesh in meshes(fig)] == [0, 1, 1]
    assert "rectangle's layers are outside first." in comparison_caption("probe_auc", shown, probe)
    plt.close(fig)


@pytest.mark.parametrize("figure", ["mean_qkv", "scale_qkv"])
def test_attention_has_a_block_per_model_with_equal_maps(drawn, figure):
    fig, shown = drawn(figure)
    assert len(meshes(fig)) == 27
    assert {mesh.get_clim() for mesh in meshes(fig)} == {(0.0, 1.0)}
    sizes = [mesh.axes.get_window_extent() for mesh in meshes(fig)]
    assert np.ptp([size.width for size in sizes]) < 0.5
    assert np.ptp([size.height for size in sizes]) < 0.5
    assert len(bars(fig)) == 1
    found = {text.get_gid(): text.get_text() for text in fig.texts}
    for index, name in enumerate(shown):
        assert found[f"block-{index}-title"].replace("\n", "") == name
        above = [found[f"block-{index}-column-{column}"] for column in range(3)]
        beside = [found[f"block-{index}-row-{row}"] for row in range(3)]
        if figure == "mean_qkv":
            assert above == ["Query", "Key", "Value"]
            assert beside == ["Input 1", "Input 2", "Input 3"]
        else:
            assert above == ["ε = 5e-1", "ε = 1e-3", "ε = 1e-10"]
            assert beside == ["Query", "Key", "Value"]
    # each map holds its own cells
    first = next(iter(shown.values()))
    last = first[(first["panel_row"] == 2) & (first["panel_column"] == 1)]
    wide = last.pivot(index="query_position", columns="key_position", values="weight")
    np.testing.assert_allclose(meshes(fig)[7].get_array().reshape(wide.shape), wide)


@pytest.mark.parametrize(
    ("figure", "count", "size"),
    [
        ("mean_qkv", 2, 9),
        ("scale_qkv", 5, 13),
        ("probe_auc", 5, 13),
        ("module_map", 2, 9),
        ("module_map", 8, 9),
    ],
)
def test_no_text_covers_another_or_a_panel(drawn, figure, count, size):
    fig, _ = drawn(figure, count, font_size=size)
    panels = [mesh.axes for mesh in meshes(fig)]
    titles = [ax.title for ax in panels if ax.title.get_text()] + fig.texts
    assert len(titles) >= count
    boxes = {text: text.get_window_extent() for text in titles}
    for one, other in itertools.combinations(titles, 2):
        assert not boxes[one].overlaps(boxes[other]), (one.get_text(), other.get_text())
    for text, ax in itertools.product(titles, panels):
        inner = ax.get_window_extent().padded(-1)
        assert not boxes[text].overlaps(inner), text.get_text()
    for ax in panels:
        shown = [label for label in ax.get_yticklabels() if label.get_text()]
        heights = sorted((b.y0, b.y1) for b in (label.get_window_extent() for label in shown))
        assert all(below[1] <= above[0] for below, above in itertools.pairwise(heights))
    for one, other in itertools.combinations(panels, 2):
        assert not one.get_tightbbox().padded(-1).overlaps(other.get_window_extent().padded(-1))


def test_inputs_and_tokens_of_another_number_have_blocks_of_their_own(options):
    shown = {
        "three": cells("mean_qkv", options["mean_qkv"]),
        "one": cells("mean_qkv", options["mean_qkv"], inputs=1),
    }
    with drawing_style(STYLE):
        fig = draw_comparison("mean_qkv", shown, options["mean_qkv"])
    assert len(meshes(fig)) == 12
    assert label_panels(shown["one"]) == (["*Query*", "*Key*", "*Value*"], ["Input 1"])
    plt.close(fig)


def test_a_projection_that_a_model_lacks_is_an_empty_column(options):
    shown = {
        "all": module_scores(4),
        "less": module_scores(4, projections=[name for name in PROJECTIONS if name != "mlp. gate"]),
    }
    with drawing_style(STYLE):
        fig = draw_comparison("module_map", shown, options["module_map"])
    gate = meshes(fig)[1].get_array().reshape(4, 7)[:, PROJECTIONS.index("mlp. gate")]
    assert np.ma.getmaskarray(gate).all()
    assert "Grey: the model or the layer lacks" in comparison_caption(
        "module_map", shown, options["module_map"]
    )
    plt.close(fig)


def test_labels_of_layers_keep_apart():
    with drawing_style(STYLE):
        assert [choose_layer_step(rows, 4.0) for rows in (5, 25, 33, 81, 200)] == [1, 1, 2, 4, 10]


def test_long_names_are_broken_where_they_can_be():
    with drawing_style(STYLE):
        assert wrap_name("short", 2, 9) == "short"
        lines = wrap_name(LONG, 1.2, 9).split("\n")
        assert "".join(lines) == LONG
        assert len(lines) > 2
        assert all(line[-1] in "-_." for line in lines[:-1])
        assert wrap_name("x" * 100, 1.0, 9).count("\n") > 3


def test_names_are_not_read_as_formulas(options, tmp_path):
    shown = {"a$x$": module_scores(3), "b_1": module_scores(4)}
    with drawing_style(STYLE):
        fig = draw_comparison("module_map", shown, options["module_map"])
        save(fig, [tmp_path / "figure.svg"])
    assert {"a$x$", "b_1"} <= set(texts(ET.parse(tmp_path / "figure.svg").getroot()))


def test_captions_name_what_differs(options):
    options["probe_auc"]["tokens"] = TOKENS["strict"]
    for figure in ("mean_qkv", "probe_auc", "module_map"):
        shown = tables(figure, options)
        text = comparison_caption(figure, shown, options[figure], ["m2"], ["x.parquet is missing"])
        assert "with their own settings: m2." in text
        assert text.endswith("\nLeft out: x.parquet is missing.\n")
        assert all(name in text for name in shown)
    table = tables("mean_qkv", options)
    text = comparison_caption("mean_qkv", table, options["mean_qkv"])
    assert text.count("mean over the head dimension") == 1
    table["m2"] = table["m2"].assign(over="tokens")
    text = comparison_caption("mean_qkv", table, options["mean_qkv"])
    assert "m2, layer 14 (from 0), its heads' average, replaced by its mean over the token" in text
    table = tables("probe_auc", options)
    best = (table["m2"]["layer"] == 7) & (table["m2"]["token"] == "-1")
    table["m2"].loc[best & (table["m2"]["control"] == "none"), "mean"] = 1.0
    text = comparison_caption("probe_auc", table, options["probe_auc"])
    assert "m2, highest at layer 7 of 15, -1: 1.000" in text


def test_scores_that_cannot_be_drawn_say_why(options):
    modules = module_scores(3)
    lacking = modules.drop(columns="value")
    assert find_problem("module_map", modules, options["module_map"]) is None
    assert find_problem("module_map", lacking, options["module_map"]) == "has no column value"
    other = modules.assign(metric="size")
    assert "no scores of operation_strength" in find_problem(
        "module_map", other, options["module_map"]
    )
    empty = cells("mean_qkv", options["mean_qkv"]).head(0)
    assert find_problem("mean_qkv", empty, options["mean_qkv"]) == "is empty"


def test_the_script_leaves_out_what_cannot_be_drawn_and_needs_two(options, tmp_path):
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("a", "b", "c")}
    write_frame(module_scores(3), paths["a"])
    write_frame(module_scores(4), paths["b"])
    write_frame(module_scores(4).drop(columns="value"), paths["c"])
    module_map = MetricMap.model_validate(options["module_map"])
    common = {"folders": ["c"], "options": module_map, "style": STYLE}
    file, caption = tmp_path / "out.svg", tmp_path / "out.txt"
    render_comparison.main("module_map", paths, [], [file], caption, **common)
    assert f"Left out: {paths['c']} has no column value." in caption.read_text()
    found = texts(ET.parse(file).getroot())
    assert "a" in found
    assert "c" not in found
    del paths["b"]
    with pytest.raises(UserError, match=r"module_map: .* at least two models; there is a \(") as e:
        render_comparison.main("module_map", paths, [], [file], caption, **common)
    assert "\n" not in str(e.value)


def claims(model, verdicts, **changes):
    """Two claims of one figure and one of another, with these verdicts."""
    names = [("mean_qkv", "uniform"), ("mean_qkv", "sink"), ("probe_auc", "middle")]
    table = pd.DataFrame(
        [
            {
                "model": model,
                "figure": figure,
                "claim": claim,
                "statement": f"Of {claim} | so",
                "source": "a paper",
                "statistic": "D",
                "comparison": ">=",
                "threshold": 0.5,
                "threshold_high": np.nan,
                "value": np.nan if verdict == "not applicable" else 0.123456,
                "held": pd.NA,
                "verdict": verdict,
                "reason": None,
            }
            for (figure, claim), verdict in zip(names, verdicts, strict=True)
        ]
    )
    return table.assign(**changes)


ALL = ["reproduced", "not reproduced", "not applicable"]


def test_claims_are_stacked_under_the_names_they_are_compared_by():
    first, second = claims("x", ALL), claims("y", ["reproduced"] * 3, held=[1, 2, 3])
    whole = stack_claims({"one": first, "two": second})
    assert list(whole["model"]) == ["one"] * 3 + ["two"] * 3
    assert list(whole.columns) == list(first.columns)
    assert whole["held"].tolist()[3:] == [1, 2, 3]
    assert whole["held"].isna().tolist()[:3] == [True] * 3
    assert whole["claim"].tolist() == ["uniform", "sink", "middle"] * 2


def test_the_table_has_a_row_per_claim_and_a_column_per_model():
    # the first is of an earlier version, which held no claim against references
    second = claims("y", ["reproduced"] * 3, references=100, held_references=40, decided=False)
    whole = stack_claims({"one": claims("x", ALL), "two": second})
    text = render_claims_comparison(whole, ["folder/claims.parquet is missing"])
    counts = "1 of 2 claims, not held against references, are reproduced; 1 is not applicable\n"
    assert f"- one: {counts}" in text
    assert (
        "- two: 3 of 3 claims that could have failed are reproduced; random or permuted data "
        "satisfy 1.2 of the 3 on average\n"
    ) in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| figure | claim | statement | one | two |"
    assert rows[2:] == [
        "| mean_qkv | uniform | Of uniform \\| so | ✓ reproduced (0.123) | ✓ reproduced (0.123) |",
        "| mean_qkv | sink | Of sink \\| so | ✗ not reproduced (0.123) | ✓ reproduced (0.123) |",
        "| probe_auc | middle | Of middle \\| so | – not applicable | ✓ reproduced (0.123) |",
    ]
    assert "- left out: folder/claims.parquet is missing" in text
    assert "differently" not in text
    assert "An empty cell" not in text


def test_claims_with_different_tests_are_noted():
    other = claims("y", ALL, threshold=0.9)
    other.loc[2, "statement"] = "Another statement"
    text = render_claims_comparison(stack_claims({"one": claims("x", ALL), "two": other}))
    assert "mean_qkv, sink has different tests: one: D ≥ 0.5; two: D ≥ 0.9" in text
    assert "Another statement" not in text
    assert "| probe_auc | middle | Of middle \\| so | – not applicable | – not applicable |" in text
    more = pd.concat([other, other.head(1).assign(claim="new")])
    text = render_claims_comparison(stack_claims({"one": claims("x", ALL), "two": more}))
    assert "| mean_qkv | new | Of uniform \\| so |  | ✓ reproduced (0.123) |" in text
    assert "An empty cell" in text


def test_the_same_claim_of_another_region_is_noted():
    def tested(region, **keys):
        return json.dumps({"statistic": "D", "threshold": 0.5, "cells": region, **keys})

    one = claims("x", ALL, test=tested({"layers": [0, 4]}))
    other = claims("y", ALL, test=[tested({"layers": [0, 4]}), tested({"layers": [0, 9]}),
                                   tested({"layers": [0, 4]}, certain=True)])  # fmt: skip
    text = render_claims_comparison(stack_claims({"one": one, "two": other}))
    assert "uniform has different tests" not in text
    assert (
        'mean_qkv, sink has different tests: one: D ≥ 0.5, cells {"layers": [0, 4]}; '
        'two: D ≥ 0.5, cells {"layers": [0, 9]}'
    ) in text
    assert "probe_auc, middle has different tests: one: D ≥ 0.5, certain null; two: D" in text
    # A table of an earlier version does not say what region it is of.
    text = render_claims_comparison(stack_claims({"one": one, "two": claims("y", ALL)}))
    assert "different tests" not in text


def test_the_claims_script_writes_both_files_and_names_what_it_leaves_out(tmp_path):
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("a", "b", "c")}
    write_frame(claims("x", ALL), paths["a"])
    write_frame(claims("y", ALL), paths["b"])
    write_frame(claims("z", ALL).drop(columns="verdict"), paths["c"])
    out, table = tmp_path / "out.parquet", tmp_path / "out.md"
    compare_claims.main(paths, ["d/claims.parquet"], str(out), str(table))
    assert set(read_frame(out)["model"]) == {"a", "b"}
    assert "c.parquet has no column verdict" in table.read_text()
    assert "d/claims.parquet is missing" in table.read_text()
    assert find_claims_problem(claims("x", ALL).head(0)) == "is empty"
    with pytest.raises(UserError, match="at least two models"):
        compare_claims.main({"a": paths["a"]}, [], str(out), str(table))


def result_folder(path: Path, *files: str) -> str:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()
    return str(path)


def test_folders_are_found_by_their_names_and_what_they_lack_is_listed(tmp_path):
    big = result_folder(tmp_path / "big", "model.json", "modules/scores.parquet")
    bare = result_folder(tmp_path / "bare", "model.json")
    found, missing = compared(["a"], [big, bare], "modules/scores.parquet")
    assert found == {
        "a": "results/a/modules/scores.parquet",
        "big": f"{big}/modules/scores.parquet",
    }
    assert missing == [f"{bare}/modules/scores.parquet"]
    assert comparison_problem(found, missing, "compare") is None
    line = comparison_problem(["a"], missing, "compare")
    assert line.startswith(f"compare needs at least two models: a (missing: {missing[0]}); ")


def test_bad_folders_are_one_line_each(tmp_path):
    good = result_folder(tmp_path / "one" / "m", "claims.parquet")
    twin = result_folder(tmp_path / "two" / "m", "model.json")
    taken = result_folder(tmp_path / "a", "model.json")
    empty = tmp_path / "empty"
    empty.mkdir()
    problems = list(
        folder_problems([good, twin, taken, str(empty), "nowhere"], ["a"], list_scores().values())
    )
    assert len(problems) == 4
    assert f"result_folders[2]: {twin}: m is also the name of {good}; " in problems[0]
    assert f"result_folders[3]: {taken}: a is also the name of a model of this run" in problems[1]
    assert "result_folders[4]" in problems[2]
    assert "has none of model.json, claims.parquet" in problems[2]
    assert problems[3] == "config: result_folders[5]: nowhere: no such folder"
