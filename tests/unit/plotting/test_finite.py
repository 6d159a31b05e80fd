import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from drawn_figures import PROTOCOL, cells, probe_scores
from llm_figures.attention import figure as attention_figure
from llm_figures.attention.options import AttentionFigure
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.modules import figure as module_figure
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.drawing import drawing_style, render
from llm_figures.plotting.finite import check_drawn, check_table
from llm_figures.plotting.saving import save
from llm_figures.plotting.style import Style
from llm_figures.probe import figure as probe_figure
from llm_figures.probe import presets_figure
from llm_figures.probe.protocol import PRESETS, TOKENS


@pytest.fixture
def drawn_from(tmp_path):
    """Render a figure from a table; the caption."""

    def draw(module, table, options, model="m"):
        write_frame(table, tmp_path / "scores.parquet")
        render(
            module,
            scores=str(tmp_path / "scores.parquet"),
            files=[tmp_path / "figure.png"],
            caption=str(tmp_path / "figure.caption.txt"),
            panels=str(tmp_path / "panels.json"),
            model=model,
            options=options,
            style=Style(dpi=200),
        )
        return (tmp_path / "figure.caption.txt").read_text()

    draw.folder = tmp_path
    return draw


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "figure, Taking the Mean of Key (Input 1): 1 of 49 values are NaN, and the capti"),
        (np.inf, "scores.parquet: column weight: 1 of 147 values are infinite, which no figure ca"),
        (-np.inf, "scores.parquet: column weight: 1 of 147 values are infinite"),
    ],
    ids=["nan", "inf", "minus inf"],
)
def test_an_attention_map_with_a_cell_that_is_no_number_is_refused(
    options, drawn_from, value, message
):
    table = cells("mean_qkv", options["mean_qkv"], inputs=1)
    shown = read_options(AttentionFigure, options["mean_qkv"], "x").plain()
    assert "grey" not in drawn_from(attention_figure, table, shown)
    table.loc[60, "weight"] = value
    for file in drawn_from.folder.glob("figure.*"):
        file.unlink()
    with pytest.raises(UserError) as caught:
        drawn_from(attention_figure, table, shown)
    assert message in str(caught.value)
    assert not list(drawn_from.folder.glob("figure.*"))


def module_scores(value=0.5, metric="operation_strength"):
    rows = [(layer, name, metric, value) for layer in range(3) for name in PROJECTIONS[:4]]
    return pd.DataFrame(rows, columns=["layer", "projection", "metric", "value"])


def test_the_caption_of_a_module_map_names_cells_without_a_value(drawn_from):
    options = ModuleMap().of_metric("operation_strength").plain()
    table = module_scores()
    table["value"] += np.linspace(0, 0.1, len(table))
    assert "Grey" not in drawn_from(module_figure, table, options)
    reason = "its weights, or all of its inputs, are zero"
    table["note"] = ""
    table.loc[2, ["value", "note"]] = np.nan, reason
    place = f"{table.loc[2, 'projection']} in 1 of {table['layer'].nunique()} layers (0)"
    assert drawn_from(module_figure, table, options).endswith(f" Grey: {place}; {reason}.\n")
    with pytest.raises(UserError, match="of .* values are NaN, and the caption does not"):
        drawn_from(module_figure, table.drop([5, 6]).assign(note=""), options)
    nothing = drawn_from(module_figure, module_scores(np.nan).assign(note=reason), options)
    assert "No cell has a value. Grey: " in nothing


def test_the_captions_of_the_probe_name_cells_without_a_score(options, drawn_from):
    table = probe_scores(3, TOKENS["strict"])
    shown = {**options["probe_auc"], "tokens": TOKENS["strict"], **PROTOCOL}
    assert "grey" not in drawn_from(probe_figure, table, shown)
    short = table["token"] == "-1"
    table.loc[short, ["mean", "ci_low", "ci_high"]] = np.nan
    assert "Too few answers for a score (grey): -1." in drawn_from(probe_figure, table, shown)
    every = pd.concat([table.assign(preset=name) for name in PRESETS])
    caption = drawn_from(
        presets_figure,
        every,
        {
            **{key: options["probe_auc"][key] for key in ("metric", "palette", "limits")},
            "protocols": {name: protocol.plain() for name, protocol in PRESETS.items()},
        },
    )
    assert "Cells with too few answers for a score are grey." in caption


@pytest.mark.parametrize("draw", ["plot", "bar", "scatter"])
def test_lines_bars_and_points_are_looked_at_too(draw):
    fig, ax = plt.subplots()
    options = {"label": "probe"} if draw == "plot" else {}
    getattr(ax, draw)([1, 2, 3], [1.0, np.nan, 2.0], **options)
    ax.set_title("here")
    with pytest.raises(UserError, match=r"^mine, here: [12] of \d values are NaN"):
        check_drawn(fig, "A caption.", "mine")
    check_drawn(fig, "A caption. A gap: no value.", "mine")
    plt.close(fig)
    fig, ax = plt.subplots()
    getattr(ax, draw)([1, 2, 3], [1.0, 0.0, 2.0], **options)
    check_drawn(fig, "A caption.", "mine")
    plt.close(fig)


def test_a_table_with_an_infinite_value_is_refused_and_one_without_is_not():
    check_table(pd.DataFrame({"a": [1.0, np.nan], "b": ["x", "y"], "c": [1, 2]}), "x.parquet")
    with pytest.raises(UserError, match=r"x.parquet: column a: 2 of 3 values are infinite"):
        check_table(pd.DataFrame({"a": [np.inf, 0, -np.inf]}), "x.parquet")


@pytest.mark.parametrize("size", [(3, 400), (80, 80)], ids=["long", "large"])
def test_a_figure_too_large_for_an_image_is_refused(size, tmp_path):
    fig = plt.figure(figsize=size)
    message = r"inches, at config: style.dpi: 400 too large for an image \(.* pixels\); show fewer"
    with drawing_style(Style(dpi=400)), pytest.raises(UserError, match=message):
        save(fig, [tmp_path / "figure.png"])
    plt.close(fig)
    assert not list(tmp_path.iterdir())
