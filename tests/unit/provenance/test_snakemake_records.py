"""Snakemake's records are written again from ours; what nobody knows is made again."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from snakemake.persistence.file import FilePersistence

from llm_figures.core import records
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.core.records import read_record, record_path, recorded
from llm_figures.provenance.snakemake_records import UNKNOWN, VERSIONS, restore_records

A = Path("results/a")
STATES, SCORES, FIGURE = (
    f"{A}/{name}" for name in ("forward/states.parquet", "scores.parquet", "figures/a.svg")
)


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """States, scores from them, and a figure, as their jobs leave them."""
    monkeypatch.chdir(tmp_path)
    make(STATES)
    make(SCORES, STATES)
    make(FIGURE, SCORES)


def make(file, *inputs, content=0.0):
    job = SimpleNamespace(
        rule=Path(file).stem,
        input=list(inputs),
        output=[file],
        params=[{"epsilon": 1}, "code.py 12"],
        log=[str(A / "logs" / f"{Path(file).stem}.log")],
    )
    with recorded(job):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".parquet"):
            write_frame(pd.DataFrame({"x": [content]}), file)
        else:
            Path(file).write_text(f"<svg>{content}</svg>")


def restore(strict=False, outputs=lambda file: True):
    """(params that Snakemake then knows by file, lines)"""
    lines = restore_records([A, Path("results/_models")], outputs, FilePersistence(), strict)
    known = {file: FilePersistence()._read_record(file) for file in (STATES, SCORES, FIGURE)}
    return {file: record and record.params for file, record in known.items()}, lines


OWN = ["'code.py 12'", "{'epsilon': 1}"]
KNOWN = dict.fromkeys((STATES, SCORES, FIGURE), OWN)


def lose():
    shutil.rmtree(".snakemake", ignore_errors=True)


def test_what_snakemake_compares_is_restored():
    assert restore() == (KNOWN, [])
    known, record = FilePersistence()._read_record(SCORES), read_record(record_path(SCORES, A))
    assert known.rule == "scores"
    assert known.input == [STATES]
    assert known.input_checksums == {STATES: f"sha256:{record.inputs[STATES]}"}
    assert known.endtime == Path(SCORES).stat().st_mtime
    assert known.record_format_version == 6
    before = {path: path.stat().st_mtime_ns for path in Path(".snakemake/metadata").iterdir()}
    assert restore() == (KNOWN, [])  # and nothing is written again
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_copies_with_new_times_are_known():
    for file in (FIGURE, SCORES, STATES):
        os.utime(file)
    assert restore() == (KNOWN, [])


def test_a_deleted_file_is_known_too():
    Path(STATES).unlink()
    assert restore() == (KNOWN, [])


def test_results_brought_in_over_others_are_known_by_their_own_records():
    restore()
    record = FilePersistence()._read_record(SCORES)
    FilePersistence()._write_record(SCORES, record.model_copy(update={"params": ["'mine'"]}))
    assert restore()[0][SCORES] == ["'mine'"]  # of this file, as --touch leaves it
    os.utime(SCORES, (1e9, 1e9))  # of another time than the one that Snakemake knows
    assert restore() == (KNOWN, [])


def test_a_figure_that_was_put_back_is_not_taken_for_the_one_that_failed():
    """Snakemake knows it as made by the job that failed, with that job's params."""
    restore()
    job = SimpleNamespace(rule="a", input=[SCORES], output=[FIGURE], params=[{"epsilon": 2}],
                          log=[str(A / "logs" / "a.log")])  # fmt: skip
    with pytest.raises(RuntimeError, match="drawing failed"), recorded(job):
        raise RuntimeError("drawing failed")
    shutil.copy(FIGURE, "backup")
    shutil.copy("backup", FIGURE)  # with a new time
    known = FilePersistence()._read_record(FIGURE)
    as_failed = {"params": ["{'epsilon': 2}"], "endtime": Path(FIGURE).stat().st_mtime}
    FilePersistence()._write_record(FIGURE, known.model_copy(update=as_failed))
    assert restore() == (KNOWN, [])
    # a later job that succeeds is believed, of which Snakemake's own record is written after ours
    make(FIGURE, SCORES)
    lose()
    assert restore() == (KNOWN, [])


def test_files_without_a_record_are_made_again_if_a_rule_makes_them():
    shutil.rmtree(A / "records")
    (A / "notes.txt").write_text("mine")
    known, (line,) = restore(outputs=lambda file: file.endswith((".parquet", ".svg")))
    assert known == {file: [UNKNOWN] for file in KNOWN}
    assert line.startswith("3 results have no record of what they were made from")
    assert FilePersistence()._read_record(f"{A}/notes.txt") is None
    # as before, where Snakemake's own records are there
    assert restore(outputs=lambda file: True)[1] == [
        "1 results have no record of what they were made from and are made again where they are "
        f"needed ({A}/notes.txt, …)"
    ]


@pytest.mark.parametrize("file", [STATES, SCORES, FIGURE])
def test_the_record_of_another_folder_counts_for_nothing(file):
    path = record_path(file, A)
    path.write_text(path.read_text().replace(f'"file": "{A}/', '"file": "results/b/'))
    assert restore()[0] == KNOWN | {file: [UNKNOWN]}


def test_a_file_that_is_not_the_recorded_one_is_made_again():
    for file in (STATES, FIGURE):
        kept = record_path(file, A).read_text()
        make(file, content=1.0)
        record_path(file, A).write_text(kept)
    known, lines = restore()
    assert known == {STATES: [UNKNOWN], SCORES: OWN, FIGURE: [UNKNOWN]}
    assert lines == [
        f"{FIGURE} is not the file that its record describes; it is made again",
        f"{STATES} is not the file that its record describes; it is made again",
    ]


def test_an_edited_figure_stays_where_snakemake_knows_it():
    restore()
    Path(FIGURE).write_text("<svg>edited</svg>")
    line = f"{FIGURE} was edited or replaced after it was made, and is kept; remove it to have it"
    assert restore() == (KNOWN, [f"{line} made again"])


def touch_as_snakemake_does():
    """Its own records of files whose time it sets when their job has ended."""
    restore()
    for file in (STATES, SCORES, FIGURE):
        os.utime(file)
        known = FilePersistence()._read_record(file)
        time = Path(file).stat().st_mtime
        FilePersistence()._write_record(file, known.model_copy(update={"endtime": time}))


def test_a_file_that_jobs_read_is_made_again_if_another_replaced_it():
    info = str(A / "model.json")
    make(info)
    touch_as_snakemake_does()
    Path(info).write_text('{"name": "b"}')
    _, lines = restore()
    assert FilePersistence()._read_record(info).params == [UNKNOWN]
    assert lines == [f"{info} is not the file that its record describes; it is made again"]


@pytest.mark.parametrize("time", [1e9, 4e9], ids=["older", "newer"])
def test_results_of_another_folder_copied_over_known_ones_are_made_again(time):
    touch_as_snakemake_does()
    for file in (STATES, SCORES, FIGURE):
        os.utime(file, (time, time))
        path = record_path(file, A)
        path.write_text(path.read_text().replace(f'"file": "{A}/', '"file": "results/b/'))
    assert restore()[0] == {file: [UNKNOWN] for file in KNOWN}


def test_an_older_input_brought_back_is_noticed_where_snakemake_knows_the_files():
    kept = Path("kept")
    shutil.copytree(A, kept)
    make(STATES, content=1.0)
    make(SCORES, STATES, content=1.0)
    make(FIGURE, SCORES, content=1.0)
    touch_as_snakemake_does()
    assert restore()[0] == KNOWN
    for name in ("forward/states.parquet", "records/forward/states.parquet.json"):
        shutil.copy2(kept / name, A / name)
    assert restore()[0] == KNOWN | {SCORES: [f"'made from an earlier {STATES}'"]}


@pytest.mark.parametrize(
    "changes", [{"params": None}, {"inputs": []}, {"mtime_ns": None}, {"sha256": 3}, {"log": "x"}]
)
def test_a_damaged_record_is_none(changes):
    path = record_path(SCORES, A)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert restore()[0] == KNOWN | {SCORES: [UNKNOWN]}


def test_a_foreign_file_is_named_and_left_to_be_refused():
    restore()
    shutil.copy(STATES, SCORES)
    (A / "model.json").write_text('{"name": "a"}')
    known, lines = restore()
    assert known == KNOWN
    assert f"{SCORES} holds forward/states.parquet; remove it and run again" in lines


def test_an_older_input_brought_back_is_noticed_and_forgiven():
    kept = Path("kept")
    shutil.copytree(A, kept)
    make(STATES, content=1.0)
    make(SCORES, STATES, content=1.0)
    assert restore()[0] == KNOWN | {FIGURE: [f"'made from an earlier {SCORES}'"]}
    for name in ("scores.parquet", "records/scores.parquet.json"):
        shutil.copy2(kept / name, A / name)  # older than what was made from it
    assert restore()[0] == KNOWN | {SCORES: [f"'made from an earlier {STATES}'"]}
    lose()
    assert restore()[0] == KNOWN | {SCORES: [f"'made from an earlier {STATES}'"]}


def test_other_versions_are_told_and_matter_on_demand(monkeypatch):
    path = record_path(SCORES, A)
    record = read_record(path)
    numpy = record.versions["numpy"]
    older = asdict(record) | {"versions": record.versions | {"numpy": "1.0"}}
    path.write_text(records.json.dumps(older))
    told = f"numpy 1.0, now {numpy}: 1 files"
    for _ in range(2):
        known, (line,) = restore()
        assert known == KNOWN
        assert line.endswith(
            f"are used as they are (strict_versions: true makes them again): {told}"
        )
    known, (line,) = restore(strict=True)
    assert known == KNOWN | {SCORES: sorted([*OWN, f"{VERSIONS}numpy 1.0, now {numpy}'"])}
    assert line.endswith(f"are made again: {told}")
    assert restore()[0] == KNOWN
    path.write_text(records.json.dumps(asdict(record)))
    assert restore(strict=True) == (KNOWN, [])


def test_a_file_that_is_being_made_is_left_alone():
    persistence = FilePersistence()
    persistence._mark_incomplete(SCORES, None)
    assert restore()[0] == KNOWN | {SCORES: None}
