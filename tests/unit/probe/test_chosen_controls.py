"""The controls of the chosen cells are means over many permutations, each as a fit by itself."""

import numpy as np
import pandas as pd
import pytest

from llm_figures.probe.best_cell import find_nested_cell
from llm_figures.probe.cells import make_cells
from llm_figures.probe.chosen_controls import shuffle_chosen_cells
from llm_figures.probe.fitting import probe_cell, probe_layers
from llm_figures.probe.nested import choose_among_all, tabulate_nested
from llm_figures.probe.protocol import PRESETS, SHUFFLED
from llm_figures.probe.scores import measure_cells, measure_predictions
from planted_cells import KEYS, TOKENS, make_states


def make(protocol, groups=("a", "b")):
    """(measured cells, layers, rows, cells)"""
    answers, layers = make_states(groups)
    cells, rows = make_cells(KEYS, answers, TOKENS, protocol)
    loaders = [(number, lambda states=states: states) for number, states in enumerate(layers)]
    fits = pd.concat(list(probe_layers(loaders, rows, cells, protocol, 1)))
    stored = fits.drop(columns="permutation")  # as in probe/predictions
    return measure_cells(stored, cells, answers, protocol), loaders, rows, cells


@pytest.mark.parametrize("preset", ["strict", "single"])
def test_each_is_the_mean_of_its_permutations(preset):
    protocol = PRESETS["strict"]
    if preset == "single":
        protocol = protocol.changed(split="single", folds=1)
    measured, loaders, rows, cells = make(protocol)
    shuffled = shuffle_chosen_cells(measured, loaders, rows, protocol, shuffles=6, jobs=1)
    choices = choose_among_all(measured)
    chosen = {(choice.cell.cell.token, choice.layer) for choice in choices}
    assert shuffled.keys() == {(*place, control) for place in chosen for control in SHUFFLED}
    before = find_nested_cell(tabulate_nested(measured), "auc").beside
    nested = find_nested_cell(tabulate_nested(measured, shuffled), "auc").beside
    for control in SHUFFLED:
        values = []  # [splits][permutations]
        for choice in choices:
            cell = next(cell for cell in cells if cell.token == choice.cell.cell.token)
            splits = [s for s in cell.splits if (s.repeat, s.fold) == choice.split]
            at = next(at for at, other in enumerate(cells) if other is cell)
            states = loaders[choice.layer][1]()[rows[at]]
            fits = probe_cell(states, cell, choice.layer, protocol, 6, splits)
            fits = fits[fits["control"] == control]
            aucs = [
                next(iter(measure_predictions(own, cell, protocol).values())).values[0, 0]
                for _, own in fits.groupby("permutation")
            ]
            assert len(aucs) == 6
            values.append(aucs)
        means = np.mean(values, axis=0)
        row = nested.loc[control]
        assert row["mean"] == pytest.approx(means.mean())
        assert row["spread"] == pytest.approx(means.std(ddof=1))
        assert row["gain"] == pytest.approx(nested.loc["none", "mean"] - row["mean"])
        assert row["mean"] != before.loc[control, "mean"]
    others = before.index.difference(SHUFFLED)
    assert nested.loc[others, "mean"].equals(before.loc[others, "mean"])
    assert np.isnan(nested.loc[others, "spread"]).all()


def test_the_first_permutation_is_that_of_the_grid():
    protocol = PRESETS["strict"]
    measured, loaders, rows, _ = make(protocol)
    shuffled = shuffle_chosen_cells(measured, loaders, rows, protocol, shuffles=2, jobs=1)
    for (token, layer, control), result in shuffled.items():
        grid = next(p for p in measured.tokens if p.cell.token == token).results[layer, control]
        at = [grid.splits.index(split) for split in result.splits]
        assert result.permuted[0] == pytest.approx(grid.values[:, at], abs=1e-6)


def test_other_tokens_and_cells_keep_their_single_shuffle():
    protocol = PRESETS["strict"]
    measured, loaders, rows, _ = make(protocol)
    shuffled = shuffle_chosen_cells(measured, loaders, rows, protocol, shuffles=3, jobs=1)
    one, other = tabulate_nested(measured), tabulate_nested(measured, shuffled)
    of_token = one["token"].isin(TOKENS)
    pd.testing.assert_frame_equal(one[of_token], other[of_token])
    assert one.loc[of_token, "spread"].isna().all()


@pytest.mark.parametrize(("controls", "shuffles"), [(SHUFFLED, 1), ((), 20)])
def test_nothing_is_fitted_where_nothing_is_shuffled_again(controls, shuffles):
    protocol = PRESETS["strict"].changed(controls=controls)
    measured, _, rows, _ = make(protocol)
    assert shuffle_chosen_cells(measured, [], rows, protocol, shuffles, jobs=1) == {}


def test_without_large_groups_nothing_is_shuffled_within_them():
    protocol = PRESETS["strict"].changed(controls=("shuffled_within_group",))
    measured, loaders, rows, _ = make(protocol, groups=[str(number) for number in range(20)])
    assert shuffle_chosen_cells(measured, loaders, rows, protocol, shuffles=3, jobs=1) == {}
