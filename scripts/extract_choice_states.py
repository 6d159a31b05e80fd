"""Cache the displayed layers' queries and keys of every pass that the choices need."""

from llm_figures.attention.capture import run_interventions, tokenize_texts
from llm_figures.attention.qk_store import open_states
from llm_figures.attention.scores import find_shape
from llm_figures.claims.choices import passes
from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import write_tensors
from llm_figures.models.layer_checks import check_choices
from llm_figures.models.loading import context_length, load_model, runtime_facts


def main(
    model_info: str,
    clean: str,
    output: str,
    inputs: list[str],
    choices: dict,
    figures: dict,
    runtime: dict,
) -> None:
    states = open_states(clean)
    check_choices(choices, find_shape(states))
    layers, needed = passes(choices, figures, states)
    model, tokenizer = load_model(model_info, **runtime)
    texts = tokenize_texts(tokenizer, inputs, context_length=context_length(model))
    log.info("%d passes, layers %s", len(needed), ", ".join(map(str, layers)))
    rows = run_interventions(model, tokenizer, texts, layers, progress(needed, "passes"))
    write_tensors(output, rows, runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.states,
            snakemake.output.states,
            snakemake.params.inputs,
            snakemake.params.choices,
            snakemake.params.figures,
            {**snakemake.params.runtime, "threads": snakemake.threads},
        )
