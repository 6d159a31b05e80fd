"""Fit a probe on the output of every projection at one named token."""

from functools import partial

import pandas as pd

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.modules.probes import score_projections
from llm_figures.modules.schema import find_columns
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.stored_states import StoredStates


def main(
    answers: str, states: list[str], scores: str, token: str, protocol: Protocol, threads: int
) -> None:
    _, (cell,), (rows,) = read_cells(answers, states, [token], protocol)
    projections = [
        (layer, projection, partial(StoredStates, states, column))
        for column, layer, projection in find_columns(states[0])
    ]
    scored = score_projections(projections, rows, cell, protocol, jobs=threads)
    table = pd.DataFrame(progress(scored, "projections", len(projections)))
    log.info("%d answers with %s", len(cell.labels), token)
    write_frame(table, scores)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.output.scores,
            snakemake.params.token,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.threads,
        )
