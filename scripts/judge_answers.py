"""Locate and judge the exact answers of all shards; write them as one table and as a page."""

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.questions.answers import judge_answers
from llm_figures.questions.answers_report import render_answers_report
from llm_figures.questions.options import ExactAnswer, Judge


def main(
    questions: str,
    left_out: str,
    generations: list[str],
    quotes: list[str],
    replies: list[str],
    answers: str,
    report: str,
    exact_answer: ExactAnswer,
    judging: Judge,
    seed: int,
) -> None:
    judged = judge_answers(
        read_frame(questions),
        read_frames(generations),
        exact_answer,
        judging,
        read_frames(quotes) if quotes else None,
        read_frames(replies) if replies else None,
    )
    valid = judged[judged["valid"]]
    log.info(
        "%d of %d answers (%.1f%%) can be probed; %.1f%% of these are right",
        len(valid),
        len(judged),
        100 * len(valid) / len(judged),
        100 * valid["correct"].mean(),
    )
    for problem, count in judged.loc[~judged["valid"], "problem"].value_counts().items():
        log.info("  %d left out: %s", count, problem)
    for group, rows in valid.groupby("group"):
        log.info("  %s: %d of %d right", group, rows["correct"].sum(), len(rows))
    write_frame(judged, answers)
    write_text(report, render_answers_report(judged, read_frame(left_out), seed=seed))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.questions,
            snakemake.input.left_out,
            snakemake.input.generations,
            snakemake.input.quotes,
            snakemake.input.replies,
            snakemake.output.answers,
            snakemake.output.report,
            read_options(ExactAnswer, snakemake.params.exact_answer, "config: exact_answer"),
            read_options(Judge, snakemake.params.judge, "config: judge"),
            snakemake.params.seed,
        )
