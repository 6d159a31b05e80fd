"""The sentence of each figure, from planted tables."""

import numpy as np
import pandas as pd

from llm_figures.provenance.summaries import (
    summarise_attention,
    summarise_modules,
    summarise_probe,
)


def column(component, weights, counts=None, **fields):
    """The first column of a map, whose first row is 1."""
    rows = {
        "input": 1, "component": component, "operation": "mean", "over": "tokens",
        "epsilon": np.nan, "scope": "layer", "layer": 7, "key_position": 0,
        "query_position": range(len(weights) + 1), "weight": [1.0, *weights],
    }  # fmt: skip
    return pd.DataFrame(rows | ({"query_count": [1, *counts]} if counts else {}) | fields)


def test_weights_are_averaged_over_tokens_then_texts():
    cells = pd.concat(
        [
            column("query", [0.2, 0.4], [1, 3]),  # bins of one and three tokens
            column("query", [0.15], [1], input=2),
            column("value", [0.9], [1]),
        ]
    )
    assert summarise_attention(cells) == (
        "Later tokens give the first one 0.250 of their attention when Query is replaced by its "
        "mean over the token positions and 0.900 when Value is (layer 7)."
    )
    assert summarise_attention(column("query", [])) is None


def test_the_strongest_factor_is_described():
    scale = {"operation": "scale", "over": None, "scope": "model"}
    cells = [column("key", [weight], epsilon=epsilon, **scale)
             for epsilon, weight in ((0.5, 0.4), (0.0, 0.1), (1.5, 0.7))]  # fmt: skip
    assert summarise_attention(pd.concat(cells)) == (
        "Later tokens give the first one 0.100 of their attention when Key is multiplied by "
        "ε = 0 (layer 7, changed in every layer)."
    )


def test_controls_that_explain_the_best_cell_are_named():
    probe = {"name": "probe", "mean": "0.90", "interval": "[0.8, 1.0]", "explains": False}
    group = {"name": "group alone", "explains": True}
    tokens = {"name": "embeddings", "explains": True}
    found = {
        "probe": "linear probe",
        "cells": "layer 3, -1",
        "nested": False,
        "metric": "AUC",
        "rows": [probe],
    }
    start = (
        "A linear probe detects a wrong answer; highest, a selection, is layer 3, -1: "
        "AUC 0.90 [0.8, 1.0]"
    )
    assert summarise_probe(found) == f"{start}."
    assert summarise_probe({**found, "rows": [probe, probe]}).endswith(
        "1.0], explained by none of its controls."
    )
    assert summarise_probe({**found, "rows": [probe, group, tokens]}) == (
        f"{start}, explained by group alone and by embeddings."
    )
    assert summarise_probe({**found, "nested": True}) == (
        "A linear probe whose cell is chosen on the training answers detects a wrong answer: "
        "AUC 0.90 [0.8, 1.0]."
    )
    assert summarise_probe(None) is None


def test_a_module_map_without_a_value_has_no_sentence():
    scores = pd.DataFrame(
        {"metric": "output_rms", "layer": [0, 1], "projection": "mlp. up", "value": [0.5, 2.0]}
    )
    assert summarise_modules(scores, "output_rms") == (
        "RMS of the output by layer and projection: 0.5000 to 2.0000, highest in mlp. up of "
        "layer 1."
    )
    assert summarise_modules(scores.assign(value=np.nan), "output_rms") is None
