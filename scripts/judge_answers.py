"""Exact answers found label-blind, then judged; all shards in one table."""

import pandas as pd

from llm_figures.answers import judged_answers
from llm_figures.job import job, log
from llm_figures.probes import check_labels
from llm_figures.tensors import read_frame, write_frame


def main(questions: str, generations: list[str], answers: str) -> None:
    generated = pd.concat([read_frame(path) for path in generations], ignore_index=True)
    judged = judged_answers(read_frame(questions), generated)
    valid = judged[judged["valid"]]
    log.info(
        "%d of %d answers (%.1f%%) hold a valid exact answer; %.1f%% of these are right",
        len(valid),
        len(judged),
        100 * len(valid) / len(judged),
        100 * valid["correct"].mean(),
    )
    for group, rows in valid.groupby("group"):
        log.info("  %s: %d of %d right", group, rows["correct"].sum(), len(rows))
    check_labels(valid["correct"].to_numpy(bool), judged["answer"].tolist())
    write_frame(judged, answers)


if "snakemake" in globals():
    with job(snakemake):
        main(snakemake.input.questions, snakemake.input.generations, snakemake.output.answers)
