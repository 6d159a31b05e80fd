"""Outputs of attention heads, and probes on them, against plain transformers and scikit-learn."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

import families
import tiny
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_columns, tensor_file
from llm_figures.models.projection_families import FAMILIES
from llm_figures.probe.cells import make_cells
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.controls import FEWER_HEADS, NO_HEADS
from llm_figures.probe.head_outputs import find_head_outputs
from llm_figures.probe.heads import compute_head_scores, count_heads, number_heads, probe_heads
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.schema import (
    layer_column,
    make_hidden_states_schema,
    read_layer_columns,
)
from llm_figures.probe.stored_states import StoredStates

PREFIX = [7, 8, 9, 10, 11, 12, 13]
PROMPTS = [[*PREFIX, 20, 21], [*PREFIX, 22], [*PREFIX, 23, 24, 25]]
ANSWERS = [[30, 31, 32], [33], [34, 35]]
POSITIONS = [{"last_q": 8, "-1": 11}, {"last_q": 7, "-1": 8}, {"last_q": 9, "-1": 11}]
PROTOCOL = PRESETS["strict"].changed(site="head")
TOKEN = "exact_answer_last"


def extract(model, **options):
    return list(
        extract_hidden_states(
            model, [4, 5, 6], PROMPTS, ANSWERS, POSITIONS, site="head",
            **{"batch_size": 3} | options,
        )
    )  # fmt: skip


def watch_heads(model, ids):
    """What each call of the attention kernel returns, [heads, tokens, size] in order of the layers.

    The kernel is the family's own, watched through transformers' interface; no module of ours is
    used.
    """
    seen = []

    def attend(module, *args, **kwargs):
        family = sys.modules[type(module).__module__]
        output, weights = family.eager_attention_forward(module, *args, **kwargs)
        seen.append(output[0].transpose(0, 1).clone())
        return output, weights

    AttentionInterface.register("watched", attend)
    AttentionMaskInterface.register("watched", eager_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation("watched")
    with torch.inference_mode():
        model(torch.tensor([ids]))
    model.set_attn_implementation(before)
    return seen


@pytest.mark.parametrize(
    "family", ["llama", "mistral", "qwen3", "gemma2", "neox", "gpt2", "opt", "phi3"]
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_states_are_what_the_heads_of_a_plain_pass_give(family, batch_size):
    model = tiny.model(family)
    batches = extract(model, batch_size=batch_size)
    rows = {
        (question, token): {name: batch[name][row] for name in batch if name.startswith("layer_")}
        for batch in batches
        for row, (question, token) in enumerate(
            zip(batch["question_id"], batch["token"], strict=True)
        )
    }
    assert len(rows) == sum(map(len, POSITIONS))
    for question in (4, 5, 6):
        ids = PROMPTS[question - 4] + ANSWERS[question - 4]
        expected = watch_heads(model, ids)
        assert len(expected) == 3
        for token, position in POSITIONS[question - 4].items():
            for layer, heads in enumerate(expected, start=1):
                found = rows[question, token][layer_column(layer)]
                assert found.shape == (heads.shape[0], heads.shape[2])
                np.testing.assert_allclose(found, heads[:, position], rtol=1e-4, atol=1e-5)


# Those with a gate between the heads and the output projection: it keeps the signs.
GATED = {"afmoe", "bailing_hybrid", "beam", "dots3_note_text", "hy_v4", "laguna", "lfm3"} | {
    "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({*FAMILIES} & {*families.list_families()}))
def test_every_family_has_its_heads_in_the_order_of_the_kernel(kind):
    model = families.tiny_model(kind).eval()
    found = find_head_outputs(model)
    inputs = {}
    for layer, heads in found.items():
        heads.module.register_forward_pre_hook(
            lambda module, args, layer=layer: inputs.__setitem__(layer, args[0])
        )
    expected = watch_heads(model, [*PREFIX, 20, 21, 30])
    assert len(expected) == len(inputs) == len(found)
    for (layer, heads), given in zip(found.items(), expected, strict=True):
        own = inputs[layer].reshape(-1, heads.count, heads.size).transpose(0, 1)
        assert own.shape == given.shape, layer
        if kind in GATED:
            assert (own * given >= 0).all()
            assert not torch.allclose(own, given)
        else:
            torch.testing.assert_close(own, given, rtol=1e-4, atol=1e-5)


def test_latent_attention_has_the_size_of_its_values():
    model = families.tiny_model("deepseek_v3").eval()
    config = model.config
    assert config.v_head_dim != config.qk_nope_head_dim + config.qk_rope_head_dim
    for heads in find_head_outputs(model).values():
        assert (heads.count, heads.size) == (config.num_attention_heads, config.v_head_dim)


def test_heads_that_are_subtracted_in_pairs_are_one():
    model = families.tiny_model("diffllama").eval()
    attention = model.get_decoder().layers[0].self_attn
    heads = find_head_outputs(model)[1]
    assert heads.count == model.config.num_attention_heads // 2
    seen = {}
    attention.groupnorm.register_forward_hook(lambda *call: seen.update(pairs=call[-1]))
    heads.module.register_forward_pre_hook(lambda module, args: seen.update(given=args[0]))
    with torch.inference_mode():
        model(torch.tensor([[3, 4, 5, 6]]))
    pairs = seen["pairs"] * (1 - attention.lambda_init)
    tokens = seen["given"].shape[1]
    torch.testing.assert_close(seen["given"].reshape(1, tokens, heads.count, heads.size), pairs)


def test_layers_without_attention_have_no_column_and_only_the_map_does_without(tmp_path):
    model = families.tiny_model("jamba").eval()
    kinds = model.config.layers_block_type
    with_heads = [layer for layer, kind in enumerate(kinds, start=1) if kind == "attention"]
    path = tmp_path / "0-of-1.parquet"
    shapes = {layer: (one.count, one.size) for layer, one in find_head_outputs(model).items()}
    assert list(shapes) == with_heads
    schema = make_hidden_states_schema(len(kinds), model.config.hidden_size, shapes)
    with tensor_file(path, schema) as file:
        for batch in extract(model):
            file.write(batch)
    counts, layers = count_heads(path)
    assert layers == len(kinds)
    assert counts == {layer - 1: 4 for layer in with_heads}
    with pytest.raises(UserError, match=r"probe.site: head: layer\(s\) 1, .* no attention heads"):
        read_layer_columns(path)


def test_the_heads_of_a_layer_are_side_by_side_for_a_probe_of_the_layer(tmp_path):
    model = tiny.model()
    path = tmp_path / "0-of-1.parquet"
    shapes = {layer: (one.count, one.size) for layer, one in find_head_outputs(model).items()}
    (batch,) = extract(model)
    with tensor_file(path, make_hidden_states_schema(3, 32, shapes)) as file:
        file.write(batch)
    assert read_layer_columns(path) == [layer_column(layer) for layer in range(4)]
    given = StoredStates([path], "layer_02")[np.arange(6)]
    assert (given == batch["layer_02"].reshape(len(given), -1)).all()
    assert read_columns([path], "layer_02").shape == (6, 4, 12)


def test_an_unknown_place_is_refused():
    model = tiny.model()
    block = model.get_decoder().layers[1]
    block.self_attn.out = block.self_attn.o_proj
    del block.self_attn.o_proj
    with pytest.raises(UserError, match=r"head: layer 2 of .* llama has no self_attn.o_proj"):
        extract(model)


def test_heads_that_do_not_fit_their_outputs_are_refused():
    model = tiny.model()
    model.get_decoder().layers[0].self_attn.head_dim = 7
    with pytest.raises(UserError, match=r"of layer 1 are 48 numbers, which are not 4 heads of 7"):
        extract(model)


# Probes. Three layers, of which one has no heads; at layer 1, head 2 the label is planted.
COUNT, SIZE, HIDDEN = 240, 6, 16
HEADS = {1: 4, 3: 3}


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random(COUNT) < 0.4).astype(int)


@pytest.fixture
def answers(labels):
    ids = np.arange(COUNT)
    return pd.DataFrame(
        {"question_id": ids, "correct": labels == 0, "valid": True, "hold_out": False}
        | {"split_group": ids, "group": np.where(ids % 2, "a", "b"), "answer": "x"}
        | {"p_true": np.random.default_rng(5).random(COUNT)}
    )


@pytest.fixture
def states(labels, tmp_path):
    """A file of states, in two rows per question of which one is of another token."""
    random = np.random.default_rng(0)
    shapes = {layer: (count, SIZE) for layer, count in HEADS.items()}
    columns = {"layer_00": random.normal(size=(2 * COUNT, HIDDEN))}
    for layer, shape in shapes.items():
        columns[layer_column(layer)] = random.normal(size=(2 * COUNT, *shape))
    columns["layer_01"][COUNT:, 2, :3] += labels[:, None]
    path = tmp_path / "0-of-1.parquet"
    with tensor_file(path, make_hidden_states_schema(3, HIDDEN, shapes)) as file:
        file.write(
            {
                "question_id": np.tile(np.arange(COUNT), 2),
                "token": np.repeat(["last_q", TOKEN], COUNT),
                "position": np.zeros(2 * COUNT, int),
                **{name: values.astype(np.float32) for name, values in columns.items()},
            }
        )
    return path, columns


def score(path, answers, protocol=PROTOCOL, jobs=1, token=TOKEN):
    keys = pd.DataFrame(
        {"question_id": np.tile(np.arange(COUNT), 2), "token": np.repeat(["last_q", TOKEN], COUNT)}
    )
    (cell,), (rows,) = make_cells(keys, answers, [token], protocol)
    counts, layers = count_heads(path)
    heads = number_heads(counts)
    frames = probe_heads([path], heads, cell, rows, protocol, jobs)
    predictions = pd.concat(frames, ignore_index=True)
    return compute_head_scores(predictions, heads, layers, cell, answers, protocol), cell


def test_a_planted_head_is_found_and_no_other(states, answers):
    scores, _ = score(states[0], answers)
    auc = scores[scores["metric"] == "auc"].set_index(["control", "layer", "head"]).sort_index()
    assert auc.loc[("none", 0, 2), "mean"] > 0.85
    others = auc.loc["none", "mean"].dropna().drop((0, 2))
    assert len(others) == 6
    assert others.between(0.35, 0.65).all()
    assert auc.loc[("shuffled_labels", 0, 2), "gain_low"] > 0
    assert auc.loc[("embeddings", 0, 2), "gain_low"] > 0
    embeddings = auc.loc["embeddings", "mean"].dropna()
    assert embeddings.nunique() == 1
    assert auc.loc["p_true", "mean"].nunique() == 1


def test_the_head_that_is_chosen_on_the_training_answers_is_the_planted_one(states, answers):
    scores, _ = score(states[0], answers)
    nested = scores[scores["metric"] == "nested_auc"]
    assert scores.tail(len(nested) * 4)["metric"].str.startswith("nested_").all()
    chosen = nested[nested["control"] == "chosen_of_token"]
    assert (chosen[["layer", "head", "folds"]].to_numpy() == [[0, 2, 5]]).all()
    summary = nested[nested["layer"] == -1].set_index("control")["mean"]
    planted = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    planted = planted.set_index(["layer", "head"])["mean"][0, 2]
    assert summary["none"] == pytest.approx(planted)
    assert summary["shuffled_labels"] < 0.7


def test_cells_without_a_head_say_why(states, answers):
    scores, _ = score(states[0], answers)
    empty = scores[scores["mean"].isna()]
    assert (empty["control"] == "none").all()
    auc = empty[empty["metric"] == "auc"]
    why = {(row.layer, row.head): row.note for row in auc.itertuples()}
    assert why == {**{(1, head): NO_HEADS for head in range(4)}, (2, 3): FEWER_HEADS}
    assert (scores.loc[scores["mean"].notna(), "note"] == "").all()
    assert set(scores.loc[scores["metric"] == "auc", "layer"]) == {0, 1, 2}


def test_scores_are_those_of_scikit_learn_on_the_same_folds(states, answers, labels):
    path, columns = states
    scores, cell = score(path, answers)
    auc = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    auc = auc.set_index(["layer", "head"])["mean"]
    for layer, count in HEADS.items():
        for head in range(count):
            X = columns[layer_column(layer)][COUNT:, head].astype(np.float32).astype(float)
            values = []
            for split in cell.splits:
                scaler = StandardScaler().fit(X[split.train])
                fit = LogisticRegression(C=1 / SIZE, tol=1e-10, max_iter=10_000)
                fit.fit(scaler.transform(X[split.train]), labels[split.train])
                tested = fit.decision_function(scaler.transform(X[split.test]))
                values.append(compute_metrics(labels[split.test], tested)["auc"][0])
            assert auc[layer - 1, head] == pytest.approx(np.mean(values), abs=2e-3)


def test_scores_do_not_depend_on_jobs(states, answers):
    first, _ = score(states[0], answers)
    second, _ = score(states[0], answers, jobs=2)
    pd.testing.assert_frame_equal(first, second)


def test_too_few_answers_are_one_clear_line(states, answers):
    few = answers.assign(correct=np.arange(COUNT) > 10)
    keys = pd.DataFrame({"question_id": np.arange(COUNT), "token": TOKEN})
    (cell,), _ = make_cells(keys, few, [TOKEN], PROTOCOL)
    heads = number_heads({0: 2})
    with pytest.raises(UserError, match=r"figures.probe_heads.token: exact_answer_last: only 240"):
        compute_head_scores(pd.DataFrame(), heads, 1, cell, few, PROTOCOL)
