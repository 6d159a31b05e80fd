from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_frame, read_table, read_tensors, tensor_file
from llm_figures.models.projection_layouts import PROJECTIONS
from llm_figures.models.projections import watch_projections
from llm_figures.modules.probes import score_projections
from llm_figures.modules.schema import build_schema, column_name, find_columns
from llm_figures.modules.states import extract_module_states, list_widths
from llm_figures.probe.cells import Cell, Split
from llm_figures.probe.protocol import PRESETS

PROMPTS = [[5, 6, 7, 8, 9, 20 + n] for n in range(5)]
ANSWERS = [[30, 31, 32, 33][: 2 + n % 3] for n in range(5)]
PLACES = [{"exact_answer_last": 6 + n % 2} for n in range(5)]
PROTOCOL = PRESETS["strict"]


def extracted(model, tmp_path, batch_size):
    path = tmp_path / f"{batch_size}.parquet"
    schema = build_schema(list_widths(model))
    ids = [10, 11, 12, 13, 14]
    with tensor_file(path, schema) as file:
        for batch in extract_module_states(
            model, ids, PROMPTS, ANSWERS, PLACES, batch_size=batch_size
        ):
            file.write(batch)
    order = read_frame(path, ["question_id"])["question_id"].argsort().to_numpy()
    return path, {
        (layer, name): read_tensors(read_table(path, [column]), column)[order]
        for column, layer, name in find_columns(path)
    }


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "phi3", "opt", "mixtral", "gpt_oss"])
def test_states_are_what_each_projection_gives_alone(family, tmp_path):
    model = tiny.model(family)
    _, found = extracted(model, tmp_path, batch_size=3)
    expected = {}
    for row, (prompt, answer, place) in enumerate(zip(PROMPTS, ANSWERS, PLACES, strict=True)):

        def keep(seen, row=row, at=place["exact_answer_last"]):
            key = seen.projection.layer, seen.projection.name
            values = expected.setdefault(key, np.zeros((5, seen.outputs.shape[1])))
            for index, token in enumerate(seen.tokens.tolist()):
                if token == at:
                    share = 1 if seen.shares is None else float(seen.shares[index])
                    values[row] += share * seen.outputs[index].numpy()

        with torch.inference_mode(), watch_projections(model, keep):
            model(torch.tensor([[*prompt, *answer]]))
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=2e-5, err_msg=str(key))
        assert np.abs(values).max() > 1e-3


def test_the_size_of_a_batch_changes_nothing(tmp_path):
    model = tiny.model()
    path, alone = extracted(model, tmp_path, batch_size=1)
    _, together = extracted(model, tmp_path, batch_size=64)
    for key, values in alone.items():
        assert np.array_equal(values, together[key]), key
    assert find_columns(path)[0] == (column_name(0, "attn. q"), 0, "attn. q")
    assert [name for _, layer, name in find_columns(path) if layer == 2] == list(PROJECTIONS)


def planted():
    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    split = [
        Split(0, fold, np.arange(120) % 3 != fold, np.arange(120) % 3 == fold) for fold in range(3)
    ]
    ids = np.arange(120)
    cell = Cell("exact_answer_last", ids.astype(np.int32), labels, ids * 0, ids, split)
    noise = random.normal(size=(120, 8)).astype(np.float32)
    told = noise + 4 * np.outer(labels, np.eye(8)[3]).astype(np.float32)
    wide = random.normal(size=(120, 40)).astype(np.float32)
    states = [(0, "attn. q", noise), (0, "mlp. up", wide), (1, "attn. q", told)]
    return cell, [(layer, name, partial(np.asarray, values)) for layer, name, values in states]


def test_a_probe_finds_the_projection_that_tells_right_from_wrong():
    cell, states = planted()
    found = pd.DataFrame(score_projections(states, np.arange(120), cell, PROTOCOL, jobs=1))
    assert list(found.columns) == ["layer", "projection", "metric", "value"]
    assert list(zip(found["layer"], found["projection"], strict=True)) == [s[:2] for s in states]
    assert found["value"][:2].between(0.35, 0.65).all()
    assert found["value"][2] > 0.97


def test_too_few_answers_are_named():
    cell, states = planted()
    few = Cell("-8", cell.questions, cell.labels * 0, cell.groups, cell.split_groups, cell.splits)
    with pytest.raises(UserError, match=r"probe_token: -8: only 120 answers have it, 120 of them"):
        list(score_projections(states, np.arange(120), few, PROTOCOL, jobs=1))
