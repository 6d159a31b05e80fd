"""Panels on the user's own axes."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest

from drawn_figures import cells, probe_scores
from llm_figures import (
    UserError,
    plot_attention_map,
    plot_module_map,
    plot_probe_curve,
    plot_probe_heatmap,
)
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.probe.protocol import TOKENS

SCORES = probe_scores(5, TOKENS["strict"])
MODULES = pd.DataFrame(
    [
        (layer, name, "operation_strength", 0.1 * layer + 0.01 * column)
        for layer in range(4)
        for column, name in enumerate(PROJECTIONS)
    ],
    columns=["layer", "projection", "metric", "value"],
)


@pytest.fixture(scope="module")
def maps():
    return cells("mean_qkv", {"clean": False})


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(ax):
    return ax.collections[0].get_array()


def test_each_panel_is_drawn_on_the_given_axes_and_no_setting_changes(maps):
    fig, axes = plt.subplots(2, 2)
    before = mpl.rcParams.copy()
    panel = maps[(maps["input"] == 2) & (maps["component"] == "key")]
    plots = [
        lambda ax: plot_attention_map(maps, input=2, component="key", cbar=False, ax=ax),
        lambda ax: plot_probe_heatmap(SCORES, highlight=True, cbar=False, ax=ax),
        lambda ax: plot_probe_curve(SCORES, "-1", ax=ax),
        lambda ax: plot_module_map(MODULES, cbar=False, ax=ax),
    ]
    for ax, plot in zip(axes.flat, plots, strict=True):
        assert plot(ax) is ax
    assert mpl.rcParams == before
    assert list(fig.axes) == list(axes.flat)
    weights = panel.pivot(index="query_position", columns="key_position", values="weight")
    np.testing.assert_array_equal(drawn(axes[0, 0]), weights)
    probe = SCORES[(SCORES["control"] == "none") & (SCORES["metric"] == "auc")]
    means = probe.pivot(index="layer", columns="token", values="mean")[TOKENS["strict"]]
    np.testing.assert_array_equal(drawn(axes[0, 1]), means)
    (rectangle,) = axes[0, 1].patches
    assert (rectangle.get_y(), rectangle.get_height()) == (0, 5)
    assert (rectangle.get_x(), rectangle.get_width()) == (1, 13)
    curve = axes[1, 0].lines[0]
    np.testing.assert_array_equal(curve.get_ydata(), means["-1"])
    values = MODULES.pivot(index="layer", columns="projection", values="value")[list(PROJECTIONS)]
    np.testing.assert_array_equal(drawn(axes[1, 1]), values)
    assert axes[1, 1].get_ylim() == (0, 4)  # layer 0 at the bottom


def test_the_current_axes_and_a_colour_bar_are_the_default():
    fig, (_, right) = plt.subplots(1, 2)
    weights = np.tril(np.ones((3, 3)))
    assert plot_attention_map(weights) is right
    np.testing.assert_array_equal(drawn(right), weights)
    assert len(fig.axes) == 3


def test_the_users_settings_hold():
    with mpl.rc_context({"font.size": 5, "axes.linewidth": 3}):
        ax = plot_module_map(MODULES, ax=plt.figure().add_subplot())
    assert ax.yaxis.label.get_size() == 5
    assert ax.spines["left"].get_linewidth() == 3


def test_controls_are_those_that_are_asked_for():
    def names(**options):
        ax = plot_probe_curve(SCORES, "-1", ax=plt.figure().add_subplot(), **options)
        return [text.get_text() for text in ax.get_legend().get_texts()]

    assert names(controls=False) == ["probe"]
    assert names(controls=["group_only"]) == ["probe", "group alone"]
    assert len(names()) == 9
    ax = plot_probe_curve(SCORES, "-1", legend=False, ax=plt.figure().add_subplot())
    assert ax.get_legend() is None


def test_rows_are_named_after_their_layers_where_some_are_left_out():
    ax = plot_probe_heatmap(SCORES[SCORES["layer"] > 2], ax=plt.figure().add_subplot())
    assert len(drawn(ax)) == 5  # layers 0 to 4
    assert np.isnan(drawn(ax)[:3].filled(np.nan)).all()
    ax = plot_module_map(MODULES[MODULES["layer"] > 2], ax=plt.figure().add_subplot())
    assert len(drawn(ax)) == 4


def test_frames_of_polars_are_taken(maps):
    ax = plot_probe_curve(pl.from_pandas(SCORES), -1, ax=plt.figure().add_subplot())
    expected = plot_probe_curve(SCORES, "-1", ax=plt.figure().add_subplot())
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), expected.lines[0].get_ydata())
    assert plot_attention_map(pl.from_pandas(maps), input=1, component="key")


def test_a_colour_bar_is_that_of_the_map_drawn_last():
    ax = plot_attention_map(np.ones((3, 3)), cbar=False, ax=plt.figure().add_subplot())
    plot_module_map(MODULES, limits=(0, 2), centre=None, ax=ax)
    assert ax.figure.axes[1].get_ylim() == (0, 2)


def test_a_rectangle_where_the_user_wants_it():
    own = {"tokens": ["last_q", "second_answer"], "layers": [1, 2]}
    ax = plot_probe_heatmap(SCORES, highlight=own, ax=plt.figure().add_subplot())
    (box,) = (patch.get_bbox().bounds for patch in ax.patches)
    assert box == (0, 1, 3, 2)


@pytest.mark.parametrize(
    ("plot", "says"),
    [
        (lambda maps: plot_attention_map(maps), "of 9 panels; choose one by input (1, 2, 3); "),
        (lambda maps: plot_attention_map(maps, input=7), "input 7 is not in the table; there are"),
        (lambda maps: plot_attention_map(SCORES), "results.table('mean_qkv')"),
        (lambda maps: plot_attention_map(np.ones((2, 3, 3))), "weights have shape (2, 3, 3)"),
        (lambda maps: plot_attention_map(np.ones((3, 3)), palette="none"), "'none' is not known"),
        (lambda maps: plot_probe_heatmap(maps), "results.table('probe_auc')"),
        (lambda maps: plot_probe_heatmap(SCORES, metric="auroc"), "metric 'auroc' is not in the"),
        (lambda maps: plot_probe_heatmap(SCORES, tokens=["-9"]), "token '-9' is not in the table"),
        (
            lambda maps: plot_probe_heatmap(SCORES, highlight={"layers": [1, 9]}),
            "highlight: layers [1, 9]; layers are 0 to 4",
        ),
        (lambda maps: plot_probe_heatmap(SCORES, highlight={"layer": [1]}), "highlight: unknown"),
        (lambda maps: plot_probe_curve(SCORES, "0"), "token '0' is not in the table"),
        (lambda maps: plot_probe_curve(SCORES, "-1", controls=["x"]), "control 'x' is not in the"),
        (lambda maps: plot_module_map(SCORES), "results.table('module_map')"),
        (lambda maps: plot_module_map(MODULES, limits=(2, 1)), "plot_module_map: limits: [2, 1]"),
        (lambda maps: plot_module_map(MODULES, metric="output_rms"), "'output_rms' is not in the"),
        (
            lambda maps: plot_probe_curve(pd.concat([SCORES, SCORES]), "-1"),
            "several rows of layer 0, token last_q",
        ),
        (
            lambda maps: plot_probe_curve(
                pd.concat([SCORES.assign(preset=name) for name in ("strict", "published")]), "-1"
            ),
            "choose one, such as scores[scores['preset'] == 'strict']",
        ),
        (
            lambda maps: plot_attention_map(pd.concat([maps, maps]), input=1, component="key"),
            "several rows of query_position 0, key_position 0",
        ),
        (
            lambda maps: plot_module_map(pd.concat([MODULES, MODULES])),
            "several rows of layer 0, projection",
        ),
        (
            lambda maps: plot_probe_heatmap(SCORES[SCORES["control"] == "group_only"]),
            "control 'none' is not in the table",
        ),
        (lambda maps: plot_module_map(MODULES[:0]), "metric None is not in the table"),
        (lambda maps: plot_module_map(None), "NoneType is no table; take results.table('mod"),
        (lambda maps: plot_attention_map(np.ones((3, 3)), limits=(1, 0)), "limits: [1, 0]: the fi"),
        (
            lambda maps: plot_probe_heatmap(SCORES, ax=plt.subplots(1, 2)[1]),
            "ax is of type ndarray",
        ),
    ],
)
def test_a_mistake_is_one_line(maps, plot, says):
    with pytest.raises(UserError) as caught:
        plot(maps)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_an_import_is_light_and_leaves_the_users_backend(tmp_path):
    """In a process of its own, as these tests have imported everything already."""
    code = """
import sys
import llm_figures
def loaded():
    return [name for name in ("pandas", "matplotlib", "torch", "snakemake") if name in sys.modules]
print(*loaded(), "|")
llm_figures.Results
print(*loaded(), "|")
llm_figures.probe.load
llm_figures.plot_probe_heatmap
import matplotlib
print(matplotlib.get_backend(), *loaded())
from llm_figures import core
"""
    said = " ".join(run(code, MPLBACKEND="svg", HOME=str(tmp_path)))
    assert said == "| pandas | svg pandas matplotlib"
