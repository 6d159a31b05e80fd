"""Fit a probe on the output of every attention head at one named token, and score them."""

from llm_figures.core.job import job, log, progress
from llm_figures.core.numbers import with_interval
from llm_figures.core.parquet_tensors import read_frames, write_frame
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.heads import compute_head_scores, count_heads, number_heads, probe_heads
from llm_figures.probe.protocol import Protocol


def main(
    answers: str,
    states: list[str],
    p_true: list[str],
    scores: str,
    token: str,
    protocol: Protocol,
    threads: int,
) -> None:
    rows, (cell,), (examples,) = read_cells(answers, states, [token], protocol)
    if p_true:
        rows = rows.merge(read_frames(p_true), on="question_id", how="left")
    counts, layers = count_heads(states[0])
    heads = number_heads(counts)
    log.info("%d heads in %d of %d layers, at %s", len(heads), len(counts), layers, token)
    frames = probe_heads(states, heads, cell, examples, protocol, jobs=threads)
    frames = progress(frames, "layers", len(counts) + 1)
    table = compute_head_scores(frames, heads, layers, cell, rows, protocol)
    table.attrs = {"protocol": protocol.plain(), "token": token}
    shown = table[(table["metric"] == "auc") & (table["control"] == "none")]
    if shown["mean"].notna().any():
        best = shown.loc[shown["mean"].idxmax()]
        score = with_interval(best["mean"], best["ci_low"], best["ci_high"])
        log.info("highest of all: layer %d, head %d: AUC %s", best["layer"], best["head"], score)
    write_frame(table, scores)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.states,
            snakemake.input.p_true,
            snakemake.output.scores,
            snakemake.params.token,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.threads,
        )
