"""The choice over many draws is what the whole grid gives where all its cells are fitted."""

import numpy as np
import pandas as pd
import pytest

from llm_figures.probe.best_cell import ANY_TOKEN, WITHIN_GROUP
from llm_figures.probe.cells import make_cells, replace_splits
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.nested import tabulate_nested
from llm_figures.probe.protocol import PRESETS
from llm_figures.probe.repeated_choice import score_repeated_choice
from llm_figures.probe.scores import measure_cells
from planted_cells import COUNT, KEYS, TOKENS, make_states

PROTOCOL = PRESETS["strict"].changed(repeats=3)


def score(answers, layers, shuffles=2, protocol=PROTOCOL):
    cells, rows = make_cells(KEYS, answers, TOKENS, protocol.changed(repeats=1))
    cells = replace_splits(cells, answers, protocol)
    loaders = [(number, lambda states=states: states) for number, states in enumerate(layers)]
    found = score_repeated_choice(loaders, rows, cells, answers, protocol, shuffles, jobs=1)
    return found, (loaders, rows, cells)


def test_it_equals_the_choice_among_all_fitted_cells():
    answers, layers = make_states()
    found, (loaders, rows, cells) = score(answers, layers)
    predictions = pd.concat(list(probe_layers(loaders, rows, cells, PROTOCOL, 1)))
    whole = tabulate_nested(measure_cells(predictions, cells, answers, PROTOCOL))
    whole = whole[(whole["token"] == ANY_TOKEN) & ~whole["control"].isin(("chosen",))]
    index = ["metric", "control"]
    one, other = (table.set_index(index) for table in (found, whole))
    same = [key for key in other.index if not key[1].startswith("shuffled")]
    assert {key[1] for key in same} >= {"none", "embeddings", "output_and_group"}
    for column in ("mean", "ci_low", "ci_high", "gain", "gain_low", "folds", "n"):
        expected = other.loc[same, column].astype(float).to_numpy()
        assert one.loc[same, column].astype(float).to_numpy() == pytest.approx(
            expected, abs=1e-6, nan_ok=True
        ), column
    assert one.loc["nested_auc", "folds"]["none"] == 15
    assert 0.5 < one.loc[(WITHIN_GROUP, "none"), "mean"] < 1


def test_shuffled_controls_are_means_over_permutations_with_their_spread():
    answers, layers = make_states()
    few, _ = score(answers, layers, shuffles=2)
    many, _ = score(answers, layers, shuffles=12)
    for table in (few, many):
        rows = table[table["metric"] == "nested_auc"].set_index("control")
        assert rows["spread"].notna().sum() == 2
        assert 0 < rows.loc["shuffled_labels", "spread"] < 0.1
    shuffled = many[many["metric"] == "nested_auc"].set_index("control").loc["shuffled_labels"]
    assert shuffled["mean"] == pytest.approx(0.5, abs=0.03)
    probe = many[many["metric"] == "nested_auc"].set_index("control").loc["none"]
    assert shuffled["gain"] == pytest.approx(probe["mean"] - shuffled["mean"])


def test_without_a_cell_to_choose_there_are_no_rows():
    answers, layers = make_states()
    answers["correct"] = np.arange(COUNT) > 5  # too few wrong answers
    assert score(answers, layers)[0].empty
