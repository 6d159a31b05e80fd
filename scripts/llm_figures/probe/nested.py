"""Nested selection: every split's cell is chosen on its training set, and scored on its test set.

The highest of many scores is the score of a lucky cell. Here the test answers have no part in the
choice, so that the score is an unbiased one of the whole procedure, the choice included. A cell is
chosen by its AUC within the training set (see `selection`), the first of equals; what is scored is
that cell's own probe.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.probe.best_cell import (
    ANY_TOKEN,
    CHOSEN,
    CHOSEN_LAYER,
    CHOSEN_OF_TOKEN,
    NESTED,
    has_enough_answers,
)
from llm_figures.probe.classification_metrics import METRICS
from llm_figures.probe.scores import COLUMNS, MeasuredCell, MeasuredCells, Result, tabulate_control
from llm_figures.probe.stored_predictions import Predictions, iterate_layers


class Choice(NamedTuple):
    """The cell chosen for one split, and by which AUC within the training set."""

    split: tuple[int, int]
    layer: int
    cell: MeasuredCell
    inner_auc: float


def choose_cells(tokens: Sequence[MeasuredCell]) -> list[Choice]:
    """One choice per split, among all cells of these tokens; none in splits that none can have."""
    best: dict[tuple[int, int], Choice] = {}
    # Of equals the first counts: layer by layer, tokens in the figure's order.
    candidates = [
        (layer, order, measured, result)
        for order, measured in enumerate(tokens)
        for (layer, control), result in measured.results.items()
        if control == "none"
    ]
    for layer, _, measured, result in sorted(candidates, key=lambda item: item[:2]):
        for split, value in zip(result.splits, result.inner_aucs.tolist(), strict=True):
            if np.isfinite(value) and (split not in best or value > best[split].inner_auc):
                best[split] = Choice(split, layer, measured, value)
    return [best[split] for split in sorted(best)]


def choose_among_all(measured: MeasuredCells) -> list[Choice]:
    """`choose_cells` among all cells that enough answers have; none for fewer than two folds.

    Cells of too few answers are not compared with other tokens' (see `best_cell.list_candidates`).
    """
    scored = [part for part in measured.tokens if part.results]
    counts = np.array([len(part.cell.labels) for part in scored])
    enough = [part for part, there in zip(scored, has_enough_answers(counts), strict=True) if there]
    return _choose_often_enough(enough, measured)


def _choose_often_enough(tokens: Sequence[MeasuredCell], measured: MeasuredCells) -> list[Choice]:
    choices = choose_cells(tokens)
    return choices if len(choices) >= (2 if measured.over_folds else 1) else []


def tabulate_nested(
    measured: MeasuredCells, shuffled: Mapping[tuple[str, int, str], Result] | None = None
) -> pd.DataFrame:
    """Rows for the table of scores: nested selection among all cells, and among those of a token.

    They have the columns of `scores.compute_probe_scores`, and the metrics nested_auc,
    nested_accuracy and so on, however chosen by AUC. layer is −1, token "any", or the token among
    whose layers was chosen. A control is that in the cell chosen for each split; one that some of
    these cells lack is left out. n: answers that are tested.

    Rows with control "chosen" ("chosen_of_token") are the cells that were chosen among all (of
    their token). folds: in how many splits; mean: the score there.

    A choice that no test set can score, or that is not made for at least two folds, has no rows.

    shuffled: {(token, layer, control): what replaces a shuffled control of `choose_among_all`}.
    """
    rows: list[dict] = []
    scopes = [(ANY_TOKEN, CHOSEN, choose_among_all(measured), shuffled or {})]
    for part in measured.tokens:
        choices = _choose_often_enough([part], measured)
        scopes.append((part.cell.token, CHOSEN_OF_TOKEN, choices, {}))
    for token, chosen, choices, replaced in scopes:
        if choices:
            rows += _tabulate_scope(token, choices, replaced)
            rows += _tabulate_choices(chosen, choices)
    return pd.DataFrame(rows, columns=COLUMNS)


def _tabulate_scope(
    token: str, choices: Sequence[Choice], shuffled: Mapping[tuple[str, int, str], Result]
) -> Iterator[dict]:
    """Rows of the probe and its controls."""
    controls = [control for layer, control in choices[0].cell.results if layer == choices[0].layer]
    cells = [choice.cell.cell for choice in choices]
    tested = [_find_tested(choice) for choice in choices]
    place = {
        "layer": CHOSEN_LAYER,
        "token": token,
        "n": len(np.unique(np.concatenate(tested))),
        "groups": max(cell.group_count for cell in cells),
    }
    probe = _combine(choices, "none", {})
    for control in sorted(controls):
        result = _combine(choices, control, shuffled)
        if result is None:
            continue
        own = dict(place)
        if control == "shuffled_within_group":
            own["within_group"] = float(np.mean([c.compute_within_group_share() for c in cells]))
        for row in tabulate_control(control, result, None if control == "none" else probe):
            yield own | row | {"metric": f"{NESTED}{row['metric']}"}


def _combine(
    choices: Sequence[Choice], control: str, shuffled: Mapping[tuple[str, int, str], Result]
) -> Result | None:
    """A control's metrics in the cell chosen for each split; None if one of the cells lacks it."""
    parts = []
    for choice in choices:
        own = choice.cell.results.get((choice.layer, control))
        key = (choice.cell.cell.token, choice.layer, control)
        parts.append((choice, shuffled.get(key, own)))
    if any(result is None or choice.split not in result.splits for choice, result in parts):
        return None
    if not parts[0][1].over_folds:
        return parts[0][1]
    first = parts[0][1]
    at = [result.splits.index(choice.split) for choice, result in parts]
    results = [result for _, result in parts]
    return replace(
        first,
        permuted=np.stack([r.permuted[..., i] for r, i in zip(results, at, strict=True)], axis=2),
        splits=[choice.split for choice in choices],
        inner_aucs=np.array([choice.inner_auc for choice in choices]),
        n_train=round(np.mean([result.n_train for result in results])),
        n_test=round(np.mean([result.n_test for result in results])),
        folds=len(choices),
        unconverged=sum(int(r.unconverged_fits[i]) for r, i in zip(results, at, strict=True)),
    )


def _find_tested(choice: Choice) -> np.ndarray:
    """Ids of the questions that are tested in a split of the chosen cell."""
    cell = choice.cell.cell
    split = next(s for s in cell.splits if (s.repeat, s.fold) == choice.split)
    return cell.questions[split.test]


def _tabulate_choices(control: str, choices: Sequence[Choice]) -> Iterator[dict]:
    """Rows of the cells that were chosen, by layer and token."""
    chosen: dict[tuple[int, str], list[Choice]] = {}
    for choice in choices:
        chosen.setdefault((choice.layer, choice.cell.cell.token), []).append(choice)
    for (layer, token), same in sorted(chosen.items()):
        cell = same[0].cell
        result = cell.results[layer, "none"]
        at = [result.splits.index(choice.split) for choice in same]
        scores = result.values[:, at] if result.over_folds else result.values[:, :1]
        for metric, mean in zip(METRICS, scores.mean(axis=1).tolist(), strict=True):
            yield {
                "layer": layer,
                "token": token,
                "metric": f"{NESTED}{metric}",
                "mean": mean,
                "control": control,
                "n": len(cell.cell.labels),
                "n_train": result.n_train,
                "n_test": result.n_test,
                "folds": len(same),
                "unconverged": 0,
                "groups": cell.cell.group_count,
            }


def select_nested(
    predictions: Predictions, tokens: Sequence[str], of_token: bool = False
) -> pd.DataFrame:
    """The probes' scores of single answers by the cell that is chosen for each split.

    predictions: as from `fitting.probe_layers`. tokens: those to choose from, in the order of
    preference (`best_cell.list_candidates`). of_token: choose a layer for each token instead.
    """
    order = {token: number for number, token in enumerate(tokens)}

    def probes() -> Iterator[pd.DataFrame]:
        for frame in iterate_layers(predictions):
            frame = frame[frame["control"] == "none"]
            yield frame[frame["token"].isin(order)].astype({"token": str})

    place = ["layer", "token", "repeat", "fold"]
    fits = pd.concat([frame.drop_duplicates(place) for frame in probes()], ignore_index=True)
    fits = fits[np.isfinite(fits["inner_auc"])].assign(order=fits["token"].map(order))
    fits = fits.sort_values(["layer", "order"], kind="stable").reset_index(drop=True)
    split = ["token", "repeat", "fold"] if of_token else ["repeat", "fold"]
    best = fits.loc[fits.groupby(split)["inner_auc"].idxmax()] if len(fits) else fits
    return pd.concat([frame.merge(best[place]) for frame in probes()], ignore_index=True)
