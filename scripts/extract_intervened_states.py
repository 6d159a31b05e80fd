"""Cache the displayed layer's queries and keys, from passes with an intervention in every layer."""

from llm_figures.attention.capture import run_interventions, tokenize_texts
from llm_figures.attention.options import AttentionInterventions
from llm_figures.attention.qk_store import open_states
from llm_figures.attention.scores import check_displayed, check_stage, list_panels, resolve_auto
from llm_figures.core.job import job, progress
from llm_figures.core.options_reader import read_options
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
    options: AttentionInterventions,
    runtime: Runtime,
    threads: int,
) -> None:
    check_shape({figure: options.plain()}, read_model_info(model_info))
    states = open_states(clean)
    options = resolve_auto(options, states)
    check_displayed(f"figures.{figure}", options, states)
    check_stage(figure, options, states)
    model, tokenizer = load_model(model_info, runtime, threads, needs_head=False)
    texts = tokenize_texts(tokenizer, inputs, context_length=context_length(model))
    passes = [(text, intervention) for *_, text, intervention in list_panels(options, len(texts))]
    rows = run_interventions(model, tokenizer, texts, [options.layer], progress(passes, "passes"))
    write_tensors(output, rows, runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        figure = snakemake.wildcards.figure
        main(
            snakemake.input.model_info,
            snakemake.input.states,
            snakemake.output.states,
            figure,
            snakemake.params.inputs,
            read_options(
                AttentionInterventions, snakemake.params.options, f"config: figures.{figure}"
            ),
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
