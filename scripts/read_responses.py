"""Tokenize the answers that the dataset brings along, for one shard of the questions."""

from collections import Counter
from dataclasses import replace

from llm_figures.core.job import job, log, progress
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.generation import Generation
from llm_figures.inference.options import QuestionFormat
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import render_questions, tokenize_questions
from llm_figures.inference.responses import compute_log_probabilities, tokenize_response
from llm_figures.inference.schema import SCHEMA, answer_columns, problem_columns
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime

NOT_REPRODUCED = "the tokenizer does not reproduce the answer's text"


def main(
    model_info: str,
    questions: str,
    output: str,
    shard: tuple[int, int],
    prompt: QuestionFormat,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    index, count = shard
    table = read_frame(questions, ["question_id", "question", "response"])
    model, tokenizer = load_model(model_info, runtime, threads)
    texts = table["question"].tolist()
    prompts = tokenize_questions(tokenizer, prompt, texts)
    # of all shards: what is computed once must not depend on their number
    prefix = shared_prefix(prompts)
    context = context_length(model)
    answers: list[Generation] = []  # index: the question's
    problems: list[tuple[int, list[int], str, str]] = []
    for key, prompt_ids, text, response in zip(
        table["question_id"].tolist(),
        prompts,
        render_questions(tokenizer, prompt, texts),
        table["response"].tolist(),
        strict=True,
    ):
        if key % count != index:
            continue
        ids, spans = tokenize_response(tokenizer, prompt.style, text, response)
        if spans is None or not ids:
            problems.append((key, prompt_ids, NOT_REPRODUCED, response))
        elif context is not None and len(prompt_ids) + len(ids) > context:
            problem = (
                f"the prompt's {len(prompt_ids)} tokens and the answer's {len(ids)} exceed the "
                f"model's context of {context}"
            )
            problems.append((key, prompt_ids, problem, response))
        else:
            answers.append(
                Generation(key, prompt_ids, ids, *spans, log_probabilities=[], cut=False)
            )
    for problem, rows in Counter(problem for _, _, problem, _ in problems).items():
        log.info("%d answers cannot be used: %s", rows, problem)
    batches = compute_log_probabilities(
        model,
        [answer.prompt_ids for answer in answers],
        [answer.answer_ids for answer in answers],
        batch_size=batch_size,
        keys=[answer.index for answer in answers],
        prefix=prefix,
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch, log_probabilities in progress(
            batches, "answers", len(answers), lambda result: len(result[0])
        ):
            scored = [
                replace(answers[at], log_probabilities=logs)
                for at, logs in zip(batch, log_probabilities, strict=True)
            ]
            file.write(answer_columns([answer.index for answer in scored], scored))
        for row in problems:
            file.write(problem_columns(*row))
    log.info("%d tokens in %d answers", sum(len(a.answer_ids) for a in answers), len(answers))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.output.generations,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            read_options(QuestionFormat, snakemake.params.prompt, "config: prompt"),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
