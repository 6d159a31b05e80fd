"""Extract the outputs of every projection at one named token of one shard of the answers."""

from llm_figures.core.job import job, progress
from llm_figures.core.parquet_tensors import tensor_file
from llm_figures.models.loading import load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.modules.schema import build_schema
from llm_figures.modules.states import extract_module_states, list_widths
from llm_figures.probe.shard_answers import read_shard_answers


def main(
    model_info: str,
    answers: str,
    output: str,
    shard: tuple[int, int],
    token: str,
    states_dtype: str,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    probed = read_shard_answers(answers, shard, token)
    model, _ = load_model(model_info, runtime, threads, needs_head=False)
    batches = extract_module_states(
        model,
        probed.question_ids,
        probed.prompts,
        probed.answers,
        probed.positions,
        batch_size=batch_size,
        prefix=probed.prefix,
        states_dtype=states_dtype,
    )
    schema = build_schema(list_widths(model), states_dtype)
    with tensor_file(output, schema, runtime_facts(model)) as file:
        for batch in progress(
            batches, "answers", len(probed.positions), lambda rows: len(rows["token"])
        ):
            file.write(batch)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.output.states,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.params.token,
            snakemake.params.states_dtype,
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
