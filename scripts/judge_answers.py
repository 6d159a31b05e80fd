"""Exact answers found label-blind, then judged; all shards in one table, and a report to read."""

import pandas as pd

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.questions.answers import judged_answers
from llm_figures.questions.answers_report import answers_report


def main(
    questions: str,
    left_out: str,
    generations: list[str],
    quotes: list[str],
    answers: str,
    report: str,
    method: str,
    pattern: str | None,
    seed: int,
) -> None:
    generated = pd.concat([read_frame(path) for path in generations], ignore_index=True)
    quoted = pd.concat([read_frame(path) for path in quotes], ignore_index=True) if quotes else None
    judged = judged_answers(
        read_frame(questions), generated, method=method, pattern=pattern, quotes=quoted
    )
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
    write_frame(judged, answers)
    with whole_file(report) as partial:
        text = answers_report(judged, read_frame(left_out), seed=seed)
        partial.write_text(text, encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.questions,
            snakemake.input.left_out,
            snakemake.input.generations,
            snakemake.input.quotes,
            snakemake.output.answers,
            snakemake.output.report,
            snakemake.params.method,
            snakemake.params.pattern,
            snakemake.params.seed,
        )
