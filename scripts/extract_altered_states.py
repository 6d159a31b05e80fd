"""Cache the shown layer's queries and keys of passes with the change in every layer."""

from llm_figures.attention.capture import altered_rows, tokenize_texts
from llm_figures.attention.qk_store import stored_states
from llm_figures.attention.scores import check_stage, panels, shown_layer
from llm_figures.core.job import job, progress
from llm_figures.core.parquet_tensors import write_tensors
from llm_figures.models.layer_checks import check_shape
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.model_info import read_card


def main(
    card: str,
    unaltered: str,
    output: str,
    figure: str,
    inputs: list[str],
    options: dict,
    runtime: dict,
) -> None:
    check_shape({figure: options}, read_card(card))
    before = stored_states(unaltered)
    check_stage(figure, options, before)
    layer = shown_layer(options, before)
    model, tokenizer = load_model(card, **runtime)
    texts = tokenize_texts(tokenizer, inputs, room=context_length(model))
    owed = [(index, alteration) for _, _, index, alteration in panels(options, len(texts))]
    rows = altered_rows(model, tokenizer, texts, [layer], progress(owed, "passes"))
    write_tensors(output, rows, runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.card,
            snakemake.input.states,
            snakemake.output.states,
            snakemake.wildcards.figure,
            snakemake.params.inputs,
            snakemake.params.options,
            {**snakemake.params.runtime, "threads": snakemake.threads},
        )
