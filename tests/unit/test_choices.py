"""The choices: what they are checked against, and what is drawn of them."""

import pytest

import compare_choices
import planted
from llm_figures.errors import UserError

CHOICES = {"over": ["features"], "stage": ["after_rotary"], "scope": ["layer"],
           "layer": ["auto"], "head": ["mean"]}  # fmt: skip


def test_the_job_names_a_choice_outside_the_model(monkeypatch):
    """Where the config could not: the model was not there yet."""
    rows = [(None, planted.states(1, [planted.sink(5)] * 3))]
    monkeypatch.setattr(compare_choices, "read_table", lambda path: path)
    monkeypatch.setattr(compare_choices, "layer_states", lambda table: rows)
    for changes, told in (
        ({"layer": ["auto", 1]}, r"^config: choices\.layer\[2\]: 1 is .* has layers 0 to 0$"),
        ({"head": [3]}, r"^config: choices\.head\[1\]: 3 is .* which has heads 0 to 2$"),
    ):
        with pytest.raises(UserError, match=told):
            compare_choices.main("a", None, "b", "c", "m", [], CHOICES | changes, {})
