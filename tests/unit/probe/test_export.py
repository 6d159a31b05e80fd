"""Exported probes: as the pipeline fits them, and scored with nothing but NumPy."""

import json
import struct
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save

import llm_figures.probe
from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.probe.cells import make_cells
from llm_figures.probe.export import choose_cells, collect_tensors, make_card, refit_probe
from llm_figures.probe.exported import CARD, TENSORS
from llm_figures.probe.labelled_states import HiddenStates
from llm_figures.probe.options import ExportedCell
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.split_fitter import ProbeFitter

COUNT, HIDDEN = 240, 12
TOKENS = ["last_q", "-1"]
STRICT = PRESETS["strict"]
PROTOCOLS = {
    "strict": STRICT,
    "published": PRESETS["published"],
    "balanced": STRICT.changed(class_weight="balanced"),
    "C chosen": STRICT.changed(C="cv"),
    "hold_out": STRICT.changed(split="hold_out"),
}


@pytest.fixture(scope="module")
def answers():
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "question_id": random.permutation(COUNT),
            "correct": random.random(COUNT) < 0.7,
            "group": np.where(np.arange(COUNT) % 3, "capital", None),
            "split_group": np.arange(COUNT),
            "hold_out": np.arange(COUNT) % 4 == 0,
            "valid": True,
        }
    )


@pytest.fixture(scope="module")
def states(answers):
    """The label along one axis, of which the probe must not see the constant next to it."""
    random = np.random.default_rng(1)
    states = random.normal(size=(COUNT, HIDDEN)).astype(np.float32) * 3 + 100
    by_id = answers.set_index("question_id").sort_index()
    states[:, 0] += 4 * ~by_id["correct"].to_numpy()
    states[:, 1] = 7
    return states


@pytest.fixture(scope="module")
def scores():
    rows = [(0, "last_q", 0.5), (1, "last_q", 0.6), (2, "last_q", 0.55), (0, "-1", np.nan),
            (1, "-1", np.nan), (2, "-1", np.nan)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["layer", "token", "mean"])
    return table.assign(metric="auc", control="none", ci_low=0.4, ci_high=0.7, n=COUNT, folds=5)


def refit(answers, states, protocol, layer=1):
    keys = pd.DataFrame({"question_id": np.arange(COUNT), "token": "last_q"})
    (cell, _), _ = make_cells(keys, answers, TOKENS, protocol)
    return cell, refit_probe(states, cell, layer, protocol)


def write(folder, probes, scores, answers, protocol=STRICT, wanted="best"):
    folder.mkdir(exist_ok=True)
    (folder / TENSORS).write_bytes(save(collect_tensors(probes)))
    card = make_card(
        probes,
        scores,
        answers,
        protocol,
        model_info={"name": "tiny", "weights": {"a": "b"}, "folder": "/home/someone"},
        ran_on={"dtype": "float32"},
        made_by={"name": "llm-figures", "version": "0.2.0"},
        questions={"dataset": {"source": "facts"}},
        wanted=wanted,
        sha256=sha256(folder / TENSORS),
    )
    (folder / CARD).write_text(json.dumps(card))
    return card


def score_with_numpy(folder, layer, token, states):
    """What a user without this library writes, from the card's `apply` and the file's format."""
    card = json.loads((folder / "probes.json").read_text())
    data = (folder / "probes.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    (about,) = (p for p in card["probes"] if (p["layer"], p["token"]) == (layer, token))

    def array(name):
        entry = header[f"{about['tensors']}.{name}"]
        assert entry["dtype"] == "F64"
        start, end = entry["data_offsets"]
        return np.frombuffer(data[8 + length :][start:end]).reshape(entry["shape"])

    z = (states - array("mean")) / array("scale")
    logits = z @ array("weights") + array("intercept")
    np.testing.assert_allclose(states @ array("direction") + array("bias"), logits, atol=1e-9)
    return logits


@pytest.mark.parametrize("name", PROTOCOLS)
def test_numpy_alone_gives_the_logits_of_the_pipelines_own_fit(
    name, answers, states, scores, tmp_path
):
    protocol = PROTOCOLS[name]
    cell, probe = refit(answers, states, protocol)
    card = write(tmp_path, [probe], scores, answers, protocol)
    fresh = np.random.default_rng(2).normal(size=(50, HIDDEN)) * 3 + 100
    fresh[:, 1] = 7
    # the same training set through the code that the scores come from
    train = np.isin(cell.questions, probe.trained_on)
    fitter = ProbeFitter(
        states[train].copy(), fresh.astype(np.float32), protocol, cell.split_groups[train]
    )
    expected = fitter.fit(cell.labels[train])
    loaded = llm_figures.probe.load(tmp_path)
    logits = loaded.score(fresh)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, expected.scores, atol=2e-4)
    np.testing.assert_allclose(score_with_numpy(tmp_path, 1, "last_q", fresh), logits, atol=1e-9)
    np.testing.assert_allclose(fresh @ loaded.direction + loaded.bias, logits, atol=1e-9)
    assert loaded.score(fresh[0]).shape == ()
    assert loaded.score(fresh.reshape(5, 10, -1)).shape == (5, 10)
    # positive: a wrong answer
    shifted = fresh + np.eye(HIDDEN)[0]
    assert (loaded.score(shifted) > logits).all()
    (about,) = card["probes"]
    assert (about["C"], about["converged"]) == (expected.C, expected.converged)


def test_a_probe_is_fitted_on_every_question_that_is_trained_on_and_on_no_other(answers, states):
    by_id = answers.set_index("question_id")
    _, of_folds = refit(answers, states, STRICT)
    assert len(of_folds.trained_on) == COUNT
    _, held = refit(answers, states, PROTOCOLS["hold_out"])
    assert set(held.trained_on) == set(by_id.index[~by_id["hold_out"]])
    _, single = refit(answers, states, PROTOCOLS["published"])
    assert len(single.trained_on) == COUNT * 4 / 5


def test_the_card_says_what_the_probe_is_and_of_which_fit_its_auc_is(
    answers, states, scores, tmp_path
):
    _, probe = refit(answers, states, PROTOCOLS["balanced"])
    card = write(tmp_path, [probe], scores, answers, PROTOCOLS["balanced"])
    assert "someone" not in json.dumps(card)
    assert card["protocol"] == PROTOCOLS["balanced"].plain()
    assert card["model"] == {"name": "tiny", "weights": {"a": "b"}}
    (about,) = card["probes"]
    wrong = int((~answers["correct"]).sum())
    assert about["training_questions"] == {"all": COUNT, "right": COUNT - wrong, "wrong": wrong}
    assert about["class_weights"]["wrong"] == pytest.approx(COUNT / 2 / wrong)
    assert about["groups"] == {"": COUNT / 3, "capital": COUNT * 2 / 3}
    assert about["held_out"]["auc"] == 0.6
    assert "not of this refit" in about["held_out"]["of"]
    assert about["training_auc"] > 0.7
    assert card["fit"].startswith("Refitted on all questions of the cross-validation")
    _, single = refit(answers, states, PROTOCOLS["published"])
    card = write(tmp_path, [single], scores, answers, PROTOCOLS["published"])
    assert card["probes"][0]["held_out"]["of"].startswith("this probe")


def test_states_that_say_whose_they_are_must_be_those_of_the_probe(
    answers, states, scores, tmp_path
):
    cell, probe = refit(answers, states, STRICT)
    write(tmp_path, [probe], scores, answers)
    loaded = llm_figures.probe.load(tmp_path)
    own = HiddenStates(
        X=states, y=cell.labels, groups=cell.groups, question_ids=cell.questions, splits=[],
        layer=1, token="last_q", site="residual", model="tiny", weights={"a": "b"},
    )  # fmt: skip
    np.testing.assert_array_equal(loaded.score(own), loaded.score(states))
    for change, says in (
        ({"weights": {"a": "c"}}, "states are of other weights of tiny, whose states it was fitt"),
        ({"model": "b", "weights": {"a": "c"}}, "states are of b, not of tiny, whose states it"),
        ({"layer": 2}, "states are of layer 2; to apply it to others, give their array, states.X"),
        ({"token": "-1"}, "states are of token -1"),
        ({"site": "mlp"}, "states are of site mlp"),
    ):
        with pytest.raises(UserError) as caught:
            loaded.score(replace(own, **change))
        assert says in str(caught.value)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_a_fit_that_does_not_converge_is_flagged(answers, scores, tmp_path):
    published = PRESETS["published"]
    random = np.random.default_rng(3)
    mixed = np.logspace(0, 3, HIDDEN)[:, None] * random.normal(size=(HIDDEN, HIDDEN))
    _, probe = refit(answers, random.normal(size=(COUNT, HIDDEN)) @ mixed, published)
    assert not probe.converged
    assert write(tmp_path, [probe], scores, answers, published)["probes"][0]["converged"] is False


def test_the_card_calls_a_listed_best_layer_a_selection(answers, states, scores, tmp_path):
    """Beside a layer that was named: the other's score is no choice."""
    chosen = scores[scores["token"] == "last_q"].assign(layer=-1, mean=0.52, metric="nested_auc")
    folds = scores.iloc[[1]].assign(metric="nested_auc", control="chosen_of_token", mean=0.52)
    table = pd.concat([scores, chosen.iloc[:1], folds], ignore_index=True)
    probes = [refit(answers, states, STRICT, layer)[1] for layer in (1, 2)]
    listed = [ExportedCell(layer="best", token="last_q"), ExportedCell(layer=2, token="last_q")]
    card = write(tmp_path, probes, table, answers, wanted=listed)
    assert "the most favourable of its layers" in card["cells"]
    best, named = card["probes"]
    assert best["nested"]["auc"] == 0.52
    assert "nested" not in named
    plain = write(tmp_path, probes, table, answers, wanted=listed[1:])
    assert plain["cells"] == "as listed in the config: probe.export.cells"
    assert not any("nested" in probe for probe in plain["probes"])


def test_the_best_layer_of_each_token_with_a_score(scores):
    assert choose_cells(scores, "best", TOKENS) == ([(1, "last_q")], ["-1"])
    cells = [ExportedCell(layer=2, token="last_q"), ExportedCell(token="last_q")]
    assert choose_cells(scores, [*cells, cells[0]], TOKENS) == ([(2, "last_q"), (1, "last_q")], [])


@pytest.mark.parametrize(
    ("layer", "token", "says"),
    [
        (3, "last_q", "layer 3, last_q: has no probe; probed layers are 0 (embeddings) to 2"),
        (1, "-1", "layer 1, -1: has no probe: 240 answers have the token, too few of either label"),
    ],
)
def test_a_cell_without_a_probe_is_one_line(scores, layer, token, says):
    with pytest.raises(UserError) as caught:
        choose_cells(scores, [ExportedCell(layer=layer, token=token)], TOKENS)
    assert str(caught.value).startswith(f"config: probe.export.cells[1]: {says}")
    assert "\n" not in str(caught.value)


@pytest.fixture
def export(answers, states, scores, tmp_path):
    cells = [refit(answers, states, STRICT, layer)[1] for layer in (0, 1)]
    write(tmp_path / "export", cells, scores, answers)
    return tmp_path / "export"


def test_of_several_probes_the_best_or_the_one_that_is_named(export):
    assert llm_figures.probe.load(export).layer == 1
    assert llm_figures.probe.load(export / TENSORS, layer=0, token="last_q").layer == 0
    assert list(llm_figures.probe.load_all(export / CARD)) == [(0, "last_q"), (1, "last_q")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((3, 5)), "have shape (3, 5); the last axis must be the 12 features"),
        (np.float64(1), "have shape ()"),
        (np.array(["a"]), "are of type <U1"),
        (np.full(HIDDEN, np.nan), "hold NaN or infinite values"),
        (torch.zeros(HIDDEN, dtype=torch.bfloat16), "of a tensor of torch give tensor.detach()"),
        (torch.zeros(HIDDEN, requires_grad=True), "of a tensor of torch give tensor.detach()"),
    ],
)
def test_states_that_do_not_fit_are_one_line(export, given, says):
    with pytest.raises(UserError) as caught:
        llm_figures.probe.load(export).score(given)
    assert str(caught.value).startswith("probe of layer 1, last_q: states ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def change_card(**changes):
    def change(folder):
        card = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps(card | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / CARD).unlink(), "is missing; give the folder of an export"),
        (lambda folder: (folder / TENSORS).unlink(), "is missing; it belongs to the card"),
        (lambda folder: (folder / CARD).write_text("{"), "cannot be read"),
        (lambda folder: (folder / CARD).write_text("[]"), "is not the card"),
        (change_card(format=2), "format 2 (llm-figures 0.2.0); this version reads format 1"),
        (change_card(sha256="0"), "is not the file that probes.json describes"),
        (change_card(probes=[{"layer": 1}]), "does not describe probes.safetensors"),
    ],
)
def test_a_damaged_or_foreign_export_is_one_line(export, damage, says):
    damage(export)
    with pytest.raises(UserError) as caught:
        llm_figures.probe.load(export)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_probe_that_is_not_there_is_one_line(export):
    with pytest.raises(UserError, match=r"has no probe of layer 7, -1; there are layer 0 last_q"):
        llm_figures.probe.load(export, layer=7, token="-1")
