"""Extract hidden states at the named tokens of one shard of the answers."""

from llm_figures.core.job import job, progress
from llm_figures.core.parquet_tensors import tensor_file
from llm_figures.models.loading import decoder_layers, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.probe.head_outputs import find_head_shapes
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.schema import make_hidden_states_schema
from llm_figures.probe.shard_answers import read_shard_answers


def main(
    model_info: str,
    answers: str,
    output: str,
    shard: tuple[int, int],
    site: str,
    states_dtype: str,
    batch_size: int,
    runtime: Runtime,
    threads: int,
    needs_labels: bool = True,
) -> None:
    # Before the model is loaded: too few answers are noticed without it.
    shard_answers = read_shard_answers(answers, shard, needs_labels=needs_labels)
    model, _ = load_model(model_info, runtime, threads, needs_head=False)
    batches = extract_hidden_states(
        model,
        shard_answers.question_ids,
        shard_answers.prompts,
        shard_answers.answers,
        shard_answers.positions,
        site=site,
        batch_size=batch_size,
        prefix=shard_answers.prefix,
        states_dtype=states_dtype,
    )
    schema = make_hidden_states_schema(
        len(decoder_layers(model)),
        model.config.get_text_config().hidden_size,
        find_head_shapes(model, site),
        states_dtype,
    )
    total = sum(map(len, shard_answers.positions))
    with tensor_file(output, schema, runtime_facts(model)) as file:
        for batch in progress(batches, "named tokens", total, lambda rows: len(rows["token"])):
            file.write(batch)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.output.states,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.wildcards.site,
            snakemake.params.states_dtype,
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
            # a further set with too few answers of a label is left out of the figure, by name
            needs_labels=not snakemake.wildcards.set,
        )
