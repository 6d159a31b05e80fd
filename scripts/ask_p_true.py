"""Ask the model whether its own answers are true, for one shard of them."""

import pyarrow as pa

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import fill, tokenize_texts, too_long
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.probe.p_true import compute_p_true, split_choices

SCHEMA = pa.schema([("question_id", pa.int64()), ("p_true", pa.float32())])


def main(
    model_info: str,
    answers: str,
    output: str,
    shard: tuple[int, int],
    prompt: str,
    choices: tuple[str, str],
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    index, count = shard
    rows = read_frame(answers, ["question_id", "question", "answer", "exact_answer", "valid"])
    rows = rows[rows["valid"]]
    model, tokenizer = load_model(model_info, runtime, threads)
    texts = [
        fill(
            prompt,
            question=row.question,
            answer=row.answer.strip(),
            exact_answer=row.exact_answer,
        )
        for row in rows.itertuples()
    ]
    context = context_length(model)
    common, *choice_tokens = split_choices(tokenizer, *choices)
    ids_of_text = [ids + common for ids in tokenize_texts(tokenizer, texts)]
    prompts = [
        (question, ids)
        for question, ids in zip(rows["question_id"].tolist(), ids_of_text, strict=True)
        if not too_long(ids, 1, context)
    ]
    if len(prompts) < len(rows):
        log.info("%d answers are too long to be asked about", len(rows) - len(prompts))
    # The prefix must not depend on the number of shards.
    prefix = shared_prefix([ids for _, ids in prompts]) if prompts else []
    prompts = [(question, ids) for question, ids in prompts if question % count == index]
    batches = compute_p_true(
        model,
        [ids for _, ids in prompts],
        *choice_tokens,
        batch_size=batch_size,
        keys=[question for question, _ in prompts],
        prefix=prefix,
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch, shares in progress(
            batches, "answers", len(prompts), lambda result: len(result[0])
        ):
            file.write({"question_id": [prompts[row][0] for row in batch], "p_true": shares})


if "snakemake" in globals():
    with job(snakemake):
        ask = snakemake.params.ask
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.output.p_true,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            ask["prompt"],
            (ask["if_true"], ask["if_false"]),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
