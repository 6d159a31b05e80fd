"""A Parquet file that was changed after it was made is named, not read as data."""

import json

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
