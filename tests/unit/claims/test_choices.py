"""The choices: what they are checked against, and what is drawn of them."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import compare_choices
import planted
from llm_figures.attention.maps import LayerStates
from llm_figures.attention.options import AttentionScoring
from llm_figures.claims import choices_figure
from llm_figures.claims.choices import count_reproduced, describe_layers, evaluate_choices
from llm_figures.claims.choices_page import render_choices_page
from llm_figures.claims.combinations import _resolve_share
from llm_figures.claims.options import ChoicesDrawing, ChoicesScoring
from llm_figures.core.errors import UserError
from llm_figures.workflow.config import check_claims

CHOICES = {"over": ["features"], "stage": ["after_rotary"], "scope": ["layer"],
           "layer": ["auto"], "head": ["mean"]}  # fmt: skip


def test_the_job_names_a_choice_outside_the_model(monkeypatch):
    """Where the config could not: the model was not there yet."""
    rows = [planted.states(1, [planted.sink(5)] * 3)]
    monkeypatch.setattr(compare_choices, "open_states", lambda path: rows)
    for changes, message in (
        ({"layer": ["auto", 1]}, r"^config: choices\.layer\[2\]: 1 is .* has layers 0 to 0$"),
        ({"head": [3]}, r"^config: choices\.head\[1\]: 3 is .* which has heads 0 to 2$"),
    ):
        choices = ChoicesScoring(**CHOICES | changes)
        with pytest.raises(UserError, match=message):
            compare_choices.main("a", None, "b", "c", "m", [], choices, {})


def rows(root, **changes):
    """Choices of a model whose rotary embedding is not known."""
    claims = check_claims({"claims": {"files": []}}, root / "config" / "claims.yaml")
    about = [claim for claim in claims if claim.figure in ("mean_qkv", "scale_qkv")]
    states = [planted.states(index, [planted.sink(14)]) for index in (1, 2, 3)]
    figures = dict.fromkeys(("mean_qkv", "scale_qkv"), AttentionScoring())
    choices = ChoicesScoring(**CHOICES | changes)
    return evaluate_choices(about, choices, figures, states, {})


def drawn(table):
    fig = choices_figure.draw(table, ChoicesDrawing())
    titles = [ax.get_title(loc="left") for ax in fig.axes[:-1]]
    cells = [sorted({text.get_text() for text in ax.texts}) for ax in fig.axes[:-1]]
    frames = [
        sum(isinstance(patch, mpl.patches.Rectangle) for patch in ax.patches)
        for ax in fig.axes[:-1]
    ]
    fig.canvas.draw()
    plt.close(fig)
    return titles, cells, frames


def test_a_block_to_which_nothing_applies_says_so(root):
    table = rows(root, stage=["before_rotary"])
    assert set(table["verdict"]) == {"not applicable"}
    titles, cells, frames = drawn(table)
    assert titles == ["mean_qkv: no statement applies", "scale_qkv: no statement applies"]
    assert cells == [["–"], ["–"]]
    assert frames == [0, 0]
    caption = choices_figure.describe(table, "m", ChoicesDrawing())
    assert caption.endswith(
        "No statement about mean_qkv applies. No statement about scale_qkv applies.\n"
    )
    assert render_choices_page(table, "m").count(
        "No statement applies to any combination: the model has no rotary embedding that can be "
        "observed."
    ) == len(titles)


def test_what_applies_in_part_has_its_numbers_and_its_frame(root):
    table = rows(root, stage=["before_rotary", "after_rotary"])
    titles, cells, frames = drawn(table)
    apart = table.loc[table["decided"] & (table["operation"] == "mean"), "claim"].nunique()
    assert titles[0] == f"mean_qkv: statements reproduced, of {28 - apart}"
    assert all("–" in texts and len(texts) == 2 for texts in cells)
    assert frames == [1, 1]
    assert " hold for mean_qkv, with the intervention " in choices_figure.describe(
        table, "m", ChoicesDrawing()
    )


def test_random_maps_are_counted_beside_the_statements(root):
    table = rows(root)
    (best, *_) = count_reproduced(table).to_dict("records")
    own = table[(table["operation"] == best["operation"]) & ~table["decided"]]
    shares = (own["held_references"] / own["references"]).astype(float)
    assert 0 < shares.sum() < best["applicable"] == shares.count()
    assert best["baseline"] == pytest.approx(shares.sum())
    page = render_choices_page(table, "m")
    assert f"| {best['reproduced']} of {best['applicable']} | {shares.sum():.1f} | over " in page
    caption = choices_figure.describe(table, "m", ChoicesDrawing())
    assert f"; random maps satisfy {shares.sum():.1f} of these on average." in caption


def test_choices_of_an_earlier_version_have_no_baseline(root):
    table = rows(root).drop(columns=["references", "held_references"])
    assert count_reproduced(table)["baseline"].isna().all()
    assert re.search(r"\| \d+ of \d+ \| – \| over ", render_choices_page(table, "m"))
    assert "random maps satisfy" not in choices_figure.describe(table, "m", ChoicesDrawing())


def test_layers_without_attention_are_counted(root):
    table = rows(root)
    assert describe_layers(table) == ""
    hybrid = table.assign(model_layers=12)
    caption = choices_figure.describe(hybrid, "m", ChoicesDrawing())
    known = table["attention_layers"].iloc[0]
    sentence = f" {known} of the model's 12 layers have attention: every layer means these, and a"
    assert sentence in caption
    assert sentence in render_choices_page(hybrid, "m")


@pytest.mark.parametrize(
    ("share", "layers", "model_layers", "expected"),
    [("50%", range(32), 32, 16), ("25%", range(30), 30, 7), ("50%", [3, 7, 11], 12, 7),
     ("0%", [3, 7, 11], 12, 3), ("40%", [2, 6], 9, 2)],
)  # fmt: skip
def test_a_share_of_the_depth_takes_the_nearest_layer_with_attention(
    share, layers, model_layers, expected
):
    state = np.zeros((1, 3, 4), np.float32)
    clean = [
        LayerStates(1, layer, state, state, 1.0, model_layers=model_layers) for layer in layers
    ]
    assert _resolve_share(share, clean) == expected
