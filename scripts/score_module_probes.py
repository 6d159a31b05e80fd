"""A probe on the output of every projection at one named token."""

import numpy as np
import pandas as pd

from llm_figures.job import job, log, progress
from llm_figures.labels import check_labels
from llm_figures.module_probes import module_probe_scores
from llm_figures.module_states_file import module_columns
from llm_figures.probes import make_cells
from llm_figures.tensors import read_frame, read_table, read_tensors, write_frame


def main(
    answers: str, states: list[str], scores: str, token: str, protocol: dict, threads: int
) -> None:
    asked = read_frame(answers)
    check_labels(asked, "forward/answers.md")
    asked = asked[asked["valid"]]
    keys = pd.concat(
        [read_frame(path, ["question_id", "token"]) for path in states], ignore_index=True
    )
    # Rows come in the order of batches and shards; the scores must not depend on these.
    order = keys.sort_values(["question_id", "token"]).index
    (cell,), (rows,) = make_cells(keys.loc[order].reset_index(drop=True), asked, [token], protocol)

    def states_of_projections():
        for column, layer, module in module_columns(states[0]):
            # One column at a time is what is held.
            parts = [read_tensors(read_table(path, [column]), column) for path in states]
            yield layer, module, np.concatenate(parts)[order][rows]

    found = module_probe_scores(states_of_projections(), cell, protocol, jobs=threads)
    total = len(module_columns(states[0]))
    table = pd.DataFrame(progress(found, "projections", total))
    log.info("%d answers with %s", len(cell.labels), token)
    write_frame(table, scores)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.output.scores,
            snakemake.params.token,
            snakemake.params.protocol,
            snakemake.threads,
        )
