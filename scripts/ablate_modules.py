"""Measure the effect of the mean ablation of every projection on the predictions."""

from llm_figures.attention.capture import tokenize_texts
from llm_figures.core.job import job, progress
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.modules.ablation import measure_ablation


def main(
    model_info: str, ablation: str, texts: list[str], key: str, runtime: Runtime, threads: int
) -> None:
    model, tokenizer = load_model(model_info, runtime, threads)
    ids = tokenize_texts(tokenizer, texts, key, context_length(model))
    effects = measure_ablation(model, ids, lambda texts: progress(texts, "texts"))
    write_frame(effects, ablation, runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.ablation,
            snakemake.params.texts,
            snakemake.params.key,
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
