"""States that are read cell by cell, however they are stored."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import tensor_file
from llm_figures.probe import stored_states
from llm_figures.probe.cells import make_cells
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.schema import layer_column, make_hidden_states_schema
from llm_figures.probe.stored_states import StoredStates, read_cells_of_layer

COUNT, HIDDEN = 90, 5
TOKENS = ["last_q", "exact_answer_last", "-1"]


@pytest.fixture
def states():
    """Of three tokens of every question, question by question."""
    random = np.random.default_rng(0)
    return (random.normal(size=(3 * COUNT, HIDDEN)) * 7).astype(np.float32)


def store(folder, states, dtype="float32"):
    paths = [folder / f"{shard}-of-2.parquet" for shard in range(2)]
    for path, part in zip(paths, (states[: 3 * 31], states[3 * 31 :]), strict=True):
        with tensor_file(path, make_hidden_states_schema(0, HIDDEN, None, dtype)) as file:
            file.write(
                {
                    "question_id": range(len(part)),
                    "token": [""] * len(part),
                    "position": range(len(part)),
                    layer_column(0): part,
                }
            )
    return StoredStates(paths, layer_column(0))


def cells_and_rows():
    random = np.random.default_rng(1)
    answers = pd.DataFrame(
        {
            "question_id": range(COUNT),
            "correct": random.random(COUNT) < 0.5,
            "hold_out": False,
            "split_group": range(COUNT),
            "group": None,
        }
    )
    keys = pd.DataFrame({"question_id": np.repeat(range(COUNT), 3), "token": TOKENS * COUNT})
    return make_cells(keys, answers, TOKENS, PRESETS["strict"])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_states_are_float32_for_whoever_reads_them(tmp_path, states, dtype):
    read = store(tmp_path, states, dtype)
    rows = np.array([200, 3, 92, 93])
    assert read[rows].dtype == np.float32
    np.testing.assert_array_equal(read[rows], states[rows].astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("cells_at_once", [1, 2, 5])
def test_no_more_cells_are_in_memory_than_fit(tmp_path, states, dtype, cells_at_once, monkeypatch):
    read, sizes = store(tmp_path, states, dtype), []
    size = np.dtype(dtype).itemsize * COUNT * HIDDEN
    monkeypatch.setattr(stored_states, "AT_ONCE", cells_at_once * size + size // 2)
    whole = stored_states.read_rows
    monkeypatch.setattr(
        stored_states,
        "read_rows",
        lambda paths, column, rows: sizes.append(len(rows)) or whole(paths, column, rows),
    )
    rows = [np.arange(3 * COUNT)[token::3] for token in range(3)] * 2
    found = list(read_cells_of_layer(0, read, rows))
    assert max(sizes) == min(cells_at_once, 6) * COUNT
    assert len(sizes) == -(-6 // cells_at_once)
    for own, of_cell in zip(found, rows, strict=True):
        np.testing.assert_array_equal(own, states[of_cell].astype(dtype))


def test_a_cell_larger_than_that_is_read_by_itself(tmp_path, states, monkeypatch):
    monkeypatch.setattr(stored_states, "AT_ONCE", 1)
    rows = [np.arange(COUNT), np.arange(0), np.arange(7)]
    assert [len(own) for own in read_cells_of_layer(0, store(tmp_path, states), rows)] == [90, 0, 7]


def test_probes_of_files_and_of_arrays_are_the_same(tmp_path, states, monkeypatch):
    cells, rows = cells_and_rows()
    read = store(tmp_path, states)
    expected, *_ = probe_layers([(0, lambda: states)], rows, cells, PRESETS["strict"], jobs=1)
    for at_once in (1, 2**29):
        monkeypatch.setattr(stored_states, "AT_ONCE", at_once)
        found, *_ = probe_layers([(0, lambda: read)], rows, cells, PRESETS["strict"], jobs=1)
        pd.testing.assert_frame_equal(found, expected)


def test_equal_inputs_score_equal_in_float16(tmp_path, states):
    """Also those that only float32 tells apart."""
    states = states.copy()
    states[1::3] = states[1]
    states[4::3] *= 1 + 1e-5
    cells, rows = cells_and_rows()
    read = store(tmp_path, states, "float16")
    (frame,) = probe_layers([(0, partial(lambda: read))], rows, cells, PRESETS["strict"], jobs=1)
    own = frame[(frame["token"] == TOKENS[1]) & (frame["control"] == "none")]
    assert (own.groupby("fold")["score"].nunique() == 1).all()


def test_a_value_that_is_not_finite_is_named_by_its_row_in_the_files(tmp_path, states):
    states[3 * 40 + 2, 3] = np.inf
    rows = [np.arange(3 * COUNT)[token::3][::-1] for token in range(3)]
    with pytest.raises(UserError, match=r"of layer 7 hold .* the first in row 123 of its file"):
        list(read_cells_of_layer(7, store(tmp_path, states), rows))
