"""A record beside every file that a job makes."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from llm_figures.core import records, versions
from llm_figures.core.parquet_seal import SEAL
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.core.records import read_record, record_path, recorded


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/tiny/logs").mkdir(parents=True)
    return tmp_path / "results" / "tiny"


def job_of(rule, inputs, outputs, *params):
    return SimpleNamespace(
        rule=rule,
        input=inputs,
        output=outputs,
        params=list(params),
        log=[f"results/tiny/logs/{rule}.log"],
    )


def make(rule, inputs, outputs, *params):
    """Run a job that writes its rule's name to each of its files."""
    with recorded(job_of(rule, inputs, outputs, *params)):
        for file in outputs:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(rule)
    return [read_record(record_path(file, Path("results/tiny"))) for file in outputs]


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_record_keeps_what_rows_were_computed_on(folder):
    """So that it is known when the file itself was deleted."""
    file = "results/tiny/states.parquet"
    with recorded(job_of("extract", [], [file])):
        write_frame(pd.DataFrame({"a": [1]}), file, {"device": "cpu"})
    record = read_record(record_path(file, Path("results/tiny")))
    assert record.facts == {"device": "cpu"}
    assert make("plain", [], ["results/tiny/a.txt"])[0].facts is None


def test_a_record_says_what_a_file_was_made_from(folder):
    (folder.parents[1] / "mine.csv").write_text("questions")
    figure, caption = "results/tiny/figures/a.svg", "results/tiny/figures/a.caption.txt"
    for record, file in zip(
        make("render", ["mine.csv"], [figure, caption], {"b": 1, "a": [2]}, "x.py 12", 0.5),
        (figure, caption),
        strict=True,
    ):
        stat = Path(file).stat()
        assert record.file == file
        assert record.params == ["'x.py 12'", "0.5", "{'b': 1, 'a': [2]}"]
        assert record.inputs == {"mine.csv": sha("questions")}
        assert (record.bytes, record.mtime_ns, record.sha256) == (
            6,
            stat.st_mtime_ns,
            sha("render"),
        )
        assert record.versions.keys() >= {"python", "pandas", "pyarrow"}
    assert (folder / "records/figures/a.caption.txt.json").is_file()


def test_an_input_that_has_a_record_is_not_read_again(folder):
    file = "results/tiny/forward/states.parquet"
    make("extract", [], [file])
    path = record_path(file, Path("results/tiny"))
    path.write_text(path.read_text().replace(sha("extract"), "known"))
    (record,) = make("score", [file], ["results/tiny/scores"])
    assert record.inputs == {file: "known"}
    Path(file).write_text("another")  # and so its record is no longer of it
    (record,) = make("score", [file], ["results/tiny/scores"])
    assert record.inputs == {file: sha("another")}


def test_a_job_that_fails_leaves_no_record_of_its_files(folder):
    make("score", [], ["results/tiny/scores"])
    Path("results/tiny/scores").unlink()  # as Snakemake does before the job
    fail("score", ["results/tiny/scores"])
    assert read_record(folder / "records/scores.json") is None
    assert records.current is None


def fail(rule, outputs):
    with pytest.raises(RuntimeError, match="drawing failed"), recorded(job_of(rule, [], outputs)):
        raise RuntimeError("drawing failed")


def test_the_record_of_a_file_that_outlives_a_failed_job_is_marked(folder):
    """Snakemake puts the figures of an earlier run back if they cannot be drawn again."""
    files = ["results/tiny/figures/a.svg", "results/tiny/figures/a.pdf"]
    before, _ = make("render", [], files, {"palette": "Blues"})
    Path(files[1]).unlink()
    assert records.list_earlier_files(job_of("render", [], files)) == files[:1]
    fail("render", files)
    path = folder / "records/figures/a.svg.json"
    assert read_record(path) == dataclasses.replace(before, superseded=True)
    assert not (folder / "records/figures/a.pdf.json").exists()
    fail("render", files)  # and once more
    assert read_record(path).superseded
    after, _ = make("render", [], files, {"palette": "Greens"})
    assert (after.superseded, after.params) == (False, ["{'palette': 'Greens'}"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}'])
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_record(tmp_path / "a.json") is None


def test_a_parquet_file_carries_its_origin(folder):
    file = "results/tiny/modules/scores.parquet"
    with recorded(job_of("score_modules", [], [file], {"a": 1})):
        write_frame(pd.DataFrame({"x": [1]}), file)
    seal = json.loads(pq.read_metadata(file).metadata[SEAL])
    assert seal["file"] == "modules/scores.parquet"
    assert (seal["rule"], seal["model"]) == ("score_modules", "tiny")
    assert seal["made_from"] == sha("{'a': 1}")[:12]
    assert seal["versions"]["python"] == versions.platform.python_version()


def test_other_versions_are_those_of_what_is_installed_here(monkeypatch):
    here = versions.find_installed_versions(["python", "numpy"])
    made_with = {**here, "numpy": "1.0", "no-such-package": "1.0"}
    assert versions.find_other_versions(made_with) == {"numpy": ("1.0", here["numpy"])}
    assert versions.find_other_versions(here) == {}


def test_every_package_of_the_numbers_is_known(root):
    known = versions.find_installed_versions(versions.PACKAGES)
    assert known.keys() == versions.PACKAGES.keys()
