import numpy as np
import pandas as pd
import pytest

from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as module_figure
from llm_figures.modules.figure import colour_scale
from llm_figures.modules.metrics import (
    METRICS,
    drawing_options,
    metrics_of_model,
    module_maps,
    of_measure,
    shown_metrics,
)
from llm_figures.plotting.drawing import drawing_style, find_colour_map
from llm_figures.plotting.style import Style

STYLE = Style().changed(dpi=100)


@pytest.fixture
def options(default_config):
    return default_config["figures"]["module_map"] | {"compare_with": "base"}


def table(metric, values):
    rows = [
        (layer, module, metric, value)
        for layer, row in enumerate(values)
        for module, value in zip(PROJECTIONS, row, strict=False)
    ]
    return pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])


def test_one_metric_or_several_and_what_comes_with_them(options):
    assert shown_metrics("output_rms") == ["output_rms"]
    assert shown_metrics(["ablation_effect", "output_rms"]) == [
        "ablation_effect",
        "ablation_kl",
        "output_rms",
    ]
    assert shown_metrics(["ablation_kl", "ablation_effect"]) == ["ablation_kl", "ablation_effect"]
    assert module_maps(["probe_auc", "output_rms"]) == {
        "module_map": "probe_auc",
        "module_map_output_rms": "output_rms",
    }
    assert of_measure(METRICS, "ablation") == ["ablation_effect", "ablation_kl"]
    options["metric"] = ["relative_update", "output_rms", "subspace_rotation"]
    assert metrics_of_model(options, "tuned") == options["metric"]
    assert metrics_of_model(options, "base") == ["output_rms"]


def test_limits_and_centre_may_be_set_by_metric(options):
    options |= {"limits": {"output_rms": [0, 1]}, "centre": {"output_rms": 0.2}}
    chosen = drawing_options(options, "output_rms")
    assert (chosen["limits"], chosen["centre"], chosen["metric"]) == ([0, 1], 0.2, "output_rms")
    chosen = drawing_options(options, "ablation_kl")
    assert (chosen["limits"], chosen["centre"]) == ("robust", "auto")
    options |= {"limits": "data", "centre": None}
    chosen = drawing_options(options, "ablation_kl")
    assert (chosen["limits"], chosen["centre"]) == ("data", None)
    assert "texts" not in chosen


def drawn_with(options, metric, values, **changes):
    return colour_scale(np.array(values), drawing_options(options | changes, metric))


def test_a_neutral_value_is_white_and_steps_are_alike_on_both_sides(options):
    cmap, (low, high) = drawn_with(options, "ablation_effect", [-1.0, 0, 3.0], limits="data")
    assert (low, high) == (-1.0, 3.0)

    def colour(value):
        return np.array(cmap((value - low) / (high - low)))

    full = find_colour_map("blue-white-orange")
    for value in (-1.0, -0.5, 0.0, 1.5, 3.0):  # the place on a scale from -3 to 3
        np.testing.assert_allclose(colour(value), full((value + 3) / 6), atol=0.02)
    assert colour(0.0)[:3].min() > 0.98
    # without a neutral value the middle of the limits is white
    cmap, (low, high) = drawn_with(options, "operation_strength", [-1.0, 0, 3.0], limits="data")
    assert np.array(cmap(0.5))[:3].min() > 0.98
    np.testing.assert_allclose(cmap(0.0), full(0.0))
    # which can be asked for, too, as any other value
    cmap, _ = drawn_with(options, "ablation_effect", [-1.0, 0, 3.0], limits="data", centre=None)
    np.testing.assert_allclose(cmap(0.0), full(0.0))
    cmap, _ = drawn_with(options, "output_rms", [0.0, 4.0], limits="data", centre=1)
    np.testing.assert_allclose(cmap(0.25)[:3], (1, 1, 1), atol=0.02)


def test_a_neutral_value_far_from_all_others_takes_no_colours(options):
    full = find_colour_map("blue-white-orange")
    cmap, _ = drawn_with(options, "probe_auc", [0.80, 0.91], limits="data")
    np.testing.assert_allclose(cmap(0.0), full(0.0))
    assert "middle colour" not in module_figure.describe(
        table("probe_auc", [[0.8, 0.9]]), "m", drawing_options(options, "probe_auc")
    )
    cmap, _ = drawn_with(options, "probe_auc", [0.52, 0.91], limits="data")
    np.testing.assert_allclose(cmap(0.0)[:3], (1, 1, 1), atol=0.06)


@pytest.mark.parametrize("metric", METRICS)
def test_a_caption_gives_the_formula_and_the_range(metric, options):
    values = np.linspace(0.1, 2.0, 14).reshape(2, 7)
    chosen = drawing_options(options | {"limits": "data"}, metric)
    caption = module_figure.describe(table(metric, values), "tuned", chosen)
    assert "tuned" in caption
    assert "Values span 0.1000 to 2.0000, colours 0.1000 to 2.0000" in caption
    assert "{" not in caption
    if METRICS[metric].measure == "updates":
        assert "base" in caption
    if METRICS[metric].neutral is not None:  # all of them lie within the values, or near them
        assert f"the middle colour at {METRICS[metric].neutral:g}" in caption
    with drawing_style(STYLE):
        fig = module_figure.draw(table(metric, values), chosen)
    assert fig.axes[-1].get_ylabel() == METRICS[metric].label


def test_cells_that_are_all_alike_or_all_empty_are_drawn(options):
    for value in (0.0, 0.3, np.nan):
        chosen = drawing_options(options, "update_effective_rank")
        with drawing_style(STYLE):
            module_figure.draw(table("update_effective_rank", np.full((2, 7), value)), chosen)
    empty = table("update_effective_rank", np.full((2, 7), np.nan))
    assert "No cell has a value" in module_figure.describe(empty, "tuned", chosen)
