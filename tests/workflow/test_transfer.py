"""Probes between sets of questions, on a tiny model."""

import json

import pandas as pd
import pytest

from documented import find_differences
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.probe.transfer import BASELINE

pytestmark = pytest.mark.workflow
BUILT_IN = dict.fromkeys(("airports", "elements", "arithmetic"))


def test_further_sets_are_answered_and_scored_by_the_same_rules(made, tmp_path):
    project = made.copy(tmp_path / "project")
    before = {path: path.stat().st_mtime_ns for path in project.results.rglob("*.parquet")}
    rows = [json.loads(line) for line in (project.folder / "mine.jsonl").open()]
    # of the groups, every question from the 60th on is asked again
    (project.folder / "again.jsonl").write_text("\n".join(map(json.dumps, rows[60:])))
    wrong = [{**row, "gold": ["not this one"]} for row in rows[:50]]
    (project.folder / "wrong.jsonl").write_text("\n".join(map(json.dumps, wrong)))
    mine = project.overlay["dataset"]
    project.change(
        datasets={
            **BUILT_IN,
            "again": {**mine, "path": "again.jsonl"},
            "wrong": {**mine, "path": "wrong.jsonl"},
        },
        figures__probe_transfer={"tokens": ["last_q", "-1"]},
    )
    planned = project.planned("probe_transfer")
    assert planned == {
        **dict.fromkeys(
            (
                "build_questions",
                "generate_answers",
                "judge_answers",
                "report_answers",
                "extract_hidden_states",
            ),
            2,
        ),
        **dict.fromkeys(
            ("score_transfer", "render_figure", "check_table_claims", "probe_transfer"), 1
        ),
    }
    project.run("probe_transfer")
    assert find_differences(project.results) == {}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert project.planned("probe_transfer") == {}
    # the manifest holds the config; nothing else of the target `figures` is concerned
    assert project.planned("figures") == {"write_manifest": 1}

    table = read_frame(project.results / "probe" / "transfer.parquet")
    left_out = table[table["n_test"].isna()].set_index("test")["problem"]
    assert list(left_out.index) == ["1", "2", "wrong"]
    assert left_out["wrong"] == "0 right and 50 wrong answers"
    inside = table[table["n_test"].notna()].set_index(["train", "test", "control"])
    assert len(inside) == 2 * 4
    assert inside.loc[("again", "0", "none"), "auc"] > 0
    assert inside.loc[("again", "0", BASELINE), "n_train"] == 40
    assert inside.loc[("again", "0", "none"), "shared"] == 20
    # without the questions that are asked again, too few are left to train on
    assert inside.loc[("0", "again", "none"), "problem"].startswith("train: ")
    assert pd.isna(inside.loc[("0", "again", "none"), "auc"])
    caption = (project.results / "figures" / "probe_transfer.caption.txt").read_text()
    assert "A grey cell with a dash" in caption
    assert "wrong answers: 1, 2, wrong." in caption
    for name in ("again", "wrong"):
        assert (project.results / "datasets" / name / "forward" / "answers.md").is_file()
        assert list((project.results / "records" / "datasets" / name).rglob("*.json"))

    # one cell for all probes, and the groups as one set: nothing is answered or extracted again
    project.change(figures__probe_transfer={"tokens": ["-1"], "layer": 2, "by_group": False})
    scored = ("score_transfer", "render_figure", "check_table_claims", "probe_transfer")
    assert project.planned("probe_transfer") == dict.fromkeys(scored, 1)
    project.run("probe_transfer")
    table = read_frame(project.results / "probe" / "transfer.parquet")
    probes = table[table["control"].eq("none") & table["auc"].notna()]
    assert {*probes["train"]} == {"dataset", "again"}
    assert {*probes["layer"]} == {2}
    assert {*probes["token"]} == {"-1"}
    caption = (project.results / "figures" / "probe_transfer.caption.txt").read_text()
    assert "All probes are of layer 2 and token -1." in caption

    # another question in one set runs that set's chain alone
    (project.folder / "again.jsonl").write_text("\n".join(map(json.dumps, rows[58:])))
    planned = project.planned("probe_transfer")
    assert planned["generate_answers"] == planned["extract_hidden_states"] == 1
    assert planned["score_transfer"] == 1


def test_a_set_with_an_unreadable_answer_is_named(made, tmp_path):
    project = made.copy(tmp_path / "project")
    rows = [{"ask": f"What is {n}?", "gold": "a; b"} for n in range(50)]
    (project.folder / "doubtful.jsonl").write_text("\n".join(map(json.dumps, rows)))
    mine = {"path": "doubtful.jsonl", "question": "ask", "answer": "gold"}
    project.change(datasets={**BUILT_IN, "doubtful": mine})
    _, output = project.run("probe_transfer", check=False)
    assert "config: datasets.doubtful.answer: doubtful.jsonl: row 1" in output
