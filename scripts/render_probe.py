"""Draw the probe figure."""

from llm_figures.core.job import job
from llm_figures.plotting.drawing import render
from llm_figures.probe.figure import draw_probe, probe_caption

if "snakemake" in globals():
    with job(snakemake):
        render(
            draw_probe,
            probe_caption,
            scores=snakemake.input.scores,
            pictures=snakemake.output.pictures,
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
