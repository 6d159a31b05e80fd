"""Extract hidden states at one token of the sampled answers of one shard."""

from llm_figures.core.job import job, log, progress
from llm_figures.core.parquet_tensors import read_frame, tensor_file
from llm_figures.inference.prefix_cache import shared_prefix
from llm_figures.models.loading import decoder_layers, load_model, runtime_facts
from llm_figures.models.options import Runtime
from llm_figures.probe.head_outputs import find_head_shapes
from llm_figures.probe.hidden_states import extract_hidden_states
from llm_figures.probe.sample_states import (
    find_sample_states,
    make_sample_states_schema,
    select_samples,
    select_shard,
)


def main(
    model_info: str,
    answers: str,
    samples: str,
    output: str,
    shard: tuple[int, int],
    token: str,
    site: str,
    states_dtype: str,
    batch_size: int,
    runtime: Runtime,
    threads: int,
) -> None:
    asked = read_frame(answers, ["question_id", "prompt_ids", "valid"])
    states = find_sample_states(select_samples(read_frame(samples), asked), token)
    asked = asked[asked["valid"]]
    prompts = {row.question_id: list(row.prompt_ids) for row in asked.itertuples()}
    own = select_shard(states, shard)
    own_prompts = [prompts[states.question_ids[at]] for at in own]
    own_answers = [states.answers[at] for at in own]
    log.info("%d different beginnings of answers", len(own))
    model, _ = load_model(model_info, runtime, threads, needs_head=False)
    batches = extract_hidden_states(
        model,
        own,
        own_prompts,
        own_answers,
        [{token: len(prompt) + len(answer) - 1}
         for prompt, answer in zip(own_prompts, own_answers, strict=True)],
        site=site,
        batch_size=batch_size,
        # of all shards: what is computed once must not depend on their number
        prefix=shared_prefix([*prompts.values()]),
        states_dtype=states_dtype,
    )  # fmt: skip
    schema = make_sample_states_schema(
        len(decoder_layers(model)),
        model.config.get_text_config().hidden_size,
        find_head_shapes(model, site),
        states_dtype,
    )
    with tensor_file(output, schema, runtime_facts(model)) as file:
        for batch in progress(batches, "answers", len(own), lambda rows: len(rows["question_id"])):
            at = batch["question_id"]
            batch["question_id"] = [states.question_ids[place] for place in at]
            file.write(batch | {"sample": [states.samples[place] for place in at]})


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.model_info,
            snakemake.input.answers,
            snakemake.input.samples,
            snakemake.output.states,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.params.token,
            snakemake.wildcards.site,
            snakemake.params.states_dtype,
            snakemake.config["batch_size"],
            Runtime.model_validate(snakemake.params.runtime),
            snakemake.threads,
        )
