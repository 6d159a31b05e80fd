"""Cache every layer's queries and keys of every input, unaltered, and how they were rotated."""

from llm_figures.capture import capture_attention, state_rows, tokenize_texts
from llm_figures.job import job, progress
from llm_figures.models import decoder_layers, load_model, runtime_facts
from llm_figures.tensors import write_tensors


def main(card: str, output: str, inputs: list[str], runtime: dict) -> None:
    model, tokenizer = load_model(card, **runtime)
    texts = tokenize_texts(tokenizer, inputs)
    longest = max(len(ids) for ids in texts)
    layers = range(len(decoder_layers(model)))

    def passes():
        for index, ids in enumerate(progress(texts, "inputs"), start=1):
            captured = capture_attention(model, ids, layers, rotation=True)
            yield state_rows(tokenizer, index, ids, captured, longest)

    write_tensors(output, passes(), runtime_facts(model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.card,
            snakemake.output.states,
            snakemake.params.inputs,
            {**snakemake.params.runtime, "threads": snakemake.threads},
        )
