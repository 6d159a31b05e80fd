import numpy as np
import pandas as pd
import pytest

from llm_figures.core.formatting import join_ranges
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as module_figure
from llm_figures.modules.figure import make_colour_scale
from llm_figures.modules.metrics import METRICS, name_maps, of_measure, shown_metrics
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import drawing_style, find_colour_map
from llm_figures.plotting.style import Style

STYLE = Style().changed(dpi=100)


OPTIONS = ModuleMap(compare_with="base")


def table(metric, values):
    rows = [
        (layer, projection, metric, value)
        for layer, row in enumerate(values)
        for projection, value in zip(PROJECTIONS, row, strict=False)
    ]
    return pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])


def test_one_metric_or_several_and_what_comes_with_them():
    assert shown_metrics("output_rms") == ["output_rms"]
    assert shown_metrics(["ablation_effect", "output_rms"]) == [
        "ablation_effect",
        "ablation_kl",
        "output_rms",
    ]
    assert shown_metrics(["ablation_kl", "ablation_effect"]) == ["ablation_kl", "ablation_effect"]
    assert name_maps(["probe_auc", "output_rms"]) == {
        "module_map": "probe_auc",
        "module_map_output_rms": "output_rms",
    }
    assert of_measure(METRICS, "ablation") == ["ablation_effect", "ablation_kl"]
    several = ["relative_update", "output_rms", "subspace_rotation"]
    options = OPTIONS.changed(metric=tuple(several))
    assert options.metrics == options.metrics_of("tuned") == several
    assert options.metrics_of("base") == ["output_rms"]


def test_limits_and_centre_may_be_set_by_metric():
    options = OPTIONS.changed(limits={"output_rms": (0, 1)}, centre={"output_rms": 0.2})
    of_metric = options.of_metric("output_rms")
    assert (of_metric.limits, of_metric.centre, of_metric.metric) == ((0, 1), 0.2, "output_rms")
    of_metric = options.of_metric("ablation_kl")
    assert (of_metric.limits, of_metric.centre) == ("robust", "auto")
    of_metric = OPTIONS.changed(limits="data", centre=None).of_metric("ablation_kl")
    assert (of_metric.limits, of_metric.centre) == ("data", None)
    assert "texts" not in of_metric.plain()
    assert ModuleMap.model_validate(options.plain()) == options  # as params have them


def colours_of(metric, values, **changes):
    return make_colour_scale(np.array(values), OPTIONS.changed(**changes).of_metric(metric))


def test_a_neutral_value_is_white_and_steps_are_alike_on_both_sides():
    cmap, (low, high) = colours_of("ablation_effect", [-1.0, 0, 3.0], limits="data")
    assert (low, high) == (-1.0, 3.0)

    def colour(value):
        return np.array(cmap((value - low) / (high - low)))

    full = find_colour_map("blue-white-orange")
    for value in (-1.0, -0.5, 0.0, 1.5, 3.0):  # the place on a scale from -3 to 3
        np.testing.assert_allclose(colour(value), full((value + 3) / 6), atol=0.02)
    assert colour(0.0)[:3].min() > 0.98
    # without a neutral value the middle of the limits is white
    cmap, (low, high) = colours_of("operation_strength", [-1.0, 0, 3.0], limits="data")
    assert np.array(cmap(0.5))[:3].min() > 0.98
    np.testing.assert_allclose(cmap(0.0), full(0.0))
    # which can be asked for, too, as any other value
    cmap, _ = colours_of("ablation_effect", [-1.0, 0, 3.0], limits="data", centre=None)
    np.testing.assert_allclose(cmap(0.0), full(0.0))
    cmap, _ = colours_of("output_rms", [0.0, 4.0], limits="data", centre=1)
    np.testing.assert_allclose(cmap(0.25)[:3], (1, 1, 1), atol=0.02)


def test_a_neutral_value_far_from_all_others_takes_no_colours():
    full = find_colour_map("blue-white-orange")
    cmap, _ = colours_of("probe_auc", [0.80, 0.91], limits="data")
    np.testing.assert_allclose(cmap(0.0), full(0.0))
    assert "middle colour" not in module_figure.describe(
        table("probe_auc", [[0.8, 0.9]]), "m", OPTIONS.of_metric("probe_auc")
    )
    cmap, _ = colours_of("probe_auc", [0.52, 0.91], limits="data")
    np.testing.assert_allclose(cmap(0.0)[:3], (1, 1, 1), atol=0.06)


@pytest.mark.parametrize("metric", METRICS)
def test_a_caption_gives_the_formula_and_the_range(metric):
    values = np.linspace(0.1, 2.0, 14).reshape(2, 7)
    options = OPTIONS.changed(limits="data").of_metric(metric)
    caption = module_figure.describe(table(metric, values), "tuned", options)
    assert "tuned" in caption
    assert "Values span 0.1000 to 2.0000, colours 0.1000 to 2.0000" in caption
    assert "{" not in caption
    if METRICS[metric].measure == "updates":
        assert "base" in caption
    if (
        METRICS[metric].neutral is not None
    ):  # which is within the values or near them for all metrics
        assert f"the middle colour at {METRICS[metric].neutral:g}" in caption
    with drawing_style(STYLE):
        fig = module_figure.draw(table(metric, values), options)
    assert fig.axes[-1].get_ylabel() == METRICS[metric].label


def test_cells_that_are_all_alike_or_all_empty_are_drawn():
    for value in (0.0, 0.3, np.nan):
        options = OPTIONS.of_metric("update_effective_rank")
        with drawing_style(STYLE):
            module_figure.draw(table("update_effective_rank", np.full((2, 7), value)), options)
    empty = table("update_effective_rank", np.full((2, 7), np.nan))
    assert "No cell has a value" in module_figure.describe(empty, "tuned", options)


def test_the_caption_names_grey_cells_and_their_reason():
    shown = table("relative_update", [[0.1, 0.2], [0.3, np.nan], [np.nan, np.nan], [0.2, 0.1]])
    reasons = ["", "", "", "its earlier weights are all zero", *["the layer has none"] * 2, "", ""]
    caption = module_figure.describe(
        shown.assign(note=reasons), "m", OPTIONS.of_metric("relative_update")
    )
    assert (
        " Grey: attn. k in 1 of 4 layers (1); its earlier weights are all zero."
        " Grey: attn. q, attn. k in 1 of 4 layers (2); the layer has none.\n"
    ) in caption
    assert "nan" not in caption
    beside = table("relative_update", [[0.1, 0.2]]).assign(note="a state space (mamba)")
    caption = module_figure.describe(beside, "m", OPTIONS.of_metric("relative_update"))
    assert caption.endswith(" Layers also have a state space (mamba), which is not shown.\n")
    assert join_ranges([0, 1, 2, 4, 6, 7]) == "0–2, 4, 6–7"
