"""Draw the probe's scores by layer, with intervals and controls."""

from llm_figures.core.job import job
from llm_figures.plotting.drawing import render
from llm_figures.probe.figure import curves_caption, draw_curves

if "snakemake" in globals():
    with job(snakemake):
        render(
            draw_curves,
            curves_caption,
            scores=snakemake.input.scores,
            pictures=snakemake.output.pictures,
            caption=snakemake.output.caption,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
