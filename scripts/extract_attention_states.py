"""Cache the queries and keys of every layer and text, in clean passes, with their rotation.

Those of the same model with random weights follow, for the claims.
"""

from contextlib import ExitStack

from llm_figures.attention.capture import build_state_rows, capture_attention, tokenize_texts
from llm_figures.attention.proof import prove_attention
from llm_figures.attention.random_weights import extract_random_weights
from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import tensor_file, write_tensors
from llm_figures.models.loading import context_length, load_model, runtime_facts
from llm_figures.models.options import Runtime


def main(
    model_info: str,
    output: str,
    random_weights: str,
    inputs: list[str],
    runtime: Runtime,
    threads: int,
) -> None:
    model, tokenizer = load_model(model_info, runtime, threads, needs_head=False)
    texts = tokenize_texts(tokenizer, inputs, context_length=context_length(model))
    proof = prove_attention(model)
    log.info(
        "maps of %d layers equal the model's own to %.1e on %d tokens",
        len(proof.attention_layers),
        proof.deviation,
        proof.tokens,
    )
    longest = max(len(ids) for ids in texts)
    facts = runtime_facts(model) | {"proof": proof.to_facts()}
    with ExitStack() as stack:
        files: list = []  # opened at the first layer
        for index, ids in enumerate(progress(texts, "inputs"), start=1):

            def write(layer, captured, index=index, ids=ids):
                schema, rows = build_state_rows(
                    tokenizer, index, ids, {layer: captured}, longest, sizes=proof.sizes
                )
                if not files:
                    files.append(stack.enter_context(tensor_file(output, schema, facts)))
                files[0].write(rows)

            capture_attention(model, ids, proof.attention_layers, rotation=True, on_layer=write)
    # the last use of the model, whose own weights are lost
    write_tensors(random_weights, extract_random_weights(model, tokenizer, texts, proof), facts)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.output.states,
            snakemake.output.random_weights,
            snakemake.params.inputs,
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
