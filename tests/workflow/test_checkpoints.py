"""Key numbers over checkpoints, whose states are deleted once they are scored, on tiny models."""

import json
import shutil

import pandas as pd
import pytest

import tiny
from documented import find_differences
from project import OTHER_MODEL, tiny_project

pytestmark = pytest.mark.workflow

STATES = (
    "forward/attention_states.parquet",
    "forward/random_weights_states.parquet",
    "forward/hidden_states/residual/0-of-1.parquet",
)
TOKENS = ["last_q", "exact_answer_last"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root):
    """Three checkpoints, the third with the weights of the first; states are not kept."""
    project = tiny_project(tmp_path_factory.mktemp("checkpoints"), root)
    run = project.folder / "run"
    tiny.save(run / "step-10")
    tiny.save(run / "step-20", **OTHER_MODEL)
    shutil.copytree(run / "step-10", run / "step-40")
    project.change(
        checkpoints={"folders": [f"run/step-{step}" for step in (10, 20, 40)]},
        keep_states=False,
        dataset__limit=60,
        figures__probe_auc={"tokens": TOKENS, "highlight": None},
    )
    del project.overlay["model"]
    _, output = project.run("over_checkpoints", "figures")
    return project, output


def test_curves_over_checkpoints(trained):
    project, output = trained
    results = project.folder / "results"
    assert find_differences(results / "_models") == {}
    table = pd.read_parquet(results / "_models" / "over_checkpoints.parquet")
    assert table["checkpoint"].unique().tolist() == ["step-10", "step-20", "step-40"]
    assert table["x"].unique().tolist() == [10, 20, 40]
    line = "Same weights (sha256): step-10, step-40."
    assert line in output
    caption = (results / "_models" / "figures" / "over_checkpoints.caption.txt").read_text()
    assert line in caption
    assert set(table.loc[table["checkpoint"] == "step-40", "same_weights_as"]) == {"step-10"}
    values = table.pivot(index=["figure", "number"], columns="checkpoint", values="value")
    pd.testing.assert_series_equal(values["step-10"], values["step-40"], check_names=False)
    assert (values["step-10"] != values["step-20"]).any()
    for label in ("step-10", "step-20"):
        stated = json.loads((results / label / "figures" / "probe_auc.numbers.json").read_text())
        assert (
            values.loc[("probe_auc", "highest_score"), label]
            == (stated["numbers"]["highest_score"]["value"])
        )
        answers = pd.read_parquet(results / label / "forward" / "answers.parquet")
        right = answers.loc[answers["valid"], "correct"].mean()
        assert values.loc[("answers", "right"), label] == pytest.approx(right)


def test_states_are_deleted_and_nothing_runs_again(trained):
    project, _ = trained
    for label in ("step-10", "step-20", "step-40"):
        folder = project.folder / "results" / label
        assert not [name for name in STATES if (folder / name).exists()]
        manifest = json.loads((folder / "manifest.json").read_text())
        assert set(STATES) <= set(manifest["not_kept"])
        assert not set(STATES) & manifest["files"].keys()
        (ran_on,) = manifest["stages"]["extract_attention_states"]["ran_on"]
        assert ran_on["proof"]["layers"] == (2 if label == "step-20" else 3)
    assert project.planned("figures", "over_checkpoints").keys() <= {"over_checkpoints"}
    _, output = project.run("verify")
    # sink_map, which over_checkpoints asks for, is no part of a manifest's run
    others = [line for line in output.splitlines() if "since" in line and "sink_map" not in line]
    assert others == []
    shutil.rmtree(project.folder / ".snakemake")
    assert project.planned("figures", "over_checkpoints").keys() <= {"over_checkpoints"}


def test_what_reads_states_later_makes_them_again(trained, tmp_path):
    project = trained[0].copy(tmp_path)
    planned = project.planned("results/step-20/choices.parquet")
    assert {"extract_attention_states", "compare_choices"} <= planned.keys()
    assert not {"generate_answers", "extract_hidden_states", "prepare_model"} & planned.keys()
    # another figure makes them again, for itself alone
    project.change(figures__sink_map__tokens=4)
    project.run("results/step-20/attention/sink_map.parquet")
    assert not [name for name in STATES if (project.folder / "results/step-20" / name).exists()]
    assert project.planned("figures").keys() <= {"write_manifest"}  # its config has changed
    # what the states were made from has changed: they are made again, though they are not there
    project.change(inputs=["Quite another text of the user's."])
    assert {"extract_attention_states", "score_attention"} <= project.planned().keys()
    assert "extract_hidden_states" not in project.planned()
