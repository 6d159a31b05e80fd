"""Greedy answers to one shard of the questions."""

import pyarrow as pa

from llm_figures.generation import generate, tokenize_prompts
from llm_figures.job import job, log, progress
from llm_figures.models import load_model
from llm_figures.tensors import read_frame, tensor_file

SCHEMA = pa.schema(
    [
        ("question_id", pa.int64()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("answer_ids", pa.list_(pa.int64())),
        ("answer", pa.string()),
        ("token_starts", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
    ]
)


def main(
    card: str,
    questions: str,
    output: str,
    shard: tuple[int, int],
    prompt: dict,
    batch_size: int,
    runtime: dict,
) -> None:
    index, count = shard
    asked = read_frame(questions)
    asked = asked[asked["question_id"] % count == index].reset_index(drop=True)
    model, tokenizer = load_model(card, **runtime)
    prompts = [
        prompt["preamble"] + prompt["template"].replace("{question}", question)
        for question in asked["question"]
    ]
    longest = getattr(model.config, "max_position_embeddings", None)
    prompt_ids = tokenize_prompts(tokenizer, prompts, longest, prompt["max_new_tokens"])
    batches = generate(
        model,
        tokenizer,
        prompt_ids,
        stop=prompt["stop"],
        max_new_tokens=prompt["max_new_tokens"],
        batch_size=batch_size,
    )
    tokens = 0
    with tensor_file(output, SCHEMA) as file:
        for batch in progress(batches, "questions", total=len(asked), size=len):
            tokens += sum(len(answer.answer_ids) for answer in batch)
            file.write(
                {
                    "question_id": [asked["question_id"][answer.index] for answer in batch],
                    "prompt_ids": [answer.prompt_ids for answer in batch],
                    "answer_ids": [answer.answer_ids for answer in batch],
                    "answer": [answer.text for answer in batch],
                    "token_starts": [answer.starts for answer in batch],
                    "token_ends": [answer.ends for answer in batch],
                }
            )
    log.info("%d tokens generated", tokens)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.card,
            snakemake.input.questions,
            snakemake.output.generations,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.params.prompt,
            snakemake.params.batch_size,
            {**snakemake.params.runtime, "threads": snakemake.threads},
        )
