"""Fit the probes of the kinds of error at some tokens of the greedy answers, and score them."""

from functools import partial

import numpy as np

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.kind_probes import (
    find_probed_kinds,
    probe_groups,
    probe_kinds,
    restrict_cell,
    score_kinds,
)
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_states import StoredStates


def main(
    answers: str,
    kinds: str,
    states: list[str],
    output: str,
    tokens: list[str],
    protocol: Protocol,
    threads: int,
) -> None:
    table = read_frame(kinds)
    kind_of = dict(zip(table["question_id"], table["kind"], strict=True))
    _, cells, rows = read_cells(answers, states, tokens, protocol)
    kept = [np.isin(cell.questions, [*kind_of]) for cell in cells]
    cells = [restrict_cell(cell, keep) for cell, keep in zip(cells, kept, strict=True)]
    rows = [own[keep] for own, keep in zip(rows, kept, strict=True)]
    columns = read_layer_columns(states[0])
    layers = [(at, partial(StoredStates, states, name)) for at, name in enumerate(columns)]
    fits = [
        fit
        for layer in progress(
            probe_kinds(layers, rows, cells, kind_of, protocol, jobs=threads), "layers", len(layers)
        )
        for fit in layer
    ]
    fits += probe_groups(cells, kind_of, range(len(layers)), protocol)
    for cell in cells:
        probed = find_probed_kinds(kind_of[question] for question in cell.questions)
        log.info("%s: %d kinds probed: %s", cell.token, len(probed), ", ".join(probed) or "none")
    groups = read_frame(answers, ["question_id", "split_group"]).set_index("question_id")
    split_groups = groups.loc[table["question_id"], "split_group"].to_numpy()
    write_frame(score_kinds(fits, table, split_groups, protocol), output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.kinds,
            snakemake.input.states,
            snakemake.output.scores,
            snakemake.params.tokens,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.threads,
        )
