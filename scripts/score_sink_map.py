"""Make the table of sink_map from the cached states."""

from llm_figures.attention.options import SinkScoring
from llm_figures.attention.qk_store import open_states
from llm_figures.attention.sinks import score_sinks
from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame


def main(states: str, scores: str, options: SinkScoring) -> None:
    write_frame(score_sinks(open_states(states), options), scores)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.states,
            snakemake.output.scores,
            read_options(SinkScoring, snakemake.params.options, "config: figures.sink_map"),
        )
