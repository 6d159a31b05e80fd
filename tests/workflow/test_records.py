"""Results are known by what they were made from, wherever they are and whoever was killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.records import read_record, record_path, recorded

pytestmark = pytest.mark.workflow

MANIFEST = {"write_manifest": 1}
CLAIMS = {"collect_claims": 1, **MANIFEST}
ONE_MAP = {"score_attention": 1, "check_attention_claims": 1, "render_figure": 1, **CLAIMS}
FITS = {
    "score_probes": 1,
    "collect_probe_scores": 1,
    "render_figure": 2,
    "check_probe_claims": 1,
    **CLAIMS,
}
ANSWERED = {
    "generate_answers": 1,
    "judge_answers": 1,
    "report_answers": 1,
    "extract_hidden_states": 1,
    "ask_p_true": 1,
    **FITS,
}
ASKED = {"build_questions": 1, **ANSWERED}


def lose_records_of_snakemake(project):
    shutil.rmtree(project.folder / ".snakemake")


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({}, {}),
        ({"figures__scale_qkv__epsilon": [0.5, 0.1]}, ONE_MAP),
        ({"prompt__max_new_tokens": 13}, ANSWERED),
    ],
    ids=str,
)
def test_a_changed_option_is_noticed_where_snakemake_lost_its_records(project, changes, jobs):
    lose_records_of_snakemake(project)
    project.change(**changes)
    assert project.planned() == jobs


def test_changed_code_is_noticed_where_snakemake_lost_its_records(project):
    path = project.own_code() / "scripts/llm_figures/probe/newton.py"
    lose_records_of_snakemake(project)
    assert project.planned() == {}
    path.write_text(path.read_text() + "x = 1\n")
    assert project.planned() == FITS


def test_results_that_were_copied_elsewhere_run_nothing(project, tmp_path):
    lose_records_of_snakemake(project)
    project.folder = Path(shutil.copytree(project.folder, tmp_path / "elsewhere"))  # new times
    assert project.planned() == {}
    shutil.rmtree(project.folder / "results/tiny/records/modules")
    lose_records_of_snakemake(project)
    _, output = project.run("--dry-run")
    assert (
        "1 results have no record of what they were made from and are made again where they are "
        "needed (results/tiny/modules/scores.parquet, …)" in output
    )
    modules = {"score_modules": 1, "check_module_claims": 1, "render_figure": 1}
    assert project.planned() == {**modules, **CLAIMS}


@pytest.mark.parametrize(
    ("file", "before", "after", "jobs"),
    [
        ("mine.jsonl", "What is 5 and 6", "What was 5 and 6", ASKED),
        ("tiny-model/generation_config.json", "{", '{"a": 1,', "prepare_model"),
    ],
)
def test_a_file_replaced_by_an_older_one_is_noticed(project, file, before, after, jobs):
    path = project.folder / file
    path.write_text(path.read_text().replace(before, after, 1))
    os.utime(path, (1e9, 1e9))
    planned = project.planned()
    assert planned == jobs if isinstance(jobs, dict) else jobs in planned


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("figures/mean_qkv.caption.txt", {"render_figure": 1, **MANIFEST}),
        ("figures/probe_curves.panels.json", {"render_figure": 1, **MANIFEST}),
        ("figures/module_map.svg", {"render_figure": 1, **MANIFEST}),
        ("forward/answers.md", {"report_answers": 1, **MANIFEST}),
        ("claims.md", CLAIMS),
        ("forward/questions_left_out.parquet", ASKED),
        # together they may be deleted to save space
        ("forward/attention_states.parquet forward/random_weights_states.parquet", {}),
    ],
)
def test_a_deleted_file_is_made_again(project, file, jobs):
    for name in file.split():
        (project.results / name).unlink()
    assert project.planned() == jobs


def test_a_file_of_another_model_is_refused(project):
    other = project.folder / "results" / "other"
    shutil.copytree(project.results, other)
    info = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(info | {"name": "other"}))
    file = "attention/mean_qkv.parquet"
    job = SimpleNamespace(
        rule="score_attention",
        input=[str(other / "model.json")],
        output=[str(other / file)],
        params=[],
        log=[str(other / "logs" / "x.log")],
    )
    cells = read_frame(project.results / file)
    with recorded(job):
        write_frame(cells, other / file)
    shutil.copy(other / file, project.results / file)
    code, output = project.run("mean_qkv", check=False)
    assert code != 0
    assert (
        f"render_figure: error: results/tiny/{file} was made for model other, not tiny; remove it "
        "and run again" in output
    )
    assert "Traceback" not in output
    (project.results / file).unlink()
    # the figure is still that of the right cells, which come back where they are asked for
    project.run(f"results/tiny/{file}", "mean_qkv")
    pd.testing.assert_frame_equal(read_frame(project.results / file), cells)


def test_the_model_info_of_another_model_is_made_again(project):
    path = project.results / "model.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"name": "other", "weights": {"model.safetensors": "0"}}))
    os.utime(path, (1e9, 1e9))
    assert "prepare_model" in project.planned()
    project.run("mean_qkv")
    again = json.loads(path.read_text())
    assert (again["name"], again["weights"]) == ("tiny", written["weights"])


@pytest.mark.slow
def test_an_older_intermediate_file_brought_back_is_noticed(project):
    files = [
        "forward/generations/0-of-1.parquet",
        "records/forward/generations/0-of-1.parquet.json",
    ]
    kept = {}
    for file in files:
        path = project.results / file
        kept[path] = (path.read_bytes(), path.stat().st_mtime)
    project.change(prompt__max_new_tokens=13)
    project.run("probe_auc")
    for path, (content, time_) in kept.items():
        path.write_bytes(content)
        os.utime(path, (time_, time_))
    assert {"generate_answers", "judge_answers"} <= project.planned().keys()
    project.change(prompt__max_new_tokens=12)
    assert {"judge_answers", "extract_hidden_states"} <= project.planned().keys()


def test_files_of_other_versions_are_made_again_on_demand(project):
    strict = ("--config", "strict_versions=true")
    assert project.planned(*strict) == {}
    path = record_path(project.results / "modules/scores.parquet", project.results)
    record = read_record(path)
    now = record.versions["pandas"]
    path.write_text(json.dumps(vars(record) | {"versions": {**record.versions, "pandas": "1.0"}}))
    _, output = project.run("--dry-run")
    assert "Nothing to be done" in output
    assert f"pandas 1.0, now {now}: 1 files" in output
    modules = {"score_modules": 1, "check_module_claims": 1, "render_figure": 1}
    assert project.planned(*strict) == {**modules, **CLAIMS}
    assert project.planned() == {}
    # the manifest is written with the figures of this run and says what made the others
    project.change(figures__mean_qkv__palette="viridis")
    project.run()
    manifest = json.loads((project.results / "manifest.json").read_text())
    (made_with,) = manifest["stages"]["score_modules"]["made_with"]
    assert made_with["pandas"] == "1.0"
    assert manifest["versions"]["other_than_installed"] == {"pandas": {"1.0": ["score_modules"]}}
    assert manifest["versions"]["mixed"]["pandas"].keys() == {"1.0", now}
    project.run(*strict)
    assert project.planned() == project.planned(*strict) == {}
    manifest = json.loads((project.results / "manifest.json").read_text())
    assert manifest["versions"] == {"mixed": {}, "other_than_installed": {}}


def test_a_killed_run_leaves_no_job_and_no_lock(project):
    log = project.results / "logs/score_probes/scores/0-of-1.log"
    log.unlink()
    project.change(probe__C=0.1)
    run = {"cwd": project.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    head = subprocess.Popen(project.command("probe_auc"), **run)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not log.exists():
        time.sleep(0.05)
    code, output = project.run("probe_auc", check=False)
    assert code != 0
    line = f"process {head.pid} on "
    assert line in output
    assert f"wait for it, or end it: kill {head.pid}" in output
    assert "unlock" not in output
    head.send_signal(signal.SIGKILL)
    head.wait()
    _, output = project.run("probe_auc")
    assert f"removed the lock of {line}" in output
    assert project.planned("probe_auc") == {}
    assert not list(project.results.rglob("*.partial"))


def test_a_named_run_has_a_folder_of_its_own_and_shares_what_is_the_same(project):
    base, run = (project.folder / "results" / name for name in ("tiny", "tiny@layer-0"))
    before = {path: path.stat().st_mtime_ns for path in base.rglob("*") if path.is_file()}
    project.change(run="layer-0", figures__scale_qkv__layer=0)
    planned = project.planned()
    assert planned == {
        "report_answers": 1,
        **ONE_MAP,
        "render_figure": len(list((base / "figures").glob("*.pdf"))),
    }
    project.run()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    states = "forward/hidden_states/residual/0-of-1.parquet"
    assert (run / states).samefile(base / states)
    scores = [read_frame(folder / "attention" / "scale_qkv.parquet") for folder in (base, run)]
    assert scores[1]["layer"].unique().tolist() == [0] != scores[0]["layer"].unique().tolist()
    assert "tiny@layer-0" in (run / "figures" / "scale_qkv.caption.txt").read_text()
    assert project.planned() == {}
    project.change(result_folders=["results/tiny"])
    project.run("compare")
    compared = read_frame(project.folder / "results" / "_models" / "claims.parquet")
    assert compared["model"].unique().tolist() == ["tiny@layer-0", "tiny"]


def test_a_partial_run_names_the_figures_of_earlier_results(project):
    project.change(probe__seed=7)
    _, output = project.run("results/tiny/probe/scores.parquet")
    _, _, left = output.partition("Left as they are, from earlier results")
    assert "results/tiny/figures/  probe_auc, probe_curves (pdf, svg, png)" in left
    assert "results/tiny/claims.md" in left
    assert "scale_qkv" not in left
