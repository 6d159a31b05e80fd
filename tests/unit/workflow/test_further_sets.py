"""The section `datasets` of the config: checks, estimates, names in messages."""

import copy

import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.questions.option_checks import name_set
from llm_figures.workflow import resources
from llm_figures.workflow.config import Config, check_config
from llm_figures.workflow.generate_config import format_config
from llm_figures.workflow.model_size import find_model_size
from llm_figures.workflow.workload import describe_workload


def checked(config, root):
    return check_config(copy.deepcopy(config), root / "config" / "models.yaml")[0]


def with_sets(config, **sets):
    return {**config, "datasets": {**config["datasets"], **sets}}


def test_the_built_in_sets_are_there_and_null_leaves_one_out(default_config, root):
    whole = checked(default_config, root)
    assert list(whole["datasets"]) == ["airports", "elements", "arithmetic"]
    assert whole["datasets"]["airports"]["source"] == "facts"
    fewer = checked(with_sets(default_config, airports=None), root)
    assert fewer["datasets"]["airports"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "none.csv"}, "config: datasets.mine.path: none.csv: no such file"),
        ({"name": "facts", "group": "a"}, "config: datasets.mine.group: 'a'; only for questions "
         "of your own (datasets.mine.path, or datasets.mine.repo)"),
        ({"path": "mine.csv", "hold_out": "other.csv"}, "config: datasets.mine.hold_out: "
         "'other.csv'; only dataset has held-out questions; make them a set of their own"),
        ({"path": "mine.csv", "answer": "gold"}, "config: datasets.mine.answer: "),
        ({"nmae": "facts"}, "config: datasets.mine: unknown key 'nmae'; did you mean name?"),
        ({"name": "birds"}, "config: datasets.mine.name: 'birds'"),
    ],
)  # fmt: skip
def test_a_problem_of_a_set_is_told_by_its_key(
    default_config, root, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):
        (tmp_path / f"{name}.csv").write_text("question,answer\nWhat is it?,it\n")
    with pytest.raises(UserError) as refused:
        checked(with_sets(default_config, mine=options), root)
    assert any(line.startswith(message) for line in str(refused.value).splitlines())


@pytest.mark.parametrize("name", ["a b", "1st", "../x", "", "x" * 41])
def test_a_set_is_named_as_a_folder_can_be(default_config, root, name):
    with pytest.raises(UserError, match="config: datasets"):
        checked(with_sets(default_config, **{name: {"name": "facts"}}), root)


def test_one_models_responses_are_not_those_of_another(default_config, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("question,answer,said\nWhat is it?,it,this\n")
    own = {"path": "mine.csv", "response": "said"}
    config = with_sets(default_config, mine=own) | {"models": ["smollm2-135m", "other"]}
    config["model_sources"] = {"other": {"source": "hub", "repo": "a/b", "revision": "0" * 40}}
    with pytest.raises(
        UserError, match=r"config: datasets.mine.response: 'said' holds one model's"
    ):
        checked(config, root)


def test_messages_about_the_dataset_become_those_of_a_set():
    assert name_set("config: dataset.path: x; see dataset.repo", "a") == (
        "config: datasets.a.path: x; see datasets.a.repo"
    )
    assert name_set("config: dataset: no questions are left", "a") == (
        "config: datasets.a: no questions are left"
    )
    assert name_set("dataset_x.csv: row 1", "a") == "dataset_x.csv: row 1"


def test_the_config_file_spells_out_what_differs_from_the_defaults():
    text = format_config(Config())
    assert "datasets:\n  airports: {name: airports}\n" in text


def test_jobs_of_a_set_are_estimated_by_its_own_questions(default_config, root):
    config = checked(default_config, root)
    from llm_figures.probe.options import list_protocols

    protocols = list_protocols(config)
    work = {name: describe_workload(config, protocols, name) for name in ("", "arithmetic")}
    assert work[""].questions == 1023
    assert work["arithmetic"].questions == 300
    assert work["arithmetic"].origin == "built-in arithmetic"
    assert work[""].transferred == (1023, 384, 320, 300)
    size = find_model_size("smollm2-135m", {"source": "path", "path": ""})
    seconds = {
        name: resources.estimate("generate_answers", size, one, 2).seconds
        for name, one in work.items()
    }
    assert seconds["arithmetic"] < seconds[""]
    fewer = describe_workload(checked(with_sets(default_config, airports=None), root), protocols)
    needs = [resources.estimate("score_transfer", size, one, 2) for one in (work[""], fewer)]
    assert needs[1].seconds < needs[0].seconds
    assert needs[1].memory < needs[0].memory
    figures = copy.deepcopy(default_config["figures"])
    figures["probe_transfer"]["layer"] = 30  # the last one, which is no layer of attention
    one = describe_workload(checked({**default_config, "figures": figures}, root), protocols)
    of_one = resources.estimate("score_transfer", size, one, 2)
    assert of_one.seconds < needs[1].seconds
    assert of_one.memory < needs[0].memory


def test_options_of_the_figure_are_checked(default_config):
    figures = copy.deepcopy(default_config["figures"])
    figures["probe_transfer"]["sets"] = ["one"]
    with pytest.raises(UserError, match=r"config: figures.probe_transfer.sets: .*at least 2"):
        read_options(Config, {**default_config, "figures": figures}, "config")
