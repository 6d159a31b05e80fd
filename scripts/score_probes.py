"""How well a linear probe on every layer and named token detects a wrong answer."""

import numpy as np
import pandas as pd

from llm_figures.hidden_states_file import layer_columns
from llm_figures.job import job, log, progress
from llm_figures.probes import assign_folds, check_labels, probe_layer
from llm_figures.tensors import read_frame, read_table, read_tensors, write_frame


def main(
    answers: str, states: list[str], scores: str, tokens: list[str], probe: dict, threads: int
) -> None:
    columns = ["question_id", "question", "answer", "correct", "valid"]
    asked = read_frame(answers, columns)
    asked = asked[asked["valid"]].reset_index(drop=True)
    check_labels(asked["correct"].to_numpy(bool), asked["answer"].tolist())
    label = 1 - asked["correct"].to_numpy(int)  # a wrong answer is what the probe detects
    folds = assign_folds(
        label,
        asked["question"].tolist(),
        folds=probe["folds"],
        repeats=probe["repeats"],
        seed=probe["seed"],
    )
    examples = asked[["question_id"]].assign(
        label=label, **{f"fold_{repeat}": fold for repeat, fold in enumerate(folds)}
    )

    keys = ["question_id", "token"]
    cells = pd.concat([read_frame(path, keys) for path in states], ignore_index=True)
    # Rows come in the order of batches and shards; the scores must not depend on these.
    order = cells.sort_values(keys).index
    cells = cells.loc[order].merge(examples, on="question_id", how="left", validate="many_to_one")
    found = []
    for layer, column in enumerate(progress(layer_columns(states[0]), "layers")):
        values = np.concatenate(
            [read_tensors(read_table(path, [column]), column) for path in states]
        )[order]
        C = 1 / values.shape[1] if probe["C"] == "auto" else probe["C"]
        found.append(
            probe_layer(values, cells, tokens, C=C, seed=probe["seed"], threads=threads).assign(
                layer=layer
            )
        )
    table = pd.concat(found, ignore_index=True)
    _report(table)
    write_frame(table, scores)


def _report(table: pd.DataFrame) -> None:
    fits = table[["layer", "token", "unconverged"]].drop_duplicates()
    if fits["unconverged"].any():
        log.info("%d fits did not converge", fits["unconverged"].sum())
    shown = table[(table["control"] == "none") & (table["metric"] == "auc")]
    empty = shown[shown["mean"].isna()]
    if len(empty):
        log.info("too few answers for a score at: %s", ", ".join(sorted(set(empty["token"]))))
    if empty.size == shown.size:
        return
    best = shown.loc[shown["mean"].idxmax()]
    log.info(
        "best cell: layer %d, %s: AUC %.3f [%.3f, %.3f]",
        *(best["layer"], best["token"], best["mean"], best["ci_low"], best["ci_high"]),
    )


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.output.scores,
            snakemake.params.tokens,
            snakemake.params.probe,
            snakemake.threads,
        )
