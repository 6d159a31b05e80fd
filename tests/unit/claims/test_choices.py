"""The choices: what they are checked against, and what is drawn of them."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import compare_choices
import planted
from llm_figures.claims import choices_figure
from llm_figures.claims.choices import choice_rows
from llm_figures.claims.choices_page import choices_page
from llm_figures.core.errors import UserError
from llm_figures.workflow.config import check_claims

CHOICES = {"over": ["features"], "stage": ["after_rotary"], "scope": ["layer"],
           "layer": ["auto"], "head": ["mean"]}  # fmt: skip


def test_the_job_names_a_choice_outside_the_model(monkeypatch):
    """Where the config could not: the model was not there yet."""
    rows = [planted.states(1, [planted.sink(5)] * 3)]
    monkeypatch.setattr(compare_choices, "open_states", lambda path: rows)
    for changes, told in (
        ({"layer": ["auto", 1]}, r"^config: choices\.layer\[2\]: 1 is .* has layers 0 to 0$"),
        ({"head": [3]}, r"^config: choices\.head\[1\]: 3 is .* which has heads 0 to 2$"),
    ):
        with pytest.raises(UserError, match=told):
            compare_choices.main("a", None, "b", "c", "m", [], CHOICES | changes, {})


OPTIONS = {"components": ["query", "key", "value"], "epsilon": [0.5, 1e-3, 1e-10], "input": 1}


def rows(root, **changes):
    """Choices of a model whose rotary embedding is not known."""
    claims = check_claims({"claims": {"files": []}}, root / "config" / "claims.yaml")
    about = [claim for claim in claims if claim["figure"] in ("mean_qkv", "scale_qkv")]
    states = [planted.states(index, [planted.sink(14)]) for index in (1, 2, 3)]
    figures = {"mean_qkv": OPTIONS, "scale_qkv": OPTIONS}
    return choice_rows(about, CHOICES | changes, figures, states, {})


def drawn(found):
    fig = choices_figure.draw(found, {"palette": "Blues"})
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
    found = rows(root, stage=["before_rotary"])
    assert set(found["verdict"]) == {"not applicable"}
    titles, cells, frames = drawn(found)
    assert titles == ["mean_qkv: no statement applies", "scale_qkv: no statement applies"]
    assert cells == [["–"], ["–"]]
    assert frames == [0, 0]
    caption = choices_figure.describe(found, "m", {})
    assert caption.endswith(
        "No statement about mean_qkv applies. No statement about scale_qkv applies.\n"
    )
    assert choices_page(found, "m").count(
        "No statement applies to any combination: the model has no rotary embedding that can be "
        "observed."
    ) == len(titles)


def test_what_applies_in_part_has_its_numbers_and_its_frame(root):
    found = rows(root, stage=["before_rotary", "after_rotary"])
    titles, cells, frames = drawn(found)
    assert titles[0] == "mean_qkv: statements reproduced, of 28"
    assert all("–" in texts and len(texts) == 2 for texts in cells)
    assert frames == [1, 1]
    assert "Most of mean_qkv: " in choices_figure.describe(found, "m", {})
