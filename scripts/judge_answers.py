"""Exact answers found label-blind, then judged; all shards in one table, and a report to read."""

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
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
    generated = read_frames(generations)
    quoted = read_frames(quotes) if quotes else None
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
    write_text(report, answers_report(judged, read_frame(left_out), seed=seed))


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
