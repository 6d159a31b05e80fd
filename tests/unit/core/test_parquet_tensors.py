import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import (
    read_facts,
    read_frame,
    read_rows,
    read_table,
    read_tensors,
    tensor,
    tensor_file,
    write_frame,
    write_tensors,
)

SCHEMA = pa.schema([("name", pa.string()), ("states", tensor((2, 3)))])


def test_long_lists_fill_a_row_group_early(tmp_path, monkeypatch):
    """Rows that come one by one or together are grouped alike."""
    monkeypatch.setattr("llm_figures.core.parquet_tensors.ROW_GROUP_BYTES", 4000)
    schema = pa.schema([("key", pa.int32()), ("bias", pa.list_(pa.float32()))])
    lists = [None, [1.0] * 10, [2.0] * 2000, [3.0] * 500, [4.0] * 600, None]
    single = ((schema, {"key": [key], "bias": [values]}) for key, values in enumerate(lists))
    together = [(schema, {"key": list(range(6)), "bias": lists})]
    for name, batches in (("one", single), ("all", together)):
        write_tensors(tmp_path / f"{name}.parquet", batches)
        with pq.ParquetFile(tmp_path / f"{name}.parquet") as file:
            assert [file.read_row_group(n)["key"].to_pylist() for n in range(3)] == [
                [0, 1, 2],
                [3, 4],
                [5],
            ]
            assert file.read()["bias"].to_pylist() == lists


def test_the_work_for_a_row_does_not_depend_on_how_many_wait(tmp_path):
    """Rows with lists wait by the thousand for a row group; what is counted is calls, not time."""
    schema = pa.schema([("key", pa.int32()), ("ids", pa.list_(pa.int32()))])

    def count_calls(rows):
        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        with tensor_file(tmp_path / f"{rows}.parquet", schema) as file:
            sys.setprofile(count)
            file.write({"key": range(rows), "ids": [[1, 2]] * rows})
            sys.setprofile(None)
        return calls

    count_calls(10)  # what only a first call does
    assert count_calls(2000) < 2.5 * count_calls(1000)


def batch(start):
    return {"name": ["a", None], "states": np.arange(12.0).reshape(2, 2, 3) + start}


def test_tensors_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "states.parquet"
    with tensor_file(path, SCHEMA) as file:
        file.write(batch(0))
        file.write(batch(100))
        assert not path.exists()
    assert pq.ParquetFile(path).num_row_groups == 1
    table = read_table(path)
    assert table.schema.field("states").type.extension_name == "arrow.fixed_shape_tensor"
    expected = np.concatenate([batch(0)["states"], batch(100)["states"]])
    np.testing.assert_array_equal(read_tensors(table, "states"), expected)
    assert read_tensors(table.slice(0, 0), "states").shape == (0, 2, 3)


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_the_same_rows_give_the_same_bytes_in_whatever_batches(tmp_path, monkeypatch, size):
    monkeypatch.setattr("llm_figures.core.parquet_tensors.ROW_GROUP_BYTES", 30 * (4 * 6 + 64 + 64))
    schema = pa.schema([("key", pa.int64()), ("name", pa.string()), ("state", tensor((2, 3)))])
    states = np.random.default_rng(0).normal(size=(100, 2, 3)).astype(np.float32)
    found = []
    for number, step in enumerate((size, 33)):
        path = tmp_path / f"{number}.parquet"
        with tensor_file(path, schema) as file:
            for start in range(0, 100, step):
                rows = range(start, min(start + step, 100))
                names = [f"name {row % 4}" for row in rows]
                file.write({"key": rows, "name": names, "state": states[rows.start : rows.stop]})
        groups = pq.read_metadata(path)
        assert [groups.row_group(n).num_rows for n in range(4)] == [30, 30, 30, 10]
        table = read_table(path)
        assert table["key"].to_pylist() == list(range(100))
        assert (read_tensors(table, "state") == states).all()
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_a_null_tensor_comes_back_as_nan(tmp_path):
    path = tmp_path / "states.parquet"
    states = [np.full((2, 3), 1.0), None, np.arange(6.0).reshape(2, 3)]
    with tensor_file(path, SCHEMA) as file:
        file.write({"name": ["a", "b", "c"], "states": states})
        file.write({"name": ["d"], "states": [None]})
    table = read_table(path)
    assert table["states"].null_count == 2
    nothing = np.full((2, 3), np.nan)
    expected = [states[0], nothing, states[2], nothing]
    np.testing.assert_array_equal(read_tensors(table, "states"), expected)
    np.testing.assert_array_equal(read_tensors(table.slice(1, 2), "states"), expected[1:3])


def test_a_writer_that_dies_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), tensor_file(tmp_path / "states.parquet", SCHEMA) as file:
        file.write(batch(0))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_shape_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="shape"),
        tensor_file(tmp_path / "states.parquet", SCHEMA) as file,
    ):
        file.write({"name": ["a"], "states": np.zeros((1, 3, 2))})


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_damaged_file_is_named_not_read(tmp_path, damage):
    path = tmp_path / "states.parquet"
    with tensor_file(path, SCHEMA) as file:
        file.write(batch(0))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"states\.parquet cannot be read.*remove it"):
        read_table(path)


def test_facts_travel_with_the_rows_and_change_none_of_them(tmp_path):
    facts = {"device": "cpu", "device_names": ["cpu"], "threads": 2, "cuda": None}
    for name, given in (("plain", None), ("facts", facts)):
        with tensor_file(tmp_path / f"{name}.parquet", SCHEMA, given) as file:
            file.write(batch(0))
        write_tensors(tmp_path / f"{name}-batches.parquet", [(SCHEMA, batch(0))], given)
        frame = pd.DataFrame({"name": ["a", None], "value": [1.5, np.nan], "rows": [[1], [2, 3]]})
        write_frame(frame, tmp_path / f"{name}-frame.parquet", given)
    for kind in ("", "-batches", "-frame"):
        plain, with_facts = (tmp_path / f"{name}{kind}.parquet" for name in ("plain", "facts"))
        assert read_facts(plain) is None
        assert read_facts(with_facts) == facts
        # Equal tables, whatever their metadata; equal frames, whose index the metadata describes.
        assert read_table(plain).equals(read_table(with_facts))
        pd.testing.assert_frame_equal(read_frame(plain), read_frame(with_facts))
    np.testing.assert_array_equal(
        read_tensors(read_table(tmp_path / "facts.parquet"), "states"), batch(0)["states"]
    )


def test_the_same_facts_give_the_same_bytes(tmp_path):
    for name, facts in (("one", {"a": 1, "b": 2}), ("two", {"b": 2, "a": 1})):
        with tensor_file(tmp_path / name, SCHEMA, facts) as file:
            file.write(batch(0))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_facts_of_a_damaged_file_are_refused(tmp_path):
    (tmp_path / "states.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"states\.parquet cannot be read"):
        read_facts(tmp_path / "states.parquet")


@pytest.fixture
def numbered(tmp_path, monkeypatch):
    """Two files of rows 0 to 9 and 10 to 16 in groups of five; row n holds 6 n, 6 n + 1, …"""
    monkeypatch.setattr("llm_figures.core.parquet_tensors.ROW_GROUP_BYTES", 5 * (2 * 6 + 64))
    schema = pa.schema([("name", pa.string()), ("states", tensor((2, 3), "float16"))])
    paths, values = [], np.arange(17 * 6.0).reshape(17, 2, 3)
    for name, part in (("one", values[:10]), ("two", values[10:])):
        paths.append(tmp_path / f"{name}.parquet")
        with tensor_file(paths[-1], schema) as file:
            file.write({"name": [name] * len(part), "states": part})
    assert [pq.ParquetFile(path).num_row_groups for path in paths] == [2, 2]
    return paths, values


@pytest.mark.parametrize(
    "rows", [[], [3], [16, 0, 9, 10, 0], list(range(17)), list(range(16, 4, -3))]
)
def test_some_rows_of_several_files_are_read_in_the_order_asked_for(numbered, rows):
    paths, values = numbered
    found = read_rows(paths, "states", np.array(rows, int))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, values[rows])


def test_only_row_groups_with_such_rows_are_read(numbered, monkeypatch):
    read = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, group, columns: read.append((group, columns)) or whole(file, group, columns),
    )
    read_rows(numbered[0], "states", np.array([5, 14, 6]))
    assert read == [(1, ["states"]), (0, ["states"])]


@pytest.mark.parametrize("row", [17, -1])
def test_a_row_outside_the_files_is_no_row(numbered, row):
    with pytest.raises(IndexError, match=r"rows of states outside the 17 of 2 file"):
        read_rows(numbered[0], "states", np.array([2, row]))


def test_a_damaged_file_is_named_where_rows_are_read(numbered):
    paths, _ = numbered
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(UserError, match=r"two.parquet cannot be read .*; remove it and run again"):
        read_rows(paths, "states", np.array([12]))
