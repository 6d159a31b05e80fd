"""Curves over checkpoints: the table against plain loops, gaps, same weights, and the figure."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from drawn_figures import texts
from llm_figures.comparison import checkpoints_figure
from llm_figures.comparison.checkpoints import (
    Checkpoint,
    select_numbers,
    share_right,
    tabulate_checkpoints,
)
from llm_figures.comparison.checkpoints_figure import is_log, list_panels, shorten
from llm_figures.comparison.options import Checkpoints
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.plotting.drawing import render
from llm_figures.plotting.style import Style

SINKS = {"step0": (0.2, 0.4, 0.3), "step4": (0.5, 0.7, 0.9), "step8": (0.2, 0.4, 0.3)}
FACTS = {"formula": "", "row": {}, "column": None}


def number(value, source=None):
    return {"value": value, "text": str(value), "source": source, **FACTS}


def write_numbers(path, numbers, form=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": form, "numbers": numbers}))
    return path


@pytest.fixture
def checkpoints(tmp_path):
    """Three checkpoints with planted numbers, the last with the weights of the first."""
    made = []
    for place, (label, sinks) in enumerate(SINKS.items()):
        folder = tmp_path / label
        attention = {"layer": number(24), "colour_low": number(0.0, "config: figures")}
        for text, sink in enumerate(sinks, start=1):
            attention[f"text_{text}_query_sink"] = number(sink)
            attention[f"text_{text}_query_distance"] = number(sink / 10)
        score = 0.6 + 0.1 * place
        probe = {
            "highest_score": number(score),
            "highest_score_low": number(score - 0.05),
            "highest_score_high": number(score + 0.05),
            "highest_token": number("last_q"),
            "highest_answer_log_probability": number(None if label == "step4" else 0.55),
        }
        modules = pd.DataFrame(
            [
                (layer, projection, "operation_strength", (layer + 1) * (place + 1) * scale)
                for layer in range(2)
                for projection, scale in (("attn. q", 1.0), ("attn. k", 3.0), ("mlp. up", 5.0))
            ],
            columns=["layer", "projection", "metric", "value"],
        )
        write_frame(modules, folder / "modules.parquet")
        right = [True] * (place + 1) + [False] * 3
        write_frame(pd.DataFrame({"valid": True, "correct": right}), folder / "answers.parquet")
        made.append(
            Checkpoint(
                label=label,
                model=f"m@{label}",
                x=4.0 * place,
                weights=("bbb",) if label == "step4" else ("aaa",),
                numbers={
                    "mean_qkv": write_numbers(folder / "mean_qkv.json", attention),
                    "probe_auc": write_numbers(folder / "probe_auc.json", probe),
                    "scale_qkv": folder / "scale_qkv.json",
                },
                answers=folder / "answers.parquet",
                modules=folder / "modules.parquet",
            )
        )
    return made


def values(table, figure, name, column="value"):
    rows = table[(table["figure"] == figure) & (table["number"] == name)]
    return rows.set_index("checkpoint")[column].to_dict()


def test_the_table_has_what_was_planted(checkpoints):
    table = tabulate_checkpoints(checkpoints)
    for column, function in (("value", np.mean), ("low", min), ("high", max)):
        expected = {label: pytest.approx(function(sinks)) for label, sinks in SINKS.items()}
        assert values(table, "mean_qkv", "query_sink", column) == expected
    assert values(table, "mean_qkv", "text_2_query_sink") == {
        "step0": 0.4,
        "step4": 0.7,
        "step8": 0.4,
    }
    assert values(table, "probe_auc", "highest_score", "low")["step4"] == pytest.approx(0.65)
    assert values(table, "probe_auc", "highest_score", "interval") == dict.fromkeys(SINKS, "95%")
    # (1 + 2) / 2 layers × the mean of the projections' scales × the place
    expected = {"step0": 3.0, "step4": 6.0, "step8": 9.0}
    assert values(table, "module_map", "operation_strength_attention") == expected
    expected = {"step0": 7.5, "step4": 15.0, "step8": 22.5}
    assert values(table, "module_map", "operation_strength_mlp") == expected
    assert values(table, "module_map", "operation_strength_attn_k")["step0"] == 4.5
    assert values(table, "answers", "right") == {"step0": 0.25, "step4": 0.4, "step8": 0.5}
    # no names, no options, no ends of intervals as numbers of their own
    names = set(table["number"])
    assert not names & {"highest_token", "colour_low", "highest_score_low", "highest_score_high"}
    assert not table.duplicated(["checkpoint", "figure", "number"]).any()


def test_an_interval_of_a_share_is_wilsons():
    """From the roots of (p − share)² = z² p (1 − p) / n."""
    for right, count in ((0, 5), (3, 7), (200, 400)):
        row = share_right(
            pd.DataFrame({"valid": True, "correct": [n < right for n in range(count)]})
        )
        z2, share = 1.959964**2, right / count
        low, high = sorted(np.roots([1 + z2 / count, -2 * share - z2 / count, share**2]).real)
        assert row["value"] == share
        assert (row["low"], row["high"]) == (pytest.approx(low, abs=1e-9), pytest.approx(high))
    none = share_right(pd.DataFrame({"valid": [False], "correct": [True]}))
    assert math.isnan(none["value"])


def test_a_missing_number_is_a_named_gap(checkpoints):
    (checkpoints[1].numbers["mean_qkv"]).unlink()
    table = tabulate_checkpoints(checkpoints)
    assert math.isnan(values(table, "mean_qkv", "query_sink")["step4"])
    text = checkpoints_figure.describe(table, "m", Checkpoints())
    assert "Gaps: mean_qkv of step4, probe_auc (highest_answer_log_probability) of step4." in text


def test_two_checkpoints_in_one_place_are_refused(checkpoints):
    moved = replace(checkpoints[1], x=checkpoints[0].x)
    with pytest.raises(UserError, match="step0 and step4 have the same place 0 on the axis; give"):
        tabulate_checkpoints([checkpoints[0], moved])


def test_same_weights_are_named(checkpoints):
    table = tabulate_checkpoints(checkpoints)
    named = table.drop_duplicates("checkpoint").set_index("checkpoint")["same_weights_as"]
    assert named.dropna().to_dict() == {"step8": "step0"}
    text = checkpoints_figure.describe(table, "m", Checkpoints())
    assert "Same weights (sha256): step0, step8." in text
    other = tabulate_checkpoints(checkpoints[:2])
    assert "Same weights" not in checkpoints_figure.describe(other, "m", Checkpoints())


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 99, "numbers": {}}'])
def test_numbers_that_cannot_be_read_are_one_line(checkpoints, damage):
    file = checkpoints[1].numbers["mean_qkv"]
    file.write_text(damage)
    with pytest.raises(UserError, match=r"mean_qkv.json cannot be read \(.*\); remove it") as error:
        tabulate_checkpoints(checkpoints)
    assert "\n" not in str(error.value)


def test_ends_without_their_middle_stay():
    numbers = {"percentile_low": number(2), "flag": number(True), "none": number(None)}
    assert [row["number"] for row in select_numbers(numbers)] == ["percentile_low"]


@pytest.mark.parametrize(
    "style",
    [{}, {"font_size": 15}, {"font_size": 24}, {"venue": "icml"},
     {"venue": "neurips", "width": "full"}],
)  # fmt: skip
def test_the_figure_has_a_panel_for_each_number(checkpoints, tmp_path, style):
    write_frame(tabulate_checkpoints(checkpoints), tmp_path / "scores.parquet")
    files = [str(tmp_path / f"over.{kind}") for kind in ("pdf", "svg", "png")]
    render(
        checkpoints_figure,
        scores=str(tmp_path / "scores.parquet"),
        files=files,
        caption=str(tmp_path / "over_checkpoints.caption.txt"),
        panels=str(tmp_path / "panels.json"),
        numbers=str(tmp_path / "numbers.json"),
        model="m",
        options=Checkpoints().plain(),
        style=Style(**style, dpi=200),
    )
    shown = " ".join(texts(ET.parse(files[1]).getroot()))
    for words in ("mean_qkv: F", "mean_qkv: D", "right answers", "Query", "probe", "step"):
        assert words in shown
    assert "sink rate" not in shown
    caption = (tmp_path / "over_checkpoints.caption.txt").read_text()
    assert "over 3 checkpoints of m, step0 to step8." in caption
    assert "probe_auc: best cell (probe) 0.6000 to 0.8000" in caption
    stated = json.loads((tmp_path / "numbers.json").read_text())["numbers"]
    assert stated["mean_qkv_query_sink_last"]["value"] == pytest.approx(0.3)


def test_curves_go_through_the_values(checkpoints):
    table = tabulate_checkpoints(checkpoints)
    fig = checkpoints_figure.draw(table, Checkpoints())
    titles = [panel.title for panel in list_panels(table)]
    ax = fig.axes[titles.index("mean_qkv: F")]
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xdata(), [0, 4, 8])
    np.testing.assert_allclose(line.get_ydata(), [0.3, 0.7, 0.3])


def test_the_nested_score_is_taken_where_there_is_one(checkpoints):
    table = tabulate_checkpoints(checkpoints)
    best = next(panel for panel in list_panels(table) if panel.title.startswith("probe_auc"))
    assert best.lines[0].number == "highest_score"
    rows = table[table["number"] == "highest_score"].assign(number="nested_score")
    both = pd.concat([table, rows])
    best = next(panel for panel in list_panels(both) if panel.title.startswith("probe_auc"))
    assert best.lines[0].number == "nested_score"


@pytest.mark.parametrize(
    ("places", "scale", "log"),
    [
        ([0, 4, 8, 16], "auto", False),
        ([0, 1, 10, 1000], "auto", True),
        ([70e6, 160e6, 12e9], "auto", True),
        ([70e6, 160e6, 12e9], "linear", False),
        ([1, 2], "log", True),
    ],
)
def test_the_axis_is_logarithmic_where_the_places_are_wide(places, scale, log):
    assert is_log(np.array(places, dtype=float), Checkpoints(scale=scale)) is log


def test_places_in_few_letters():
    assert [shorten(x) for x in (0, 16, 143000, 1.4e9, 7e7)] == ["0", "16", "143k", "1.4B", "70M"]
