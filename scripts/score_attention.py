"""The tidy cells of one attention figure."""

from llm_figures.attention import distance_to_uniform, layer_states, sink_strength
from llm_figures.attention_scores import attention_cells, shape_of_states, shown_head, shown_layer
from llm_figures.job import job, log
from llm_figures.shapes import check_shape
from llm_figures.tensors import read_table, write_frame


def main(unaltered: str, altered: str | None, cells: str, figure: str, options: dict) -> None:
    before = [states for _, states in layer_states(read_table(unaltered))]
    check_shape({figure: options}, shape_of_states(before))
    layer = shown_layer(options, before)
    head = shown_head(options, before, layer)
    shown = [states.weights() for states in before if states.layer == layer]
    picked = " (the strongest sink)" if options["layer"] == "auto" else ""
    log.info(
        "layer %d%s, %s; unaltered: F %s, D %s",
        layer,
        picked,
        "mean over heads" if head is None else f"head {head}",
        ", ".join(f"{sink_strength(weights.mean(axis=0)):.3f}" for weights in shown),
        ", ".join(f"{distance_to_uniform(weights.mean(axis=0)):.3f}" for weights in shown),
    )
    after = None
    if altered:
        rows = layer_states(read_table(altered))
        after = {(states.input, made): states for made, states in rows}
    write_frame(attention_cells(figure, options, before, after), cells)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.unaltered,
            snakemake.input.get("altered"),
            snakemake.output.cells,
            snakemake.wildcards.figure,
            snakemake.params.options,
        )
