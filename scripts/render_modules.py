"""Draw the module map."""

from llm_figures.drawing import render
from llm_figures.job import job
from llm_figures.module_figure import draw_modules, module_caption

if "snakemake" in globals():
    with job(snakemake):
        render(
            draw_modules,
            module_caption,
            scores=snakemake.input.scores,
            pictures=snakemake.output.pictures,
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
