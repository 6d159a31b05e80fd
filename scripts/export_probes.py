"""Fit the probes of chosen cells on all training questions, and write them with their card."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import save
from threadpoolctl import threadpool_limits

from llm_figures.core.atomic_files import whole_file, write_text
from llm_figures.core.checksums import sha256
from llm_figures.core.job import job, log
from llm_figures.core.numbers import with_interval
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_facts, read_frame
from llm_figures.core.result_folders import portable
from llm_figures.models.model_info import read_model_info
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.export import (
    RefittedProbe,
    choose_cells,
    collect_tensors,
    make_card,
    refit_probe,
)
from llm_figures.probe.options import Export
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_states import StoredStates, read_cells_of_layer
from llm_figures.provenance.manifest import PROJECT, describe_project

KEYS = ("auc", "ci_low", "ci_high")


def main(
    model_info: str,
    answers: str,
    states: list[str],
    scores: str,
    probes: str,
    card: str,
    options: Export,
    tokens: Sequence[str],
    protocol: Protocol,
    questions: dict,
) -> None:
    table = read_frame(scores)
    chosen, empty = choose_cells(table, options.cells, tokens)
    if empty:
        log.info("too few answers for a probe at: %s", ", ".join(empty))
    rows, cells, examples = read_cells(answers, states, tokens, protocol)
    of_token = {cell.token: (cell, own) for cell, own in zip(cells, examples, strict=True)}
    columns = read_layer_columns(states[0])
    fitted = {}
    for layer in sorted({layer for layer, _ in chosen}):
        of_layer = StoredStates(states, columns[layer])
        wanted = [token for at, token in chosen if at == layer]
        read = read_cells_of_layer(layer, of_layer, [of_token[token][1] for token in wanted])
        for token, own in zip(wanted, read, strict=True):
            with threadpool_limits(1):  # as the scored probes were fitted
                fitted[layer, token] = refit_probe(own, of_token[token][0], layer, protocol)
    refitted = [fitted[cell] for cell in chosen]
    with whole_file(probes) as partial:
        partial.write_bytes(save(collect_tensors(refitted)))
    content = make_card(
        refitted,
        table,
        rows,
        protocol,
        model_info=read_model_info(model_info),
        ran_on=read_facts(states[0]),
        made_by=describe_project(PROJECT),
        questions=portable(questions),
        wanted=options.cells,
        sha256=sha256(Path(probes)),
    )
    write_text(card, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    _log_probes(refitted, content)


def _log_probes(refitted: list[RefittedProbe], card: dict) -> None:
    log.info("%s", card["fit"])
    log.info("AUC on held-out questions of %s", card["probes"][0]["held_out"]["of"])
    log.info("AUC on its own training questions says nothing of new ones")
    for probe, about in zip(refitted, card["probes"], strict=True):
        log.info(
            "layer %d, %s: held-out %s; on its own %s training questions %.3f%s",
            probe.layer,
            probe.token,
            with_interval(*(_number(about["held_out"][key]) for key in KEYS)),
            f"{about['training_questions']['all']:,}",
            probe.training_auc,
            "" if probe.converged else "; the fit did not converge",
        )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.input.scores,
            snakemake.output.probes,
            snakemake.output.card,
            read_options(Export, snakemake.params.export, "config: probe.export"),
            snakemake.params.tokens,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.params.questions,
        )
