"""Compute the tidy cells of one attention figure."""

from llm_figures.attention.maps import mean_distance
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_intervened_states, open_states
from llm_figures.attention.scores import (
    check_displayed,
    compute_cells,
    find_shape,
    resolve_auto,
)
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.layer_checks import check_shape


def main(
    clean: str, intervened: str | None, cells: str, figure: str, options: AttentionScoring
) -> None:
    before = open_states(clean)
    check_shape({figure: options.plain()}, find_shape(before))
    resolved = resolve_auto(options, before)
    check_displayed(f"figures.{figure}", resolved, before)
    displayed = [states for states in before if states.layer == resolved.layer]
    log.info(
        "layer %d%s, %s; clean: F %s, D %s",
        resolved.layer,
        " (the strongest sink)" if options.layer == "auto" else "",
        "mean over heads" if resolved.head == "mean" else f"head {resolved.head}",
        ", ".join(f"{states.strength.mean():.3f}" for states in displayed),
        ", ".join(f"{mean_distance(states.load()):.3f}" for states in displayed),
    )
    after = open_intervened_states(intervened)
    write_frame(compute_cells(figure, resolved, before, after), cells)


if "snakemake" in globals():
    with job(snakemake):
        figure = snakemake.wildcards.figure
        main(
            snakemake.input.clean,
            snakemake.input.get("intervened"),
            snakemake.output.cells,
            figure,
            read_options(AttentionScoring, snakemake.params.options, f"config: figures.{figure}"),
        )
