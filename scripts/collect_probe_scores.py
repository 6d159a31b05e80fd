"""Compute tidy scores with controls from the probes' predictions."""

import pandas as pd

from llm_figures.core.job import job, log
from llm_figures.core.numbers import with_interval
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.cells import make_cells
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.scores import compute_probe_scores


def main(
    answers: str,
    predictions: list[str],
    p_true: list[str],
    states: list[str],
    scores: str,
    tokens: list[str],
    protocol: Protocol,
) -> None:
    rows = read_frame(answers)
    rows = rows[rows["valid"]]
    if p_true:
        rows = rows.merge(read_frames(p_true), on="question_id", how="left")
    keys = read_frames(states, ["question_id", "token"])
    cells, _ = make_cells(keys, rows, tokens, protocol)
    table = compute_probe_scores(read_frames(predictions), cells, rows, protocol)
    # Kept in the file: by it the cells of these scores are found again (`notebook.results`).
    table.attrs = {"protocol": protocol.plain(), "tokens": list(tokens)}
    _log_best_cell(table)
    write_frame(table, scores)


def _log_best_cell(table: pd.DataFrame) -> None:
    shown = table[(table["control"] == "none") & (table["metric"] == "auc")]
    empty = shown[shown["mean"].isna()]
    if len(empty):
        log.info("too few answers for a score at: %s", ", ".join(sorted(set(empty["token"]))))
    best = find_best_cell(table, "auc")
    if best is None:
        return
    place = (best.probe["layer"], best.probe["token"])
    scores = {
        row.Index: with_interval(row.mean, row.ci_low, row.ci_high)
        for row in best.beside.itertuples()
    }
    log.info("best cell: layer %d, %s: AUC %s", *place, scores.pop("none"))
    for control, score in scores.items():
        log.info("  %s: %s", control, score)


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
        )
