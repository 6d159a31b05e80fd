"""The tidy cells of one attention figure."""

from llm_figures.attention.maps import mean_distance
from llm_figures.attention.qk_store import intervened_states, stored_states
from llm_figures.attention.scores import attention_cells, shape_of_states, shown_head, shown_layer
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.layer_checks import check_shape


def main(clean: str, intervened: str | None, cells: str, figure: str, options: dict) -> None:
    before = stored_states(clean)
    check_shape({figure: options}, shape_of_states(before))
    layer = shown_layer(options, before)
    head = shown_head(options, before, layer)
    shown = [states for states in before if states.layer == layer]
    picked = " (the strongest sink)" if options["layer"] == "auto" else ""
    log.info(
        "layer %d%s, %s; clean: F %s, D %s",
        layer,
        picked,
        "mean over heads" if head is None else f"head {head}",
        ", ".join(f"{states.strength.mean():.3f}" for states in shown),
        ", ".join(f"{mean_distance(states.loaded()):.3f}" for states in shown),
    )
    after = intervened_states(intervened) if intervened else None
    write_frame(attention_cells(figure, options, before, after), cells)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.clean,
            snakemake.input.get("intervened"),
            snakemake.output.cells,
            snakemake.wildcards.figure,
            snakemake.params.options,
        )
