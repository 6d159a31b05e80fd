"""Cache the shown layer's queries and keys of passes with the change in every layer."""

from llm_figures.attention.capture import intervened_rows, tokenize_texts
from llm_figures.attention.qk_store import stored_states
from llm_figures.attention.scores import check_stage, panels, shown_layer
from llm_figures.core.job import job, progress
from llm_figures.core.parquet_tensors import write_tensors
from llm_figures.models.layer_checks import check_shape
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.model_info import read_model_info
from llm_figures.models.options import Runtime


def main(
    model_info: str,
    clean: str,
    output: str,
    figure: str,
    inputs: list[str],
    options: dict,
    runtime: Runtime,
    threads: int,
) -> None:
    check_shape({figure: options}, read_model_info(model_info))
    before = stored_states(clean)
    check_stage(figure, options, before)
    layer = shown_layer(options, before)
    model, tokenizer = load_model(model_info, runtime, threads)
    texts = tokenize_texts(tokenizer, inputs, room=context_length(model))
    owed = [(index, intervention) for _, _, index, intervention in panels(options, len(texts))]
    rows = intervened_rows(model, tokenizer, texts, [layer], progress(owed, "passes"))
    write_tensors(output, rows, runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.states,
            snakemake.output.states,
            snakemake.wildcards.figure,
            snakemake.params.inputs,
            snakemake.params.options,
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
