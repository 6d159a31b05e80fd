"""Results of earlier inputs are found, also through files between them."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from llm_figures.core.records import Record, record_path
from llm_figures.provenance.outdated import find_outdated

A = Path("results/a")
STATES, SCORES, FIGURE, OTHER = (f"{A}/{name}" for name in ("states", "scores", "a.svg", "b.svg"))


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    note(STATES, "1")
    note(SCORES, "2", {STATES: "1"})
    note(FIGURE, "3", {SCORES: "2", "mine.csv": "0"})
    note(OTHER, "4", {"mine.csv": None})


def note(file, digest, inputs=None):
    record = Record(file, "rule", [], [], inputs or {}, {}, 0, 0, digest)
    path = record_path(file, A)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(record)))
    Path(file).touch()


def test_nothing_is_outdated_after_a_whole_run():
    assert find_outdated([A]) == []


def test_what_follows_from_a_newer_file_is_outdated_at_any_distance():
    note(STATES, "5")
    assert find_outdated([A]) == [FIGURE, SCORES]
    Path(SCORES).unlink()  # one that is not kept
    assert find_outdated([A]) == [FIGURE]
