"""Answers to one shard of the questions."""

import pyarrow as pa

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.generation import Decoding, generate
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import question_ids, stop_strings, too_long
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime

SCHEMA = pa.schema(
    [
        ("question_id", pa.int64()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("answer_ids", pa.list_(pa.int64())),
        ("answer", pa.string()),
        ("token_starts", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
        ("token_log_probabilities", pa.list_(pa.float32())),
        ("problem", pa.string()),
    ]
)


def main(
    model_info: str,
    questions: str,
    output: str,
    shard: tuple[int, int],
    prompt: dict,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    index, count = shard
    asked = read_frame(questions, ["question_id", "question"])
    model, tokenizer = load_model(model_info, runtime, threads)
    ids = question_ids(tokenizer, prompt, asked["question"].tolist())
    longest = context_length(model)
    problems = [too_long(prompt_ids, prompt["max_new_tokens"], longest) for prompt_ids in ids]
    # of all shards: what is computed once must not depend on their number
    prefix = shared_prefix(ids)
    rows = [
        row
        for row in zip(asked["question_id"].tolist(), ids, problems, strict=True)
        if row[0] % count == index
    ]
    fitting = [(key, prompt_ids) for key, prompt_ids, problem in rows if not problem]
    batches = generate(
        model,
        tokenizer,
        [prompt_ids for _, prompt_ids in fitting],
        stop=stop_strings(prompt),
        max_new_tokens=prompt["max_new_tokens"],
        batch_size=batch_size,
        decoding=Decoding(prompt["temperature"], prompt.get("top_p", 1.0), prompt.get("seed", 0)),
        keys=[key for key, _ in fitting],
        prefix=prefix,
    )
    tokens = 0
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch in progress(batches, "questions", total=len(fitting), size=len):
            tokens += sum(len(answer.answer_ids) for answer in batch)
            file.write(
                {
                    "question_id": [fitting[answer.index][0] for answer in batch],
                    "prompt_ids": [answer.prompt_ids for answer in batch],
                    "answer_ids": [answer.answer_ids for answer in batch],
                    "answer": [answer.text for answer in batch],
                    "token_starts": [answer.starts for answer in batch],
                    "token_ends": [answer.ends for answer in batch],
                    "token_log_probabilities": [answer.log_probabilities for answer in batch],
                    "problem": [""] * len(batch),
                }
            )
        for key, prompt_ids, problem in rows:
            if problem:
                log.info("question %d cannot be asked: %s", key, problem)
                nothing: dict = {field.name: [[]] for field in SCHEMA}
                file.write(
                    nothing
                    | {"question_id": [key], "prompt_ids": [prompt_ids]}
                    | {"answer": [""], "problem": [problem]}
                )
    log.info("%d tokens generated", tokens)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.output.generations,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.params.prompt,
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
