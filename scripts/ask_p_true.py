"""Ask the model whether its own answers are true, for one shard of them."""

import pandas as pd
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.inference.prompts import fill, tokenize_texts, too_long
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.probe.p_true import compute_p_true, split_choices
from llm_figures.probe.p_true_options import PTrue, PTrueVariant


def main(
    model_info: str,
    answers: str,
    output: str,
    shard: tuple[int, int],
    ask: PTrue,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    index, count = shard
    rows = read_frame(answers, ["question_id", "question", "answer", "exact_answer", "valid"])
    rows = rows[rows["valid"]]
    model, tokenizer = load_model(model_info, runtime, threads)
    templates = ask.templates()
    # Of all templates before any pass: a fault in the last one shows at once.
    choices = {
        column: split_choices(tokenizer, one.if_true, one.if_false, key)
        for column, (key, one) in templates.items()
    }
    found: dict[str, dict[int, float]] = {}  # {column: {question: P(true)}}
    for column, (common, *choice_tokens) in choices.items():
        ids_of_question = _tokenize(tokenizer, rows, templates[column][1], common)
        context = context_length(model)
        fitting = {
            question: ids
            for question, ids in ids_of_question.items()
            if not too_long(ids, 1, context)
        }
        if len(fitting) < len(rows):
            log.info("%d answers are too long to be asked about", len(rows) - len(fitting))
        # The prefix must not depend on the number of shards.
        prefix = shared_prefix(list(fitting.values())) if fitting else []
        questions = [question for question in fitting if question % count == index]
        batches = compute_p_true(
            model,
            [fitting[question] for question in questions],
            *choice_tokens,
            batch_size=batch_size,
            keys=questions,
            prefix=prefix,
        )
        batches = progress(batches, "answers", len(questions), lambda result: len(result[0]))
        found[column] = {
            questions[row]: share
            for batch, shares in batches
            for row, share in zip(batch, shares, strict=True)
        }
    schema = pa.schema([("question_id", pa.int64()), *((column, pa.float32()) for column in found)])
    questions = sorted(set().union(*found.values()))
    with tensor_file(output, schema, runtime_facts(model)) as file:
        if questions:
            columns = {
                column: [of.get(question) for question in questions] for column, of in found.items()
            }
            file.write({"question_id": questions, **columns})


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    answers: pd.DataFrame,
    template: PTrueVariant,
    common: list[int],
) -> dict[int, list[int]]:
    """{question: token ids of the prompt about its answer}.

    common: the tokens with which both choices begin.
    """
    texts = [
        fill(
            template.prompt,
            question=row.question,
            answer=row.answer.strip(),
            exact_answer=row.exact_answer,
        )
        for row in answers.itertuples()
    ]
    ids = [ids + common for ids in tokenize_texts(tokenizer, texts)]
    return dict(zip(answers["question_id"].tolist(), ids, strict=True))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.output.p_true,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            PTrue.model_validate(snakemake.params.ask),
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
