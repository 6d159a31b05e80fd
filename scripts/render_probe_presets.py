"""Draw the presets of the probe side by side."""

from llm_figures.drawing import render
from llm_figures.job import job
from llm_figures.probe_figure import draw_presets, presets_caption

if "snakemake" in globals():
    with job(snakemake):
        render(
            draw_presets,
            presets_caption,
            scores=snakemake.input.scores,
            pictures=snakemake.output.pictures,
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
