"""Generate the answers to one shard of the questions."""

from llm_figures.core.job import job, log, progress
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.generation import generate
from llm_figures.inference.options import Prompt
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import tokenize_questions, too_long
from llm_figures.inference.schema import SCHEMA, answer_columns, problem_columns
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime


def main(
    model_info: str,
    questions: str,
    output: str,
    shard: tuple[int, int],
    prompt: Prompt,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    index, count = shard
    table = read_frame(questions, ["question_id", "question"])
    model, tokenizer = load_model(model_info, runtime, threads)
    ids = tokenize_questions(tokenizer, prompt, table["question"].tolist())
    context = context_length(model)
    problems = [too_long(prompt_ids, prompt.max_new_tokens, context) for prompt_ids in ids]
    # of all shards: what is computed once must not depend on their number
    prefix = shared_prefix(ids)
    rows = [
        row
        for row in zip(table["question_id"].tolist(), ids, problems, strict=True)
        if row[0] % count == index
    ]
    fitting = [(key, prompt_ids) for key, prompt_ids, problem in rows if not problem]
    batches = generate(
        model,
        tokenizer,
        [prompt_ids for _, prompt_ids in fitting],
        stop=prompt.stop_strings(),
        max_new_tokens=prompt.max_new_tokens,
        batch_size=batch_size,
        sampling=prompt,
        keys=[key for key, _ in fitting],
        prefix=prefix,
    )
    tokens = 0
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch in progress(batches, "questions", total=len(fitting), size=len):
            tokens += sum(len(answer.answer_ids) for answer in batch)
            file.write(answer_columns([fitting[answer.index][0] for answer in batch], batch))
        for key, prompt_ids, problem in rows:
            if problem:
                log.info("question %d cannot be asked: %s", key, problem)
                file.write(problem_columns(key, prompt_ids, problem))
    log.info("%d tokens generated", tokens)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.output.generations,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            read_options(Prompt, snakemake.params.prompt, "config: prompt"),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
