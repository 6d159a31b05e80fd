"""Sample several answers to every question of one shard."""

import pyarrow as pa

from llm_figures.core.job import job, log, progress
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.options import Prompt
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import tokenize_questions, too_long
from llm_figures.inference.resampling import sample_answers
from llm_figures.inference.schema import SCHEMA, answer_columns, problem_columns
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.questions.resampling_options import Resamples
from llm_figures.questions.samples import choose_questions

SAMPLES = pa.schema([SCHEMA.field(0), ("sample", pa.int32()), *list(SCHEMA)[2:]])


def main(
    model_info: str,
    questions: str,
    output: str,
    shard: tuple[int, int],
    prompt: Prompt,
    resamples: Resamples,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    index, count = shard
    table = read_frame(questions, ["question_id", "question"])
    model, tokenizer = load_model(model_info, runtime, threads)
    ids = tokenize_questions(tokenizer, prompt, table["question"].tolist())
    # of all shards and questions: what is computed once must not depend on their number
    prefix = shared_prefix(ids)
    ids_of = dict(zip(table["question_id"].tolist(), ids, strict=True))
    chosen = choose_questions(table, resamples.limit, resamples.seed)["question_id"].tolist()
    own = [key for key in chosen if key % count == index]
    context = context_length(model)
    problems = {key: too_long(ids_of[key], prompt.max_new_tokens, context) for key in own}
    fitting = [key for key in own if not problems[key]]
    batches = sample_answers(
        model,
        tokenizer,
        [ids_of[key] for key in fitting],
        count=resamples.count,
        temperature=resamples.temperature,
        seed=resamples.seed,
        stop=prompt.stop_strings(),
        max_new_tokens=prompt.max_new_tokens,
        batch_size=batch_size,
        keys=fitting,
        prefix=prefix,
    )
    total = len(fitting) * resamples.count
    with tensor_file(output, SAMPLES, runtime_facts(model)) as file:
        for batch in progress(batches, "samples", total=total, size=len):
            answers = [sample.answer for sample in batch]
            columns = answer_columns([fitting[answer.index] for answer in answers], answers)
            file.write(columns | {"sample": [sample.number for sample in batch]})
        for key in own:
            if problems[key]:
                log.info("question %d cannot be asked: %s", key, problems[key])
                columns = problem_columns(key, ids_of[key], problems[key])
                for number in range(resamples.count):
                    file.write(columns | {"sample": [number]})


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.output.generations,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            read_options(Prompt, snakemake.params.prompt, "config: prompt"),
            read_options(Resamples, snakemake.params.resamples, "config: resamples"),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
