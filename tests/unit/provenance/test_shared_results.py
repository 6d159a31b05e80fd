"""Runs of one model share what they make in the same way, and nothing else."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.records import read_record, record_path, recorded
from llm_figures.provenance.shared_results import find_other_runs, share_results

RESULTS = Path("results")
BASE, RUN = RESULTS / "a", RESULTS / "a@layer-10"


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    describe(BASE, "a")
    make(f"{BASE}/forward/states.parquet")
    make(f"{BASE}/probe/scores.parquet", f"{BASE}/forward/states.parquet")


def describe(folder, name):
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"name": name, "weights": {"w": "0"}}))


def make(file, *inputs, content=0.0, folder=BASE, params=("code.py 12",)):
    job = SimpleNamespace(
        rule=Path(file).stem,
        input=list(inputs),
        output=[file],
        params=list(params),
        log=[f"{folder}/logs/{Path(file).stem}.log"],
    )
    with recorded(job):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".parquet"):
            write_frame(pd.DataFrame({"x": [content]}), file)
        else:
            Path(file).write_text(str(content))


def share():
    return share_results(RUN, [BASE])


def test_files_are_linked_with_records_that_name_the_new_folder():
    states, scores = f"{RUN}/forward/states.parquet", f"{RUN}/probe/scores.parquet"
    assert share() == [states, scores]
    assert Path(states).samefile(f"{BASE}/forward/states.parquet")
    record = read_record(record_path(scores, RUN))
    before = read_record(record_path(f"{BASE}/probe/scores.parquet", BASE))
    assert (record.file, record.log) == (scores, [f"{RUN}/logs/scores.log"])
    assert record.inputs == {states: before.inputs[f"{BASE}/forward/states.parquet"]}
    assert (record.params, record.sha256) == (before.params, before.sha256)
    assert share() == []


def test_a_file_that_is_made_again_leaves_the_other_run_as_it_was():
    share()
    Path(f"{RUN}/probe/scores.parquet").unlink()  # as Snakemake does before a job
    write_frame(pd.DataFrame({"x": [1.0]}), f"{RUN}/probe/scores.parquet")
    assert read_frame(f"{BASE}/probe/scores.parquet")["x"].tolist() == [0.0]


def test_what_the_run_has_or_deleted_is_left_alone():
    make(f"{BASE}/probe/own.parquet", content=1.0)
    (RUN / "probe").mkdir(parents=True)
    write_frame(pd.DataFrame({"x": [2.0]}), f"{RUN}/probe/own.parquet")
    assert share() == [f"{RUN}/forward/states.parquet", f"{RUN}/probe/scores.parquet"]
    assert read_frame(f"{RUN}/probe/own.parquet")["x"].tolist() == [2.0]
    Path(f"{RUN}/probe/scores.parquet").unlink()
    assert share() == []


@pytest.mark.parametrize(
    "name",
    ["figures/a.svg", "figures/a.panels.json", "forward/answers.md", "manifest.json",
     "claims.parquet", "probe/export/probes.safetensors", "probe/best.parquet"],
)  # fmt: skip
def test_what_is_to_be_looked_at_or_was_asked_for_is_not_shared(name):
    make(f"{BASE}/{name}")
    assert f"{RUN}/{name}" not in share_results(RUN, [BASE], own=["probe/best.parquet"])


def test_the_record_of_states_that_were_deleted_comes_with_what_was_made_of_them():
    (BASE / "forward/states.parquet").unlink()
    assert share() == [f"{RUN}/probe/scores.parquet"]
    before = read_record(record_path(f"{BASE}/forward/states.parquet", BASE))
    assert read_record(record_path(f"{RUN}/forward/states.parquet", RUN)).params == before.params


def test_a_file_does_not_come_without_what_it_was_made_from():
    """The states here are of other options, or nobody knows of which."""
    path = f"{RUN}/forward/states.parquet"
    make(path, folder=RUN, params=["float16"])
    assert share() == []
    record_path(path, RUN).unlink()
    assert share() == []


def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(
        UserError, match="cannot write to results/a@layer-10: Read-only file system"
    ):
        share()


def test_a_file_that_its_record_does_not_describe_is_not_shared():
    (BASE / "probe/scores.parquet").write_bytes(b"another")
    assert share() == [f"{RUN}/forward/states.parquet"]


def test_a_copy_where_files_cannot_be_linked(monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    share()
    own, other = RUN / "probe/scores.parquet", BASE / "probe/scores.parquet"
    assert not own.samefile(other)
    assert own.read_bytes() == other.read_bytes()
    assert own.stat().st_mtime_ns == other.stat().st_mtime_ns


def test_only_runs_of_the_same_model_are_others():
    describe(RUN, "a")
    describe(RESULTS / "a@b", "a")
    describe(RESULTS / "a@step1", "a@step1")  # a checkpoint
    describe(RESULTS / "ab", "ab")
    (RESULTS / "a@empty").mkdir()
    assert find_other_runs(RESULTS, "a", "a@layer-10") == [BASE, RESULTS / "a@b"]
    assert find_other_runs(RESULTS, "a", "a") == [RESULTS / "a@b", RUN]
    assert find_other_runs(RESULTS, "a@step1", "a@step1") == []
