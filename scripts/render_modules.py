"""Draw the module map."""

from llm_figures.core.job import job
from llm_figures.modules.figure import draw_modules, module_caption
from llm_figures.plotting.drawing import render

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
