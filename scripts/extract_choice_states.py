"""Store queries and keys of the passes that the choices need, in the displayed layers."""

from collections.abc import Mapping

from llm_figures.attention.capture import run_interventions, tokenize_texts
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_states
from llm_figures.attention.scores import find_shape
from llm_figures.claims.combinations import plan_passes
from llm_figures.claims.options import ChoicesScoring
from llm_figures.core.job import job, log, progress
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_tensors
from llm_figures.models.layer_checks import check_choices
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime


def main(
    model_info: str,
    clean: str,
    output: str,
    inputs: list[str],
    choices: ChoicesScoring,
    figures: Mapping[str, AttentionScoring],
    runtime: Runtime,
    threads: int,
) -> None:
    states = open_states(clean)
    check_choices(choices.plain(), find_shape(states))
    layers, passes = plan_passes(choices, figures, states)
    model, tokenizer = load_model(model_info, runtime, threads, needs_head=False)
    texts = tokenize_texts(tokenizer, inputs, context_length=context_length(model))
    log.info("%d passes, layers %s", len(passes), ", ".join(map(str, layers)))
    rows = run_interventions(model, tokenizer, texts, layers, progress(passes, "passes"))
    write_tensors(output, rows, runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.states,
            snakemake.output.states,
            snakemake.params.inputs,
            read_options(ChoicesScoring, snakemake.params.choices, "config: choices"),
            read_options(dict[str, AttentionScoring], snakemake.params.figures, "config: figures"),
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
