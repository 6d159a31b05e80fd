"""Measure the inputs and outputs of every projection in one forward pass over each text."""

from llm_figures.attention.capture import tokenize_texts
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.modules.activity import measure_activity


def main(
    model_info: str, activity: str, texts: list[str], key: str, runtime: Runtime, threads: int
) -> None:
    model, tokenizer = load_model(model_info, runtime, threads, needs_head=False)
    ids = tokenize_texts(tokenizer, texts, key, context_length(model))
    write_frame(measure_activity(model, ids), activity, runtime_facts(model))
    log.info("%d texts, %d tokens, one forward pass each", len(ids), sum(map(len, ids)))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.activity,
            snakemake.params.texts,
            snakemake.params.key,
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
