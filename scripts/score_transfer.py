"""Train probes on every set of questions, and test each on every other."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from llm_figures.core.errors import UserError
from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.probe.fitting import probe_layers
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_states import StoredStates
from llm_figures.probe.transfer import (
    Trained,
    check_sets,
    compare_transfer,
    join_predictions,
    transfer,
)
from llm_figures.probe.transfer_options import TransferScoring
from llm_figures.probe.transfer_sets import (
    choose_sets,
    list_training_sets,
    nest_cells,
    nested_protocol,
    read_sets,
)

KEYS = ["question_id", "token"]


def main(
    answers: Mapping[str, str],
    states: Mapping[str, Sequence[str]],
    scores: str,
    options: TransferScoring,
    protocol: Protocol,
    threads: int,
) -> None:
    protocol = nested_protocol(protocol)
    every = read_sets(
        {name: read_frame(path) for name, path in answers.items()},
        {name: read_frames(paths, KEYS) for name, paths in states.items()},
        options.by_group,
    )
    chosen = choose_sets(every, options.sets)
    left_out = {one.name: one.problem for one in chosen if one.problem}
    for name, problem in left_out.items():
        log.info("%s is left out: %s", name, problem)
    sets = [one for one in chosen if not one.problem]
    check_sets(sets, left_out)
    training, start, nested = list_training_sets(sets), 0, []
    for one in training:
        nested.append(None if one.problem else nest_cells(one, options.tokens, protocol, start))
        start += len(one.answers)

    paths = [path for of_set in states.values() for path in of_set]
    columns = read_layer_columns(paths[0])
    for path in paths:
        if read_layer_columns(path) != columns:
            raise UserError(f"{path}: has other layers than {paths[0]}; extract all states again")
    load = partial(_load, paths, tuple(columns))
    cells = [cell for of_set in nested if of_set for cell in of_set.cells]
    rows = [own for of_set in nested if of_set for own in of_set.rows]
    loaders = [(layer, partial(load, layer)) for layer in _find_layers(options, len(columns))]
    fits = probe_layers(loaders, rows, cells, protocol, jobs=threads, select=False)
    predictions = join_predictions(progress(fits, "layers", len(loaders)), options.tokens)
    trained = []
    with threadpool_limits(1):
        for one, of_set in zip(training, nested, strict=True):
            if of_set is None:
                trained.append(Trained(one))
                continue
            tests = [test for test in sets if one.excluded in (None, test.name)]
            arguments = (predictions, tests, load, options.tokens, protocol)
            trained.append(transfer(one, of_set, *arguments))
    folds = {
        one.name: of_set.folds
        for one, of_set in zip(training, nested, strict=True)
        if one.excluded is None
    }
    table = compare_transfer(sets, trained, folds, left_out, protocol.seed)
    _log_means(table)
    write_frame(table, scores)


def _find_layers(options: TransferScoring, count: int) -> Sequence[int]:
    """The layers that probes are fitted in. count: of the layers that there are."""
    if options.layer is None:
        return range(count)
    if options.layer >= count:
        raise UserError(
            f"config: figures.probe_transfer.layer: {options.layer} is outside the model, whose "
            f"probes are of layers 0 (embeddings) to {count - 1}"
        )
    return [options.layer]


def _load(paths: Sequence[str], columns: Sequence[str], layer: int) -> StoredStates:
    """The states of a layer, of all files: [rows, features]."""
    return StoredStates(paths, columns[layer])


def _log_means(table: pd.DataFrame) -> None:
    for same, what in ((True, "the set itself"), (False, "another set")):
        for control, rows in table[(table["train"] == table["test"]) == same].groupby("control"):
            name = "probe" if control == "none" else control
            log.info("%s, tested on %s: mean AUC %.3f", name, what, rows["auc"].mean())


if "snakemake" in globals():
    with job(snakemake):
        names = ["", *snakemake.params.names]
        main(
            dict(zip(names, snakemake.input.answers, strict=True)),
            # every set has the same number of shards
            dict(zip(names, np.array_split(snakemake.input.states, len(names)), strict=True)),
            snakemake.output.scores,
            TransferScoring.model_validate(snakemake.params.options),
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.threads,
        )
