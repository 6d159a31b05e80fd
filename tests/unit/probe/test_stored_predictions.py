"""Predictions that are read layer by layer give what one table gives."""

from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import frames_file
from llm_figures.probe.cells import find_splits_of, make_cells
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.nested import select_nested, tabulate_nested
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.scores import measure_cells, tabulate_cells
from llm_figures.probe.stored_predictions import StoredPredictions, iterate_layers
from llm_figures.probe.within_groups import tabulate_within_groups
from score_probes import SCHEMA

COUNT, LAYERS, PARTS = 120, 3, 2
TOKENS = ["last_q", "-1"]
STRICT = PRESETS["strict"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(answers, cells, predictions as one table, the files of two jobs)"""
    random = np.random.default_rng(0)
    wrong = random.random(COUNT) < 0.4
    answers = pd.DataFrame(
        {
            "question_id": range(COUNT),
            "correct": ~wrong,
            "hold_out": False,
            "split_group": range(COUNT),
            "group": np.where(np.arange(COUNT) % 2, "odd", "even"),
        }
    )
    keys = pd.DataFrame(
        {"question_id": np.tile(range(COUNT), 2), "token": np.repeat(TOKENS, COUNT)}
    )
    cells, rows = make_cells(keys, answers, TOKENS, STRICT)
    layers = []
    for layer in range(LAYERS):
        states = random.normal(size=(len(keys), 4)) + layer * np.tile(wrong, 2)[:, None]
        layers.append((layer, partial(np.asarray, states.astype(np.float32))))
    frames = list(probe_layers(layers, rows, cells, STRICT, jobs=1))
    folder, paths = tmp_path_factory.mktemp("predictions"), []
    for part in range(PARTS):
        paths.append(folder / f"{part}-of-{PARTS}.parquet")
        with frames_file(paths[-1], SCHEMA) as file:
            for frame in frames[part::PARTS]:
                table = pa.Table.from_pandas(frame, SCHEMA, preserve_index=False)
                file.write_table(table, row_group_size=500)  # a layer is several row groups
    return answers, cells, pd.concat(frames, ignore_index=True)[SCHEMA.names], paths


def test_layers_come_in_their_order_whichever_job_fitted_them(made):
    *_, whole, paths = made
    stored = StoredPredictions(paths)
    for _ in range(2):  # it may be gone through again
        frames = list(iterate_layers(stored))
        assert [set(frame["layer"]) for frame in frames] == [{0}, {1}, {2}]
        together = pd.concat(frames, ignore_index=True)
        for column in whole:
            assert [*map(str, together[column])] == [*map(str, whole[column])], column


def test_only_the_controls_asked_for_are_read(made):
    *_, whole, paths = made
    names = ["layer", "control", "score"]
    frames = [*StoredPredictions(paths, names, controls=["none"])]
    assert [list(frame) for frame in frames] == [names] * LAYERS
    own = whole[whole["control"] == "none"]
    assert np.concatenate([frame["score"] for frame in frames]).tolist() == own["score"].tolist()


def test_tables_of_files_are_those_of_one_table(made):
    answers, cells, whole, paths = made
    stored = StoredPredictions(paths)
    for tabulate in (tabulate_cells, tabulate_nested):
        one, other = (
            tabulate(measure_cells(scored, cells, answers, STRICT)) for scored in (whole, stored)
        )
        pd.testing.assert_frame_equal(one, other)
    for of_token in (False, True):
        one, other = (select_nested(scored, TOKENS, of_token) for scored in (whole, stored))
        assert one[["question_id", "layer", "score"]].equals(
            other[["question_id", "layer", "score"]]
        )
    own = whole[whole["control"] == "none"]
    one, other = (
        tabulate_within_groups(scored, select_nested(scored, TOKENS), answers, seed=0)
        for scored in (own, StoredPredictions(paths, controls=["none"]))
    )
    pd.testing.assert_frame_equal(one, other)
    first = next(iter(stored))
    for found, split in zip(find_splits_of(first, answers, STRICT), cells[0].splits, strict=True):
        assert (found.test == split.test).all()


def test_a_missing_file_is_named(made, tmp_path):
    with pytest.raises(UserError, match=r"2-of-3.parquet cannot be read"):
        StoredPredictions([*made[3], tmp_path / "2-of-3.parquet"])
