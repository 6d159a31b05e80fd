"""Probes for others to use: fitted again on all training questions, and described in a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.probe.best_cell import find_highest_cell, find_nested_cell
from llm_figures.probe.cells import Cell
from llm_figures.probe.classification_metrics import compute_metrics
from llm_figures.probe.exported import ARRAYS, FORMAT, TENSORS
from llm_figures.probe.options import ExportedCell
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol, check_exportable
from llm_figures.probe.protocol_text import SITES, describe_method
from llm_figures.probe.split_fitter import ProbeFitter, weigh_classes
from llm_figures.probe.standardising import Scaler

BEST = "best"
# Of model.json, what says which model it is.
MODEL_FACTS = (
    "name", "model_type", "source", "repo", "revision", "file", "file_sha256", "quantization",
    "weights", "layers", "hidden_size", "dtype",
)  # fmt: skip
APPLY = (
    "{score} = weights · ((state − mean) / scale) + intercept, which equals direction · state + "
    "bias. A {score} above 0 says that the answer is wrong; {probability}. Use float64. States "
    "must be those of `states` below: the same model, site, layer and token, and a prompt of the "
    "same form."
)
PROBABILITY = "1 / (1 + exp(−logit)) is its probability by the probe"
NO_PROBABILITY = "it is a projection onto the difference of the class means, not a probability"
_INPUT = "layer 0 is the input of the first block (the embeddings), layer n"
_ADDED = "of block n, counted from 1, before it is added to the residual stream"
LAYERS = {
    "residual": f"{_INPUT} the residual stream after block n, counted from 1, before any final "
    "norm: hidden_states[layer] of transformers' output, but for the last, which has the final "
    "norm there",
    "attention": f"{_INPUT} the output of the attention {_ADDED}",
    "mlp": f"{_INPUT} the output of the MLP {_ADDED}",
    "mlp_input": f"{_INPUT} the input of the MLP of block n, counted from 1, after the norm before "
    "it where the block has one",
    "head": f"{_INPUT} the outputs of all attention heads of block n, counted from 1, side by "
    "side: the input of its output projection",
}
CHOSEN = (
    "best: at each token the layer with the highest held-out AUC, which is thus the most "
    "favourable of its layers"
)
LISTED = "as listed in the config: probe.export.cells"
LISTED_BEST = (
    f"{LISTED}; where it says best, the layer with the highest held-out AUC at the token, which is "
    "thus the most favourable of its layers"
)
SEQUENCE = (
    "the prompt with the tokenizer's special tokens (with style chat those of its template alone), "
    "then the tokens that the model generated, up to a stop text or the end of text, which are not "
    "part of the answer; answers of dataset.response are tokenized by themselves"
)
# What the named tokens are; those from the end of the answer are numbers.
TOKENS = {
    "last_q": "the last token of the prompt",
    "first_answer": "the first token of the model's answer",
    "second_answer": "the second token of the model's answer",
    "exact_answer_before_first": "the token of the answer before its exact answer",
    "exact_answer_first": "the first token of the exact answer within the answer",
    "exact_answer_last": "the last token of the exact answer within the answer",
    "exact_answer_after_last": "the token of the answer after its exact answer",
    "-1": "the last token of the answer",
    "stop": "the token after the answer that ended it: the end of text, or that of a stop text",
    "answer_mean": "the mean of the states of all tokens of the answer, in float32",
}


@dataclass(frozen=True)
class RefittedProbe:
    """A probe fitted on all training questions of its cell.

    arrays: {name: array}, those of `exported.ARRAYS`, float64. C: the inverse penalty of the fit;
    NaN for a kind of probe without one.
    training_auc: on the questions that it was fitted on.
    trained_on: [questions], their ids. counts: [2], how many of them are right and wrong.
    class_weights: [2], likewise.
    """

    layer: int
    token: str
    arrays: Mapping[str, np.ndarray]
    C: float
    converged: bool
    training_auc: float
    trained_on: np.ndarray
    counts: np.ndarray
    class_weights: np.ndarray


def choose_cells(
    scores: pd.DataFrame, wanted: Sequence[ExportedCell] | str, tokens: Sequence[str]
) -> tuple[list[tuple[int, str]], list[str]]:
    """The (layer, token) of every probe to export, each once, and the tokens without any score.

    scores: tidy scores of the probe. wanted: the option `cells`. tokens: those of the figure.

    Raises:
        UserError: a cell without a probe; no cell with one.
    """
    scored = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    counts = scored.drop_duplicates("token").set_index("token")["n"]
    known = scored.dropna(subset="mean")
    if wanted == BEST:
        best = {token: find_highest_cell(scores, "auc", [token]) for token in tokens}
        found = [(int(cell.probe["layer"]), token) for token, cell in best.items() if cell]
        if not found:
            raise UserError("probe/scores.parquet has no cell with a score; there is no probe")
        return found, [token for token, cell in best.items() if cell is None]
    found = []
    for number, cell in enumerate(wanted, start=1):
        where = f"config: probe.export.cells[{number}]: layer {cell.layer}, {cell.token}"
        if cell.token not in set(known["token"]):
            raise UserError(
                f"{where}: has no probe: {counts.get(cell.token, 0):,} answers have the token, too "
                "few of either label for a score; choose another token"
            )
        layers = sorted(known.loc[known["token"] == cell.token, "layer"])
        if cell.layer == BEST:
            layer = int(find_highest_cell(scores, "auc", [cell.token]).probe["layer"])
        else:
            layer = cell.layer
        if layer not in layers:
            raise UserError(
                f"{where}: has no probe; probed layers are {layers[0]} (embeddings) to {layers[-1]}"
            )
        found.append((layer, cell.token))
    return list(dict.fromkeys(found)), []


def refit_probe(states: np.ndarray, cell: Cell, layer: int, protocol: Protocol) -> RefittedProbe:
    """Fit the probe of a cell on every question that a split of its protocol trains on.

    states: [examples, features], of `cell`. These are all its questions, but for those of the
    hold-out file, and those of the test set of a single split.

    Raises:
        UserError: a training set without one of the labels; a kind of probe that is not linear.
    """
    check_exportable(protocol.kind)
    train = np.any([split.train for split in cell.splits], axis=0)
    labels = cell.labels[train]
    if len(np.unique(labels)) < 2:
        raise UserError(f"layer {layer}, {cell.token}: its training questions are of one label")
    X = states[train].astype(np.float32)
    fitter = ProbeFitter(X, X.copy(), protocol, cell.split_groups[train])
    fit = fitter.fit(labels)
    hidden = X.shape[1]
    mean, scale = fitter.scaler or Scaler(np.zeros(hidden), np.ones(hidden))
    weights = fit.weights.astype(np.float64)
    direction = weights / scale
    balanced = protocol.class_weight == "balanced"
    return RefittedProbe(
        layer=layer,
        token=cell.token,
        arrays={
            "weights": weights,
            "intercept": np.array(fit.intercept),
            "mean": mean,
            "scale": scale,
            "direction": direction,
            "bias": np.array(fit.intercept - direction @ mean),
        },
        C=fit.C,
        converged=fit.converged,
        training_auc=float(compute_metrics(labels, fit.scores)["auc"][0]),
        trained_on=cell.questions[train],
        counts=np.bincount(labels, minlength=2),
        class_weights=weigh_classes(labels) if balanced else np.ones(2),
    )


def name_tensors(probe: RefittedProbe) -> str:
    """How the names of a probe's arrays begin."""
    return f"layer_{probe.layer:02d}.{probe.token}"


def collect_tensors(probes: Sequence[RefittedProbe]) -> dict[str, np.ndarray]:
    """{name: array} of all probes, for safetensors."""
    return {
        f"{name_tensors(probe)}.{name}": np.asarray(array, dtype=np.float64, order="C")
        for probe in probes
        for name, array in probe.arrays.items()
    }


def make_card(
    probes: Sequence[RefittedProbe],
    scores: pd.DataFrame,
    answers: pd.DataFrame,
    protocol: Protocol,
    *,
    model_info: Mapping,
    ran_on: Mapping | None,
    made_by: Mapping,
    questions: Mapping,
    wanted: Sequence[ExportedCell] | str,
    sha256: str,
) -> dict:
    """The card: all that a user of the probes must know, as plain values.

    scores: tidy scores of the probe. answers: question_id and group of the valid answers. ran_on:
    what the states were computed on. made_by: name, version and commit of the project. questions:
    {section: options of the config} that say what was asked and how. wanted: the option
    `cells`. sha256: of the file of tensors.
    """
    chosen = scores[(scores["metric"] == "auc") & (scores["control"] == "none")]
    held_out = chosen.set_index(["layer", "token"])
    groups = answers.set_index("question_id")["group"].fillna("")
    listed = [] if wanted == BEST else [cell.token for cell in wanted if cell.layer == BEST]
    return {
        "format": FORMAT,
        "what": f"Linear probes on {SITES[protocol.site]} that detect a wrong answer.",
        "positive_class": "a wrong answer (label 1; a right answer is 0)",
        "apply": (
            APPLY.format(score="score", probability=NO_PROBABILITY)
            if protocol.kind == "mean_difference"
            else APPLY.format(score="logit", probability=PROBABILITY)
        ),
        "made_by": dict(made_by),
        "model": {key: model_info[key] for key in MODEL_FACTS if model_info.get(key) is not None},
        "states": {
            "site": protocol.site,
            "layers": LAYERS[protocol.site],
            "sequence": SEQUENCE,
            "tokens": {
                token: TOKENS.get(token) or f"token {token} of the answer, counted from its end"
                for token in dict.fromkeys(probe.token for probe in probes)
            },
            "stored_as": "float32",
            "ran_on": dict(ran_on or {}),
        },
        "questions": dict(questions),
        "cells": CHOSEN if wanted == BEST else LISTED_BEST if listed else LISTED,
        "fit": _describe_fit(protocol),
        "protocol": protocol.plain(),
        "file": TENSORS,
        "sha256": sha256,
        "arrays": {"dtype": "float64", **ARRAYS},
        "probes": [
            _describe_probe(probe, held_out.loc[(probe.layer, probe.token)], groups, protocol)
            | (_describe_nested(scores, probe) if wanted == BEST or probe.token in listed else {})
            for probe in probes
        ],
    }


def _describe_nested(scores: pd.DataFrame, probe: RefittedProbe) -> dict:
    """What the layer of a token reaches that is not chosen by the scores it is judged by.

    Empty for a probe that is not of the highest layer.
    """
    nested = find_nested_cell(scores, "auc", probe.token)
    highest = find_highest_cell(scores, "auc", [probe.token])
    if nested is None or probe.layer != highest.probe["layer"]:
        return {}
    row = nested.probe
    return {
        "nested": {
            "auc": float(row["mean"]),
            "ci_low": _number(row["ci_low"]),
            "ci_high": _number(row["ci_high"]),
            "of": "the layer of this token that is chosen in each split on the training questions "
            "alone, on questions that had no part in the choice; held_out is of the highest layer",
        }
    }


def _describe_fit(protocol: Protocol) -> str:
    refit = {
        "single": "Fitted on the training set of the single split, as the scored probe was.",
        "hold_out": "Fitted on all questions but the held-out ones, as the scored probe was.",
    }.get(
        protocol.split,
        "Refitted on all questions of the cross-validation; none is left to test this fit on.",
    )
    return f"{refit} Scores: {describe_method(protocol)}"


def _describe_probe(
    probe: RefittedProbe, held_out: pd.Series, groups: pd.Series, protocol: Protocol
) -> dict:
    right, wrong = probe.counts.tolist()
    of = (
        f"the {int(held_out['folds'])} probes of the cross-validation, each tested on questions "
        "that it was not fitted on; not of this refit, which was fitted on them all"
        if protocol.split in CROSS_VALIDATIONS
        else "this probe, on questions that it was not fitted on"
    )
    return {
        "layer": probe.layer,
        "token": probe.token,
        "tensors": name_tensors(probe),
        "C": _number(probe.C),
        "converged": probe.converged,
        "training_questions": {"all": right + wrong, "right": right, "wrong": wrong},
        "class_weights": dict(zip(("right", "wrong"), probe.class_weights.tolist(), strict=True)),
        "groups": groups.loc[probe.trained_on].value_counts().sort_index().to_dict(),
        "held_out": {
            "auc": float(held_out["mean"]),
            "ci_low": _number(held_out["ci_low"]),
            "ci_high": _number(held_out["ci_high"]),
            "of": of,
        },
        "training_auc": probe.training_auc,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
