"""The model asked to quote the exact answer from each of its own answers, for one shard."""

import pyarrow as pa

from llm_figures.core.job import job, progress
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.generation import generate
from llm_figures.inference.prompts import fill, plain_ids, too_long
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime

SCHEMA = pa.schema([("question_id", pa.int64()), ("quote", pa.string())])


def main(
    model_info: str,
    questions: str,
    generations: str,
    output: str,
    exact_answer: dict,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    said = read_frame(generations, ["question_id", "answer"])
    said = said[said["answer"].str.strip() != ""].sort_values("question_id")
    said = said.merge(read_frame(questions, ["question_id", "question"]), on="question_id")
    model, tokenizer = load_model(model_info, runtime, threads)
    texts = [
        fill(exact_answer["prompt"], question=row.question, answer=row.answer)
        for row in said.itertuples()
    ]
    longest, most = context_length(model), exact_answer["max_new_tokens"]
    rows = [
        (key, ids)
        for key, ids in zip(said["question_id"].tolist(), plain_ids(tokenizer, texts), strict=True)
        if not too_long(ids, most, longest)
    ]
    batches = generate(
        model,
        tokenizer,
        [ids for _, ids in rows],
        stop=["\n"],
        max_new_tokens=most,
        batch_size=batch_size,
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch in progress(batches, "answers", total=len(rows), size=len):
            file.write(
                {
                    "question_id": [rows[quote.index][0] for quote in batch],
                    "quote": [quote.text.strip() for quote in batch],
                }
            )


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.input.generations,
            snakemake.output.quotes,
            snakemake.params.exact_answer,
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
