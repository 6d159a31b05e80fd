"""Choose among the sampled answers by the probe and by other strategies, and score the choices."""

from functools import partial

from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, read_frames, write_frame
from llm_figures.probe.answer_choice import apply_probe, compare_strategies, select_layers
from llm_figures.probe.cell_files import read_cells
from llm_figures.probe.protocol import Protocol
from llm_figures.probe.sample_states import find_sample_states, order_states, select_samples
from llm_figures.probe.schema import read_layer_columns
from llm_figures.probe.stored_states import StoredStates


def main(
    answers: str,
    samples: str,
    kinds: str,
    states: list[str],
    sample_states: list[str],
    output: str,
    token: str,
    protocol: Protocol,
    threads: int,
) -> None:
    rows, (cell,), (examples,) = read_cells(answers, states, [token], protocol)
    drawn = select_samples(read_frame(samples), rows)
    beginnings = find_sample_states(drawn, token)
    order = order_states(beginnings, read_frames(sample_states, ["question_id", "sample"]))
    columns = read_layer_columns(states[0])
    layers = [(at, partial(StoredStates, states, name)) for at, name in enumerate(columns)]
    chosen = select_layers(layers, examples, cell, protocol, jobs=threads)
    log.info("layers chosen on the training questions: %s", ", ".join(map(str, chosen)))
    choices = []
    for layer in sorted(set(chosen)):
        greedy = StoredStates(states, columns[layer])[examples]
        sampled = StoredStates(sample_states, columns[layer])[order]
        choices += [
            apply_probe(greedy, sampled, beginnings.question_ids, cell, split, layer, protocol)
            for split, own in enumerate(chosen)
            if own == layer
        ]
    table = compare_strategies(
        choices, rows, drawn, beginnings.row_of_sample, read_frame(kinds), protocol
    )
    shown = table[(table["metric"] == "accuracy") & (table["kind"] == "all")]
    for row in shown.itertuples():
        log.info("%s: %.1f%% right", row.strategy, 100 * row.mean)
    write_frame(table, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.answers,
            snakemake.input.samples,
            snakemake.input.kinds,
            snakemake.input.states,
            snakemake.input.sample_states,
            snakemake.output.scores,
            snakemake.params.token,
            Protocol.model_validate(snakemake.params.protocol),
            snakemake.threads,
        )
