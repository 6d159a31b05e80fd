"""A model of `source: finetune` through the workflow, on a tiny random base."""

import hashlib
import json
import os
import signal
import subprocess
import time

import pandas as pd
import pytest

from documented import find_differences
from project import tiny_project

pytestmark = pytest.mark.workflow

OPTIONS = {
    "source": "finetune",
    "base": "tiny",
    "groups": ["capital", "symbol"],
    "share": 0.1,
    "steps": 8,
    "batch_size": 4,
    "learning_rate": 3e-5,  # low, so that some answers stay right for the probe
}


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, root):
    """All figures of a fine-tuned model, whose base is not among the run's models."""
    project = tiny_project(tmp_path_factory.mktemp("tuned"), root)
    project.change(model="tuned", model_sources__tuned=dict(OPTIONS))
    project.run()
    return project


def test_a_fine_tuned_model_works_as_any_other(finetuned):
    results = finetuned.folder / "results" / "tuned"
    assert (results / "figures" / "probe_auc.svg").is_file()
    # nothing of the base is made but its model info
    base = finetuned.folder / "results" / "tiny"
    made = {path.name for path in base.iterdir()}
    assert made == {"model.json", "records", "logs", "benchmarks"}
    model_info = json.loads((results / "model.json").read_text())
    assert (model_info["source"], model_info["base"]) == ("finetune", "tiny")
    assert model_info["base_weights"] == json.loads((base / "model.json").read_text())["weights"]
    weights = "model.safetensors"
    assert model_info["weights"][weights] != model_info["base_weights"][weights]
    facts = model_info["facts"]
    assert facts["trained"]["loss_after"] < facts["trained"]["loss_before"]
    table = pd.read_parquet(results / "finetuned" / "questions.parquet")
    assert facts["trained"]["count"] == table["trained"].sum()
    assert facts["held_out"]["count"] == (~table["trained"]).sum()
    assert len(pd.read_parquet(results / "finetuned" / "steps.parquet")) == 8
    assert finetuned.planned() == {}


def test_manifest_and_verify_cover_the_files_of_training(finetuned):
    results = finetuned.folder / "results" / "tuned"
    manifest = json.loads((results / "manifest.json").read_text())
    made = {name for name, file in manifest["files"].items() if file["made_by"] == "finetune_model"}
    names = ("questions.parquet", "steps.parquet", "model.safetensors")
    assert made == {f"finetuned/{name}" for name in names}
    assert (
        manifest["model"]["weights"]["model.safetensors"]
        == (manifest["files"]["finetuned/model.safetensors"]["sha256"])
    )
    (ran_on,) = manifest["stages"]["finetune_model"]["ran_on"]
    assert ran_on["dtype"] == "float32"
    assert str(finetuned.folder) not in json.dumps(manifest)
    _, output = finetuned.run("verify")
    assert "files agree with results/tuned/manifest.json" in output


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({"model_sources__tuned__learning_rate": 2e-5}, True),
        ({"model_sources__tuned__groups": ["capital"]}, True),
        ({"prompt__template": "Q: {question}\nA: "}, True),
        ({"prompt__max_new_tokens": 13}, False),
        ({"dataset__limit": 50}, False),
        ({"figures__scale_qkv__epsilon": [0.5, 0.1]}, False),
    ],
    ids=str,
)
def test_training_repeats_when_its_options_change(finetuned, tmp_path, changes, trained):
    project = finetuned.copy(tmp_path)
    project.change(**changes)
    planned = project.planned()
    assert planned
    assert ("finetune_model" in planned) is trained
    assert ("prepare_model" in planned) is trained


def test_training_repeats_to_the_byte_and_follows_its_base(finetuned, tmp_path):
    project = finetuned.copy(tmp_path)
    model_info = project.folder / "results" / "tuned" / "model.json"
    before = json.loads(model_info.read_text())["weights"]
    project.run(str(model_info.relative_to(project.folder)), "--forcerun", "finetune_model")
    assert json.loads(model_info.read_text())["weights"] == before
    config = project.folder / "tiny-model" / "config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps({**written, "rms_norm_eps": 1e-3}))
    weights = project.folder / "tiny-model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-4] ^= 1
    weights.write_bytes(data)
    assert {"finetune_model", "prepare_model"} <= project.planned().keys()


def test_a_killed_training_leaves_no_model_and_runs_again(finetuned, tmp_path):
    project = finetuned.copy(tmp_path)
    folder = project.folder / "results" / "tuned" / "finetuned"
    log = project.folder / "results" / "tuned" / "logs" / "finetune_model.log"
    project.change(model_sources__tuned__steps=100_000)
    process = subprocess.Popen(
        project.command("results/tuned/model.json"),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if log.is_file() and " of 100000 steps" in log.read_text():
            break
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert " of 100000 steps" in log.read_text()
    assert not list(folder.glob("*.safetensors"))
    assert not list(folder.glob("*.parquet"))
    (folder / ".model.left").mkdir()  # left by a run that was killed while it wrote
    project.change(model_sources__tuned__steps=9)
    project.run("results/tuned/model.json")
    assert not list(folder.glob(".model.*"))
    assert len(pd.read_parquet(folder / "steps.parquet")) == 9
    model_info = json.loads((project.folder / "results" / "tuned" / "model.json").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert model_info["weights"] == {"model.safetensors": digest}


def test_before_and_after_side_by_side(finetuned, tmp_path):
    project = finetuned.copy(tmp_path)
    _, output = project.run("finetune_demo", check=False)
    assert "finetune_demo: no model of the run is fine-tuned from another one" in output
    project.change(
        models=["tiny", "tuned"],
        figures__module_map__metric=["operation_strength", "relative_update"],
        figures__module_map__compare_with="tiny",
    )
    project.run("finetune_demo")
    results = project.folder / "results"
    assert find_differences(results / "tuned") == {}
    page = (results / "tuned" / "finetuned" / "answers.md").read_text()
    assert "| trained |" in page
    assert "| held out |" in page
    for name in ("_models/figures/probe_auc.pdf", "_models/figures/module_map.pdf",
                 "tuned/figures/module_map_relative_update.pdf"):  # fmt: skip
        assert (results / name).stat().st_size > 1000
    assert project.planned("finetune_demo").keys() <= {"finetune_demo"}


def test_the_plan_has_the_training(finetuned, tmp_path):
    project = finetuned.copy(tmp_path)
    project.change(model_sources__tuned__steps=9)
    _, output = project.run("plan")
    assert "finetune_model" in output


def test_a_training_in_parts_ends_with_the_same_weights(finetuned, tmp_path):
    project = finetuned.copy(tmp_path)
    del project.overlay["model"]
    project.change(checkpoints={"model": "tuned", "steps": [0, 3, 8]})
    results = project.folder / "results"
    whole, parts = results / "tuned", results / "tuned@step8"
    project.run("results/tuned@step8/model.json")
    weights = [json.loads((f / "model.json").read_text())["weights"] for f in (whole, parts)]
    assert weights[0] == weights[1]
    for name in ("questions", "steps"):
        tables = [pd.read_parquet(f / "finetuned" / f"{name}.parquet") for f in (whole, parts)]
        pd.testing.assert_frame_equal(*tables)
    early = pd.read_parquet(results / "tuned@step3" / "finetuned" / "steps.parquet")
    assert early["step"].tolist() == [1, 2, 3]
    # the optimizer's state is there no longer than it is needed
    assert not list(results.rglob("training_state.safetensors"))
    assert "finetune_step" not in project.planned("results/tuned@step8/model.json")
