"""Locate and judge the exact answers of all shards; write them as one table."""

from llm_figures.core.formatting import format_percent
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
    right = f"; {format_percent(valid['correct'].sum(), len(valid))} of these are right"
    log.info(
        "%d of %d answers (%s) can be probed%s",
        len(valid),
        len(judged),
        format_percent(len(valid), len(judged)),
        right if len(valid) else "",
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
