"""Locate and judge the exact answers of all shards; write them as one table."""

from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.questions.answers import judge_answers
from llm_figures.questions.options import ExactAnswer, Judge


def main(
    questions: str,
    generations: list[str],
    quotes: list[str],
    replies: list[str],
    answers: str,
    exact_answer: ExactAnswer,
    judging: Judge,
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


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.questions,
            snakemake.input.generations,
            snakemake.input.quotes,
            snakemake.input.replies,
            snakemake.output.answers,
            read_options(ExactAnswer, snakemake.params.exact_answer, "config: exact_answer"),
            read_options(Judge, snakemake.params.judge, "config: judge"),
        )
