"""Fit the probes of some layers at every named token, and score every test answer."""

from functools import partial

import pyarrow as pa

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import frames_file
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.cells import Cell
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import SMALLEST_GROUP, Protocol
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_states import StoredStates

SCHEMA = pa.schema(
    [
        ("layer", pa.int16()),
        ("token", pa.dictionary(pa.int8(), pa.string())),
        ("control", pa.dictionary(pa.int8(), pa.string())),
        ("repeat", pa.int16()),
        ("fold", pa.int16()),
        ("question_id", pa.int32()),
        ("score", pa.float32()),
        ("n_train", pa.int32()),
        ("converged", pa.bool_()),
        ("C", pa.float32()),
        ("inner_auc", pa.float32()),
    ]
)


def main(
    answers: str,
    states: list[str],
    predictions: str,
    part: tuple[int, int],
    tokens: list[str],
    protocol: Protocol,
    threads: int,
) -> None:
    _, cells, examples = read_cells(answers, states, tokens, protocol)
    if "shuffled_within_group" in protocol.controls:
        _log_groups(cells)
    index, count = part
    columns = read_layer_columns(states[0])
    layers = list(range(index, len(columns), count))

    loaders = [(layer, partial(StoredStates, states, columns[layer])) for layer in layers]
    fits = unconverged = 0
    with frames_file(predictions, SCHEMA) as file:
        for frame in progress(
            probe_layers(loaders, examples, cells, protocol, jobs=threads), "layers", len(layers)
        ):
            converged = frame.groupby(["token", "control", "repeat", "fold"])["converged"].first()
            fits += len(converged)
            unconverged += int((~converged.astype(bool)).sum())
            if len(frame):
                file.write_table(pa.Table.from_pandas(frame, SCHEMA, preserve_index=False))
    log.info("%d fits, of which %d did not converge", fits, unconverged)


def _log_groups(cells: list[Cell]) -> None:
    """Log where labels cannot be shuffled within group."""
    without = [cell for cell in cells if not len(cell.large_groups)]
    if all(cell.group_count < 2 for cell in cells):
        log.info("the questions have no groups: no labels are shuffled within group")
    elif without:
        at = "" if len(without) == len(cells) else f" at {', '.join(c.token for c in without)}"
        log.info(
            "no group has %d training questions%s: no labels are shuffled within group; "
            "probe.split: group_folds trains and tests on different groups",
            SMALLEST_GROUP,
            at,
        )


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.output.predictions,
            (int(snakemake.wildcards.part), int(snakemake.wildcards.parts)),
            snakemake.params.tokens,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.threads,
        )
