import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import tensor, tensor_file, write_frame
from llm_figures.provenance.reproduction import SAME_BYTES, SAME_ROWS, compare_runs, main, summarise

SCHEMA = pa.schema([("key", pa.int32()), ("name", pa.string()), ("state", tensor((3,)))])


def shards(folder, count, states):
    for shard in range(count):
        rows = [row for row in range(len(states)) if row % count == shard][::-1]
        with tensor_file(folder / f"m/forward/s/{shard}-of-{count}.parquet", SCHEMA) as file:
            file.write({"key": rows, "name": [f"n{row}" for row in rows], "state": states[rows]})


@pytest.fixture
def runs(tmp_path):
    folders = tmp_path / "one", tmp_path / "two"
    states = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    for folder, count in zip(folders, (1, 3), strict=True):
        (folder / "m/figures").mkdir(parents=True)
        (folder / "m/figures/a.svg").write_text("<svg/>")
        (folder / "m/logs").mkdir()
        (folder / "m/logs/a.txt").write_text(str(folder))
        (folder / "m/manifest.json").write_text(str(folder))
        write_frame(pd.DataFrame({"x": [1.0, np.nan], "y": ["a", "b"]}), folder / "m/t.parquet")
        shards(folder, count, states)
    return (*folders, states)


def test_equal_runs_are_equal_and_shards_are_compared_by_their_rows(runs, capsys):
    first, second, _ = runs
    assert compare_runs(first, second) == {
        "m/figures/a.svg": SAME_BYTES,
        "m/forward/s/": SAME_ROWS,
        "m/t.parquet": SAME_BYTES,
    }
    assert main([str(first), str(second)]) == 0
    assert "2 of 3 outputs have the same bytes, 1 the same rows" in capsys.readouterr().out
    assert main([str(first), str(first / "none")]) == 2
    assert "no results there" in capsys.readouterr().err


def test_what_differs_is_named_with_its_size(runs):
    first, second, states = runs
    states[4, 1] += 1e-3
    for path in (second / "m/forward/s").iterdir():
        path.unlink()
    shards(second, 1, states)
    write_frame(pd.DataFrame({"x": [1.0, np.nan], "y": ["a", "c"]}), second / "m/t.parquet")
    (second / "m/figures/a.svg").write_text("<svg />")
    (second / "m/figures/b.svg").write_text("<svg/>")
    found = compare_runs(first, second)
    assert found == {
        "m/figures/a.svg": "differs",
        "m/figures/b.svg": "only in the second run",
        "m/forward/s/": "differs: state by at most 1.0e-03",
        "m/t.parquet": "differs: y in 1 row(s)",
    }
    status, text = summarise(found)
    assert status == 1
    assert "m/t.parquet: differs: y in 1 row(s)" in text
    assert "0 of 4 outputs have the same bytes" in text


def test_one_changed_value_in_other_shards_is_found(runs):
    first, second, states = runs
    states[4, 1] = np.nextafter(states[4, 1], np.float32(9))
    shards(second, 3, states)
    found = compare_runs(first, second)["m/forward/s/"]
    assert re.fullmatch(r"differs: state by at most \d\.\de-0[789]", found)


def test_a_damaged_file_is_named(runs):
    first, second, _ = runs
    (second / "m/t.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"t\.parquet cannot be read"):
        compare_runs(first, second)
