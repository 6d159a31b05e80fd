"""The model asked whether each of its own answers is true, for one shard of them."""

import pyarrow as pa

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import fill, tokenize_texts, too_long
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.probe.p_true import choice_tokens, p_true

SCHEMA = pa.schema([("question_id", pa.int64()), ("p_true", pa.float32())])


def main(
    model_info: str,
    answers: str,
    output: str,
    shard: tuple[int, int],
    ask: dict,
    batch_size: int,
    runtime: dict,
) -> None:
    index, count = shard
    rows = read_frame(answers, ["question_id", "question", "answer", "exact_answer", "valid"])
    rows = rows[rows["valid"]]
    model, tokenizer = load_model(model_info, **runtime)
    texts = [
        fill(
            ask["prompt"],
            question=row.question,
            answer=row.answer.strip(),
            exact_answer=row.exact_answer,
        )
        for row in rows.itertuples()
    ]
    longest = context_length(model)
    begun, *tokens = choice_tokens(tokenizer, ask["if_true"], ask["if_false"])
    asked = [
        (key, ids + begun)
        for key, ids in zip(
            rows["question_id"].tolist(), tokenize_texts(tokenizer, texts), strict=True
        )
        if not too_long(ids + begun, 1, longest)
    ]
    if len(asked) < len(rows):
        log.info("%d answers are too long to be asked about", len(rows) - len(asked))
    # of all shards: what is computed once must not depend on their number
    prefix = shared_prefix([ids for _, ids in asked]) if asked else []
    asked = [(key, ids) for key, ids in asked if key % count == index]
    batches = p_true(
        model, [ids for _, ids in asked], *tokens, batch_size=batch_size, prefix=prefix
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch, shares in progress(batches, "answers", len(asked), lambda found: len(found[0])):
            file.write({"question_id": [asked[at][0] for at in batch], "p_true": shares})


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.output.p_true,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.params.ask,
            snakemake.config["batch_size"],
            {**snakemake.params.runtime, "threads": snakemake.threads},
        )
