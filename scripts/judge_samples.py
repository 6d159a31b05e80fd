"""Locate, judge and cluster the exact answers of all samples; write them as one table."""

from llm_figures.core.formatting import format_percent
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.questions.options import ExactAnswer, Judge
from llm_figures.questions.samples import judge_samples


def main(
    questions: str,
    generations: list[str],
    output: str,
    exact_answer: ExactAnswer,
    judging: Judge,
) -> None:
    samples = judge_samples(read_frame(questions), read_frames(generations), exact_answer, judging)
    valid = samples[samples["valid"]]
    log.info(
        "%d samples of %d questions; %s of %d valid ones are right",
        len(samples),
        samples["question_id"].nunique(),
        format_percent(valid["correct"].sum(), len(valid)) if len(valid) else "none",
        len(valid),
    )
    for problem, count in samples.loc[~samples["valid"], "problem"].value_counts().items():
        log.info("  %d left out: %s", count, problem)
    write_frame(samples, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.questions,
            snakemake.input.generations,
            snakemake.output.samples,
            read_options(ExactAnswer, snakemake.params.exact_answer, "config: exact_answer"),
            read_options(Judge, snakemake.params.judge, "config: judge"),
        )
