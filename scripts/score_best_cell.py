"""Test the probe's highest cell against permuted labels, and score the chosen one by group."""

from functools import partial

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.job import job, log, progress
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.probe.best_cell import find_nested_cell, list_candidates, select_probe
from llm_figures.probe.best_table import PermutedCells, tabulate_best
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.cells import replace_splits
from llm_figures.probe.classification_metrics import compute_p
from llm_figures.probe.nested import select_nested
from llm_figures.probe.options import ProbeBestScoring
from llm_figures.probe.permutation import (
    find_movable,
    permute_labels,
    score_permuted_cells,
)
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.repeated_choice import DRAWN, score_repeated_choice
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_predictions import StoredPredictions
from llm_figures.probe.stored_states import StoredStates
from llm_figures.probe.within_groups import tabulate_within_groups


def main(
    answers: str,
    states: list[str],
    predictions: list[str],
    scores: str,
    p_true: list[str],
    best: str,
    groups: str,
    tokens: list[str],
    protocol: Protocol,
    options: ProbeBestScoring,
    shuffles: int,
    threads: int,
) -> None:
    valid, cells, rows = read_cells(answers, states, tokens, protocol)
    if p_true:
        valid = valid.merge(read_frames(p_true), on="question_id", how="left")
    valid = valid.sort_values("question_id", ignore_index=True)
    wrong = 1 - valid["correct"].to_numpy(int)
    named = valid["group"].fillna("").to_numpy(str)
    numbers = np.unique(named, return_inverse=True)[1]
    shuffle = options.shuffle if numbers.max(initial=0) else "overall"
    within = numbers if shuffle == "within_group" else np.zeros_like(numbers)
    equal = np.unique(valid["split_group"].to_numpy(), return_inverse=True)[1]
    permuted = permute_labels(wrong, within, equal, options.permutations, options.seed)
    movable = find_movable(wrong, within, equal)
    if not movable:
        raise UserError(
            "config: figures.probe_best.shuffle: within_group: no label can change, for the "
            "answers of every group (dataset.group) are all right or all wrong; take shuffle: "
            "overall"
        )
    labels = np.vstack([wrong.astype(np.int8), permuted]).T
    ids = valid["question_id"].to_numpy()
    places = [np.searchsorted(ids, cell.questions) for cell in cells]
    columns = read_layer_columns(states[0])
    layers = list(range(len(columns)))
    loaders = [(layer, partial(StoredStates, states, columns[layer])) for layer in layers]
    permuted_aucs = score_permuted_cells(loaders, rows, cells, labels, places, jobs=threads)
    aucs = np.array([values for _, values in progress(permuted_aucs, "layers", len(layers))])
    log.info("%d permutations in %d cells", options.permutations, aucs[..., 0].size)
    names = ["layer", "token", "control", "repeat", "fold", "question_id", "score", "inner_auc"]
    own = StoredPredictions(predictions, names, controls=["none"])
    scored = read_frame(scores)
    candidates = list_candidates(select_probe(scored, "auc"))
    nested = select_nested(own, candidates)
    if find_nested_cell(scored, "auc") is None:  # a choice for a single fold is none
        nested = nested[:0]
    of_groups = tabulate_within_groups(own, nested, valid, options.seed)
    write_frame(of_groups, groups)
    repeated = pd.DataFrame()
    if protocol.split in DRAWN:
        often = protocol.changed(repeats=options.repeats)
        splits = replace_splits(cells, valid, often)
        allowed = [at for at, cell in enumerate(cells) if cell.token in candidates]
        repeated = score_repeated_choice(
            loaders,
            [rows[at] for at in allowed],
            [splits[at] for at in allowed],
            valid,
            often,
            shuffles,
            jobs=threads,
        )
        log.info("%d draws of folds, %d permutations in each", options.repeats, shuffles)
    cells_permuted = PermutedCells(layers, tokens, aucs, shuffle, movable)
    table = tabulate_best(cells_permuted, scored, own, nested, of_groups, repeated, valid)
    table.attrs = {"protocol": protocol.plain(), "shuffles": shuffles}
    observed = table.loc[table["kind"] == "observed", "value"].iloc[0]
    maxima = table.loc[table["kind"] == "permuted", "value"].dropna().to_numpy()
    log.info("observed maximum %.3f, p = %.3g", observed, compute_p(observed, maxima))
    write_frame(table, best)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.input.predictions,
            snakemake.input.scores,
            snakemake.input.p_true,
            snakemake.output.best,
            snakemake.output.groups,
            snakemake.params.tokens,
            Protocol.model_validate(snakemake.params.protocol),
            read_options(ProbeBestScoring, snakemake.params.options, "config: figures.probe_best"),
            snakemake.params.shuffles,
            snakemake.threads,
        )
