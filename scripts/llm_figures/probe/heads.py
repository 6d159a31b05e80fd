"""Probes on the output of every attention head, as in inference-time intervention.

Li et al. 2023, arXiv 2306.03341. A head is a cell of the probe like a layer elsewhere: it has a
number, under which it stands in the column `layer` of predictions, and number 0 is the embeddings.
Whatever takes the predictions of layers, such as `scores.compute_probe_scores`, takes these.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_rows
from llm_figures.probe.best_cell import ANY_TOKEN, CHOSEN, CHOSEN_LAYER
from llm_figures.probe.cells import Cell
from llm_figures.probe.controls import FEWER_HEADS, NO_HEADS
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.nested import tabulate_nested
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.schema import count_layers, layer_column, read_layer_shapes
from llm_figures.probe.scores import MeasuredCell, MeasuredCells, measure_cells, tabulate_cells
from llm_figures.probe.stored_predictions import Predictions

EMBEDDINGS = 0


def number_heads(counts: Mapping[int, int]) -> pd.DataFrame:
    """Columns number, layer, head of every head, layer by layer; number counts from 1.

    counts: {layer: number of its heads}. layer and head are counted from 0.
    """
    rows = [(layer, head) for layer, count in sorted(counts.items()) for head in range(count)]
    frame = pd.DataFrame(rows, columns=["layer", "head"])
    frame.insert(0, "number", np.arange(1, len(frame) + 1))
    return frame


def count_heads(path: str | Path) -> tuple[dict[int, int], int]:
    """{layer, counted from 0: number of heads} of a file of heads' outputs, and all layers.

    Raises:
        UserError: no layer has heads.
    """
    shapes = read_layer_shapes(path)
    counts = {layer - 1: shape[0] for layer, shape in shapes.items() if layer}
    if not counts:
        raise UserError(f"{path}: no layer has attention heads; remove it and run again")
    return counts, count_layers(path)


def probe_heads(
    states: Sequence[str | Path],
    heads: pd.DataFrame,
    cell: Cell,
    rows: np.ndarray,
    protocol: Protocol,
    jobs: int,
) -> Iterator[pd.DataFrame]:
    """Predictions of the embeddings and of the heads of one layer after the other.

    states: files of heads' outputs. heads: as from `number_heads`. rows: of the states, the
    examples of `cell`. jobs: see `fitting.probe_layers`.

    Yields frames as `fitting.probe_cell` returns them, with the head's number in `layer`.
    """
    of_layer = [(EMBEDDINGS, [EMBEDDINGS])]
    of_layer += [(layer + 1, part["number"]) for layer, part in heads.groupby("layer")]
    every = np.arange(len(rows))
    for layer, numbers in of_layer:
        values = read_rows(states, layer_column(layer), rows).astype(np.float32, copy=False)
        parts = [values] if layer == EMBEDDINGS else np.moveaxis(values, 1, 0)
        loaders = [
            (number, partial(np.array, part)) for number, part in zip(numbers, parts, strict=True)
        ]
        yield pd.concat(probe_layers(loaders, [every], [cell], protocol, jobs), ignore_index=True)


def compute_head_scores(
    predictions: Predictions,
    heads: pd.DataFrame,
    layers: int,
    cell: Cell,
    answers: pd.DataFrame,
    protocol: Protocol,
) -> pd.DataFrame:
    """Tidy scores, one row per layer × head × metric × control.

    predictions: as from `probe_heads`. heads: as from `number_heads`. layers: all of the
    model's. answers: see `scores.compute_probe_scores`.

    The columns are those of `compute_probe_scores`, with `head` after `layer`, both counted from 0.
    The control "embeddings" is the probe of the embeddings at the same token. A further column,
    note, says why a cell without a head has no score; "" otherwise. Last come the rows of nested
    selection among all heads, of metrics such as nested_auc, with −1 for layer and head.

    Raises:
        UserError: too few answers have the token.
    """
    if not cell.enough_answers:
        raise UserError(
            f"config: figures.probe_heads.token: {cell.token}: only {len(cell.labels)} answers "
            f"have it, {int((cell.labels == 0).sum())} of them right; choose another token"
        )
    measured = measure_cells(predictions, [cell], answers, protocol)
    nested = _tabulate_chosen(measured, heads)
    scores = tabulate_cells(measured).rename(columns={"layer": "number"})
    scores = heads.merge(scores, on="number").drop(columns="number").assign(note="")
    counts = heads.groupby("layer")["head"].size().to_dict()
    absent = [
        {"layer": layer, "head": head, "note": FEWER_HEADS if layer in counts else NO_HEADS}
        for layer in range(layers)
        for head in range(counts.get(layer, 0), max(counts.values()))
    ]
    if not absent:
        return pd.concat([scores, nested], ignore_index=True)
    first = scores.loc[scores["control"] == "none"].drop_duplicates("metric")
    empty = first.assign(mean=np.nan, ci_low=np.nan, ci_high=np.nan, unconverged=0, folds=0)
    empty = empty.drop(columns=["layer", "head", "note"]).merge(pd.DataFrame(absent), how="cross")
    joined = pd.concat([scores, empty[scores.columns]], ignore_index=True)
    joined = joined.sort_values(["layer", "head"], kind="stable")
    return pd.concat([joined, nested], ignore_index=True)


def _tabulate_chosen(measured: MeasuredCells, heads: pd.DataFrame) -> pd.DataFrame:
    """Rows of nested selection among all heads: in every split one is chosen on its training set.

    See `nested.tabulate_nested`; layer and head of the probe and its controls are −1.
    """
    tokens = [
        MeasuredCell(cell, {key: one for key, one in results.items() if key[0] != EMBEDDINGS})
        for cell, results in measured.tokens
    ]
    rows = tabulate_nested(measured._replace(tokens=tokens))
    rows = rows[(rows["token"] != ANY_TOKEN) & (rows["control"] != CHOSEN)]
    rows = rows.rename(columns={"layer": "number"})
    summary = pd.DataFrame([(CHOSEN_LAYER,) * 3], columns=["number", "layer", "head"])
    places = pd.concat([heads, summary], ignore_index=True)
    return places.merge(rows, on="number").drop(columns="number").assign(note="")
