"""Methods whose results differ by more than they may are not compared by their time."""

import json
from pathlib import Path
from types import SimpleNamespace

import attention
import large_model
import numpy as np
import pytest
import questions
from works import DisagreementError

import tiny


def answered(tmp_path, **texts):
    folders = {}
    for method, answers in texts.items():
        folders[method] = tmp_path / method
        folders[method].mkdir()
        (folders[method] / "texts.json").write_text(json.dumps(answers))
    return folders


def test_one_answer_in_a_hundred_may_differ_however_little(tmp_path):
    same = ["Paris"] * 99
    folders = answered(tmp_path, loop=[*same, "Rome"], ours=[*same, "Romes"])
    assert questions.same_answers(folders) == "Of 100 answers, ours differ in 1 from those of loop."
    (folders["ours"] / "texts.json").write_text(json.dumps(["Paris."] * 2 + same[:97] + ["Rome"]))
    with pytest.raises(DisagreementError, match="2 of 100 answers differ between loop and ours"):
        questions.same_answers(folders)


@pytest.mark.parametrize(
    ("left", "right", "share"),
    [("abcd", "abxy", 0.5), ("", "", 0), ("ab", "abcd", 0.5), ("x", "", 1), ("ab", "ab", 0)],
)
def test_answers_part_at_their_first_difference(left, right, share):
    assert questions.parted(left, right) == questions.parted(right, left) == share


def test_maps_of_many_small_weights_are_told_apart_by_their_rows(tmp_path):
    even, other = np.full((1, 1, 4, 1000), 1e-3, np.float32), np.zeros((1, 1, 4, 1000), np.float32)
    other[..., :500] = 2e-3
    folders = {"plain": tmp_path / "plain", "ours": tmp_path / "ours"}
    for folder, maps in zip(folders.values(), (even, other), strict=True):
        folder.mkdir()
        np.save(folder / "maps.npy", maps)
    assert "50.0% at most" in attention.agree_by_row(folders, largest=0.6)
    with pytest.raises(DisagreementError, match=r"ours: weights 0\.5 from those of plain"):
        attention.agree_by_row(folders, largest=0.05)


def test_a_disk_too_small_for_the_weights_is_named_before_they_are_written(
    tmp_path, made_up_task, monkeypatch
):
    monkeypatch.setattr(large_model.shutil, "disk_usage", lambda folder: SimpleNamespace(free=9))
    with pytest.raises(SystemExit, match="has 0 GB left; set TMPDIR to a larger folder"):
        large_model.make(made_up_task)
    assert not list(Path(made_up_task["folder"]).glob("*.safetensors"))


@pytest.fixture
def made_up_task(tmp_path):
    own, results, folder = (tmp_path / name for name in ("own", "results", "made"))
    tiny.save(own)
    results.mkdir()
    folder.mkdir()
    (results / "model.json").write_text(json.dumps({"folder": str(own)}))
    place = {"device": "cpu", "dtype": "bfloat16", "small": True}
    return {"folder": str(folder), "results": str(results)} | place
