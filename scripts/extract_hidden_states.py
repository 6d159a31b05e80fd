"""Hidden states at the named tokens of one shard of the answers."""

from llm_figures.hidden_states import hidden_states
from llm_figures.hidden_states_file import hidden_states_schema
from llm_figures.job import job, progress
from llm_figures.labels import check_labels
from llm_figures.models import decoder_layers, load_model, runtime_facts
from llm_figures.tensors import read_frame, tensor_file
from llm_figures.tokens import named_positions


def main(
    card: str,
    answers: str,
    output: str,
    shard: tuple[int, int],
    site: str,
    batch_size: int,
    runtime: dict,
) -> None:
    index, count = shard
    rows = read_frame(answers)
    # Before the model is loaded: where there is nothing to probe, nothing is computed.
    check_labels(rows, "forward/answers.md")
    rows = rows[rows["valid"] & (rows["question_id"] % count == index)]
    positions = [
        named_positions(
            len(row.prompt_ids),
            list(row.token_starts),
            list(row.token_ends),
            (row.span_start, row.span_end),
        )
        for row in rows.itertuples()
    ]
    model, _ = load_model(card, **runtime)
    batches = hidden_states(
        model,
        rows["question_id"].tolist(),
        [list(ids) for ids in rows["prompt_ids"]],
        [list(ids) for ids in rows["answer_ids"]],
        positions,
        site=site,
        batch_size=batch_size,
    )
    schema = hidden_states_schema(len(decoder_layers(model)), model.config.hidden_size)
    total = sum(map(len, positions))
    with tensor_file(output, schema, runtime_facts(model)) as file:
        for batch in progress(batches, "named tokens", total, lambda rows: len(rows["token"])):
            file.write(batch)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.card,
            snakemake.input.answers,
            snakemake.output.states,
            (int(snakemake.wildcards.shard), int(snakemake.wildcards.shards)),
            snakemake.wildcards.site,
            snakemake.config["batch_size"],
            {**snakemake.params.runtime, "threads": snakemake.threads},
        )
