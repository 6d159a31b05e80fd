"""Let the model quote the exact answer from each of its own answers, for one shard."""

import pyarrow as pa

from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.prompts import fill
from llm_figures.inference.requests import send_requests
from llm_figures.models.loading import load_model, runtime_facts
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
    requests = send_requests(
        model,
        tokenizer,
        answers["question_id"].tolist(),
        texts,
        max_new_tokens=options.max_new_tokens,
        batch_size=batch_size,
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for keys, quotes in requests:
            file.write({"question_id": keys, "quote": quotes})


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
