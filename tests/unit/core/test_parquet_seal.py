"""A Parquet file that was changed, or is another's, is named, not read as data."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_figures.core import parquet_seal as seal
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import (
    read_facts,
    read_frame,
    read_table,
    read_tensors,
    tensor,
    tensor_file,
    write_frame,
)
from llm_figures.core.records import recorded
from llm_figures.models.model_info import read_model_info

STATES = np.arange(600, dtype=np.float32).reshape(20, 30)


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "scores.parquet"
    write_frame(pd.DataFrame({"layer": range(50), "mean": np.linspace(0, 1, 50)}), path, {"a": 1})
    return path


@pytest.fixture
def tensors(tmp_path):
    path = tmp_path / "states.parquet"
    schema = pa.schema([("key", pa.int32()), ("a", tensor((30,))), ("b", tensor((30,)))])
    with tensor_file(path, schema) as file:
        for start in (0, 10):
            part = STATES[start : start + 10]
            file.write({"key": range(start, start + 10), "a": part, "b": -part})
    return path


def test_an_unchanged_file_is_read(frame, tensors):
    assert len(read_frame(frame)) == 50
    assert read_facts(frame) == {"a": 1}
    assert (read_tensors(read_table(tensors, ["b"]), "b") == -STATES).all()


def test_a_file_without_rows_is_read(tmp_path):
    schema = pa.schema([("key", pa.int32()), ("a", tensor((3,)))])
    with tensor_file(tmp_path / "tensors", schema):
        pass
    assert len(read_table(tmp_path / "tensors")) == 0
    for columns in ({"a": pd.Series([], dtype=str), "b": pd.Series([], dtype=int)}, {}):
        write_frame(pd.DataFrame(columns), tmp_path / "frame")
        assert len(read_frame(tmp_path / "frame")) == 0


def edited_with_pandas(path):
    table = pd.read_parquet(path)
    table.loc[0, "mean"] = 0.99
    table.to_parquet(path)


def edited_with_arrow(path):
    table = pq.read_table(path)
    column = table.schema.get_field_index("mean")
    changed = table.set_column(column, "mean", pa.array(np.linspace(0, 0.9, 50)))
    pq.write_table(changed, path)


def rewritten_with_its_seal(path):
    kept = pq.read_metadata(path).metadata[seal.SEAL]
    table = pq.read_table(path).slice(0, 40)
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({seal.SEAL: kept})


def emptied(path):
    path.write_bytes(b"")


def shortened(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + whole[210:])


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def overwritten(path):
    path.write_text("something else\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited_with_pandas, "was not written by this workflow"),
        (edited_with_arrow, "was not written by this workflow"),
        (rewritten_with_its_seal, "was changed after it was made"),
        (shortened, "was changed after it was made"),
        (emptied, "cannot be read"),
        (truncated, "cannot be read"),
        (overwritten, "cannot be read"),
    ],
)
def test_a_changed_file_is_named(frame, change, message):
    change(frame)
    with pytest.raises(UserError, match=message) as error:
        read_frame(frame)
    assert str(frame) in str(error.value)
    assert "remove it and run again" in str(error.value)


def test_every_changed_byte_of_the_data_is_found_or_changes_nothing(frame):
    whole, expected = frame.read_bytes(), read_table(frame)
    end = json.loads(pq.read_metadata(frame).metadata[seal.SEAL])["bytes"]
    assert 300 < end < len(whole)
    named = 0
    for at in range(0, end, 7):
        frame.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert read_table(frame).equals(expected)
        except UserError as error:
            named += "cannot be read" in str(error)
    assert named > 0.8 * end / 7


def test_only_the_columns_that_are_read_are_checked(tensors):
    column = pq.read_metadata(tensors).row_group(0).column(2)
    data = bytearray(tensors.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    tensors.write_bytes(data)
    assert (read_tensors(read_table(tensors, ["a"]), "a") == STATES).all()
    with pytest.raises(UserError, match="cannot be read .*remove it and run again"):
        read_table(tensors, ["b"])


def test_a_seal_with_a_digest_is_read(tmp_path):
    """Files of earlier versions, such as those of result folders, have one."""
    table = pa.table({"x": [1, 2]})
    with (
        pa.OSFile(str(tmp_path / "old"), "wb") as file,
        pq.ParquetWriter(file, table.schema) as writer,
    ):
        writer.write_table(table)
        old = {"bytes": file.tell(), "sha256": "0" * 64}
        writer.add_key_value_metadata({seal.SEAL: json.dumps(old).encode()})
    assert read_table(tmp_path / "old").equals(table)


def test_two_writings_are_the_same_bytes(tmp_path):
    found = []
    for name in ("one", "two"):
        write_frame(pd.DataFrame({"x": np.arange(1000) / 7}), tmp_path / name)
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_damaged_model_info_is_named(tmp_path, text):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"model\.json cannot be read .*remove it and run again"):
        read_model_info(path)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results of two models: model infos, states made from them, and two tables of scores."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        info = {"name": name, "weights": {"model.safetensors": name * 64}}
        (folder / "model.json").write_text(json.dumps(info))
        make(name, "forward/answers.parquet", "model.json")
        make(name, "attention/mean_qkv.parquet", "forward/answers.parquet")
        make(name, "attention/scale_qkv.parquet", "forward/answers.parquet")
        make(name, "forward/questions.parquet")
    return tmp_path / "results"


def make(name, file, *inputs):
    start = f"results/{name}"
    job = SimpleNamespace(
        rule="score",
        input=[f"{start}/{one}" for one in inputs],
        output=[f"{start}/{file}"],
        params=[],
        log=[f"{start}/logs/score.log"],
    )
    with recorded(job):
        write_frame(pd.DataFrame({"x": [1.0]}), f"{start}/{file}")


FILES = ("forward/questions", "forward/answers", "attention/mean_qkv", "attention/scale_qkv")


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_model_is_refused(results, file):
    shutil.copy(results / f"b/{file}.parquet", results / f"a/{file}.parquet")
    message = rf"^results/a/{file}\.parquet was made for model b, not a; remove it and run again$"
    with pytest.raises(UserError, match=message):
        read_frame(f"results/a/{file}.parquet")


def test_another_file_of_the_model_is_refused(results):
    shutil.copy(results / "a/attention/scale_qkv.parquet", results / "a/attention/mean_qkv.parquet")
    with pytest.raises(UserError, match=r"mean_qkv\.parquet holds attention/scale_qkv\.parquet; "):
        read_frame(results / "a/attention/mean_qkv.parquet")


def test_a_file_of_other_weights_of_the_name_is_refused(results):
    info = {"name": "a", "weights": {"model.safetensors": "c" * 64}}
    (results / "a/model.json").write_text(json.dumps(info))
    for file in FILES[1:]:
        with pytest.raises(UserError, match="was made for other weights of model a; remove it"):
            read_frame(results / f"a/{file}.parquet")
    # questions do not depend on weights
    assert len(read_frame(results / "a/forward/questions.parquet")) == 1


def test_a_folder_may_be_copied_renamed_or_read_alone(results):
    shutil.copytree(results / "a", results / "copy")
    (results / "b").rename(results / "another name")
    for file in FILES:
        for name in ("a", "copy", "another name"):
            assert len(read_frame(results / f"{name}/{file}.parquet")) == 1
    (results / "a/model.json").unlink()  # whose the folder is, nobody says
    shutil.copy(results / "copy/forward/answers.parquet", results / "mine.parquet")
    assert len(read_frame(results / "mine.parquet")) == 1
    assert len(read_frame(results / "a/forward/answers.parquet")) == 1


def test_shapes_of_tensors_are_told_to_readers_that_are_not_arrow(frame, tensors):
    shapes = json.loads(pq.read_metadata(tensors).metadata[seal.SHAPES])
    schema = pq.read_schema(tensors)
    assert shapes
    assert shapes == {
        field.name: list(field.type.shape)
        for field in schema
        if isinstance(field.type, pa.FixedShapeTensorType)
    }
    assert seal.SHAPES not in pq.read_metadata(frame).metadata
