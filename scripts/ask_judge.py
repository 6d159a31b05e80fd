"""Ask a language model whether the exact answers of one shard are right."""

import pyarrow as pa

from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.prompts import fill, tokenize_texts
from llm_figures.inference.requests import send_requests
from llm_figures.models.loading import load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.questions.answers import locate_exact_answers
from llm_figures.questions.options import ExactAnswer, Judge

SCHEMA = pa.schema([("question_id", pa.int64()), ("reply", pa.string())])
# How gold answers are listed in the request.
SEPARATOR = "; "


def main(
    model_info: str,
    questions: str,
    generations: str,
    quotes: str | None,
    output: str,
    exact_answer: ExactAnswer,
    judging: Judge,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    answers = read_frame(generations)
    asked = read_frame(questions)
    asked = asked[asked["question_id"].isin(answers["question_id"])]
    answers = locate_exact_answers(
        asked, answers, exact_answer, read_frame(quotes) if quotes else None
    )
    # a question with a label of its own needs no judge
    answers = answers[answers["exact_answer"].ne("") & answers["label"].isna()]
    model, tokenizer = load_model(model_info, runtime, threads)
    texts = [
        fill(
            judging.prompt,
            question=row.question,
            answer=row.answer.strip(),
            exact_answer=row.exact_answer,
            gold=SEPARATOR.join(row.aliases),
        )
        for row in answers.itertuples()
    ]
    # so many tokens as the longer of both words may take
    words = [f" {word.strip()}" for word in (judging.if_right, judging.if_wrong)]
    length = max(len(ids) for ids in tokenize_texts(tokenizer, words)) + 1
    requests = send_requests(
        model,
        tokenizer,
        answers["question_id"].tolist(),
        texts,
        max_new_tokens=length,
        batch_size=batch_size,
    )
    with tensor_file(output, SCHEMA, runtime_facts(model)) as file:
        for keys, replies in requests:
            file.write({"question_id": keys, "reply": replies})


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.questions,
            snakemake.input.generations,
            snakemake.input.quotes[0] if snakemake.input.quotes else None,
            snakemake.output.replies,
            read_options(ExactAnswer, snakemake.params.exact_answer, "config: exact_answer"),
            read_options(Judge, snakemake.params.judge, "config: judge"),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
