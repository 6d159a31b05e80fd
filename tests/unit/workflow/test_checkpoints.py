"""Checkpoints of the config as models of the run."""

import pytest

from llm_figures.core.errors import UserError
from llm_figures.workflow.checkpoints import list_places, place_folder
from llm_figures.workflow.config import check_config, read_config

COMMITS = {"step0": "0" * 40, "step1000": "1" * 40}
HUB = {"source": "hub", "repo": "some/model", "revision": "f" * 40}
TUNED = {"source": "finetune", "base": "smollm2-135m", "steps": 16}
SOURCES = {"far": HUB, "tuned": TUNED}


@pytest.fixture
def check(default_config, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def check(checkpoints, **changes):
        config = {**default_config, "model_sources": SOURCES, "checkpoints": checkpoints, **changes}
        return check_config(config, root / "config" / "models.yaml")

    return check


def test_revisions_are_pinned_models_of_their_own(check):
    config, entries = check({"model": "far", "revisions": COMMITS})
    assert list(entries) == config["models"] == ["far@step0", "far@step1000"]
    assert entries["far@step1000"]["revision"] == "1" * 40
    assert {entry["repo"] for entry in entries.values()} == {"some/model"}
    places = list_places(read_config(config).checkpoints)
    assert [(place.label, place.x) for place in places] == [("step0", 0), ("step1000", 1000)]
    # a config that was checked is as it was
    assert check(config["checkpoints"], **{k: config[k] for k in ("models", "model_sources")}) == (
        config, entries,
    )  # fmt: skip


def test_a_training_is_divided_at_its_steps(check):
    _, entries = check({"model": "tuned", "steps": [0, 4, 16]})
    assert list(entries) == ["smollm2-135m", "tuned@step4", "tuned@step16"]
    assert entries["smollm2-135m"]["source"] == "pypi"
    parts = [entries[f"tuned@step{step}"]["part"] for step in (4, 16)]
    assert parts == [
        {"after": "smollm2-135m", "done": 0, "until": 4},
        {"after": "tuned@step4", "done": 4, "until": 16},
    ]


def test_models_of_growing_size_are_as_they_are(check):
    config, entries = check({"models": ["smollm2-135m", "mistral-7b-instruct"]})
    assert list(entries) == ["smollm2-135m", "mistral-7b-instruct"]
    assert [place.x for place in list_places(read_config(config).checkpoints)] == [None, None]


def test_a_result_folder_has_its_place_in_its_name(check):
    options = read_config({"checkpoints": {"folders": ["a/step-1", "a/step-2"]}}).checkpoints
    assert place_folder(options, "old/far@step500") == ("far@step500", "step500", 500)
    with pytest.raises(UserError, match="old/last: its name has no number"):
        place_folder(options, "old/last")
    # its number may be of another unit than the places that are given
    with pytest.raises(UserError, match=r"old/step-500: checkpoints.x gives places, but none of a"):
        place_folder(options.changed(x=(1.5, 3.0)), "old/step-500")


@pytest.mark.parametrize(
    ("checkpoints", "changes", "line"),
    [
        ({"model": "far", "revisions": {"step1": "main"}}, {}, "the 40 hex digits of a commit"),
        ({"model": "far", "steps": [1, 2]}, {}, "far has source hub, but steps are of a model"),
        ({"model": "tuned", "revisions": COMMITS}, {}, "tuned has source finetune, but revisions"),
        ({"model": "nobody", "steps": [1, 2]}, {}, "checkpoints.model: 'nobody' is neither in"),
        ({"steps": [1, 2]}, {}, "checkpoints.model: missing; name the model that the steps are of"),
        ({"model": "tuned", "steps": [4, 17]}, {}, "steps: 17 is beyond the 16 steps of tuned"),
        ({"model": "tuned", "steps": [8, 4]}, {}, "'step4' has the place 4, not after 'step8'"),
        (
            {"model": "tuned", "steps": [8, 4], "x": [1, 2]},
            {},
            "checkpoints.steps: 4 is not after 8; name them in rising order",
        ),
        ({"model": "far", "revisions": {}}, {}, "revisions: fewer than two checkpoints; name at"),
        ({"model": "far", "revisions": {"step1": "0" * 40}}, {}, "revisions: fewer than two"),
        ({"folders": ["..", "a/step-1"], "x": [1, 2]}, {}, "'..'; allowed: a name of letters"),
        ({"folders": ["_models", "a/step-1"], "x": [1, 2]}, {}, "'_models'; allowed: a name of"),
        ({"folders": ["a/step 1", "a/step-2"]}, {}, "'step 1'; allowed: a name of letters"),
        ({"model": "far"}, {}, "checkpoints.model is given, but no checkpoints; name them in one"),
        (
            {"model": "far", "revisions": COMMITS, "steps": [1, 2]},
            {},
            "revisions and steps are given; name the checkpoints in one way",
        ),
        (
            {"model": "far", "revisions": {"begin": "0" * 40, "end": "1" * 40}},
            {},
            "the label 'begin' has no number; give the place of every checkpoint in checkpoints.x",
        ),
        ({"model": "far", "revisions": COMMITS, "x": [1, 2, 3]}, {}, "3 places for 2 checkpoints"),
        ({"folders": ["a/step-1", "b/step-1"]}, {}, "two checkpoints would be called step-1"),
        (
            {"model": "far", "revisions": COMMITS},
            {"models": ["smollm2-135m"]},
            "models and checkpoints are both given; leave out one",
        ),
        (
            {"model": "far", "revisions": COMMITS},
            {"model_sources": {**SOURCES, "far@step0": HUB}},
            "far@step0 is also the name of another model; rename one",
        ),
    ],
)
def test_wrong_checkpoints_are_one_line(check, checkpoints, changes, line):
    with pytest.raises(UserError) as caught:
        check(checkpoints, **changes)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
