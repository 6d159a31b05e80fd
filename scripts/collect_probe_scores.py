"""Compute tidy scores with controls from the probes' predictions."""

from functools import partial

import pandas as pd

from llm_figures.core.job import job, log
from llm_figures.core.numbers import with_interval
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.probe.best_cell import (
    find_highest_cell,
    find_nested_cell,
    list_candidates,
    select_probe,
)
from llm_figures.probe.cells import find_splits_of, make_cells
from llm_figures.probe.chosen_controls import shuffle_chosen_cells
from llm_figures.probe.nested import tabulate_nested
from llm_figures.probe.nested_details import tabulate_nested_details
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.scores import measure_cells, tabulate_cells
from llm_figures.probe.stored_predictions import StoredPredictions
from llm_figures.probe.stored_states import StoredStates


def main(
    answers: str,
    predictions: list[str],
    p_true: list[str],
    states: list[str],
    scores: str,
    tokens: list[str],
    protocol: Protocol,
    shuffles: int,
    threads: int,
) -> None:
    rows = read_frame(answers)
    rows = rows[rows["valid"]]
    if p_true:
        rows = rows.merge(read_frames(p_true), on="question_id", how="left")
    keys = read_frames(states, ["question_id", "token"])
    scored = StoredPredictions(predictions)
    # the answers of every layer are tested in the same folds
    first = next(iter(scored), None)
    splits = None if first is None else find_splits_of(first, rows, protocol)
    del first
    cells, examples = make_cells(keys, rows, tokens, protocol, splits)
    measured = measure_cells(scored, cells, rows, protocol)
    columns = read_layer_columns(states[0])
    loaders = [(layer, partial(StoredStates, states, columns[layer])) for layer in measured.layers]
    shuffled = shuffle_chosen_cells(measured, loaders, examples, protocol, shuffles, jobs=threads)
    scores_of_cells, nested = tabulate_cells(measured), tabulate_nested(measured, shuffled)
    names = ["layer", "token", "control", "repeat", "fold", "question_id", "score", "inner_auc"]
    own = StoredPredictions(predictions, names, controls=["none"])
    candidates = list_candidates(select_probe(scores_of_cells, "auc"))
    details = tabulate_nested_details(own, nested, rows, tokens, candidates, protocol)
    tables = [table for table in (scores_of_cells, nested, details) if len(table)]
    table = pd.concat(tables, ignore_index=True)
    # Kept in the file: by it the cells of these scores are found again (`notebook.results`).
    table.attrs = {"protocol": protocol.plain(), "tokens": list(tokens), "shuffles": shuffles}
    _log_cells(table)
    write_frame(table, scores)


def _log_cells(table: pd.DataFrame) -> None:
    shown = table[(table["control"] == "none") & (table["metric"] == "auc")]
    empty = shown[shown["mean"].isna()]
    if len(empty):
        log.info("too few answers for a score at: %s", ", ".join(sorted(set(empty["token"]))))
    highest, nested = find_highest_cell(table, "auc"), find_nested_cell(table, "auc")
    if highest is None:
        return
    place = (highest.probe["layer"], highest.probe["token"])
    log.info(
        "highest of %d cells: layer %d, %s: AUC %s",
        *(highest.scored, *place, _write_score(highest.probe)),
    )
    if nested is None:
        log.info("too few answers or groups to choose a cell within the training sets")
    else:
        log.info(
            "cell chosen on the training answers: AUC %s; %s",
            _write_score(nested.probe),
            "; ".join(
                f"layer {row.layer}, {row.token} in {row.folds} of {nested.probe['folds']}"
                for row in nested.chosen.itertuples()
            ),
        )
    for control, row in (nested or highest).beside.drop(index="none").iterrows():
        log.info("  %s: %s", control, _write_score(row))


def _write_score(row: pd.Series) -> str:
    return with_interval(row["mean"], row["ci_low"], row["ci_high"])


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.predictions,
            snakemake.input.p_true,
            snakemake.input.states,
            snakemake.output.scores,
            snakemake.params.tokens,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.params.shuffles,
            snakemake.threads,
        )
