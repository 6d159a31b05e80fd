"""Let the model quote the exact answer from each of its own answers, for one shard."""

import pyarrow as pa

from llm_figures.core.job import job, progress
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.generation import generate
from llm_figures.inference.prompts import fill, tokenize_texts, too_long
from llm_figures.inference.token_spans import REPLACEMENT
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.questions.options import ExactAnswer

SCHEMA = pa.schema([("question_id", pa.int64()), ("quote", pa.string())])


def main(
    model_info: str,
    questions: str,
    generations: str,
    output: str,
    options: ExactAnswer,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    answers = read_frame(generations, ["question_id", "answer", "problem"])
    given = (answers["answer"].str.strip() != "") & (answers["problem"] == "")
    answers = answers[given].sort_values("question_id")
    answers = answers.merge(read_frame(questions, ["question_id", "question"]), on="question_id")
    model, tokenizer = load_model(model_info, runtime, threads)
    texts = [
        fill(options.prompt, question=row.question, answer=row.answer)
        for row in answers.itertuples()
    ]
    prompts = tokenize_texts(tokenizer, texts)
    context = context_length(model)
    rows = [
        (key, ids)
        for key, ids in zip(answers["question_id"].tolist(), prompts, strict=True)
        if not too_long(ids, options.max_new_tokens, context)
    ]
    batches = generate(
        model,
        tokenizer,
        [ids for _, ids in rows],
        stop=["\n"],
        max_new_tokens=options.max_new_tokens,
        batch_size=batch_size,
        keys=[key for key, _ in rows],
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for batch in progress(batches, "answers", total=len(rows), size=len):
            file.write(
                {
                    "question_id": [rows[quote.index][0] for quote in batch],
                    # A quote that was cut may end inside a character.
                    "quote": [quote.text.strip().rstrip(REPLACEMENT) for quote in batch],
                }
            )


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.input.generations,
            snakemake.output.quotes,
            read_options(ExactAnswer, snakemake.params.exact_answer, "config: exact_answer"),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
