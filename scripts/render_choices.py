"""Draw the choices."""

from llm_figures.claims.choices_figure import choices_caption, draw_choices
from llm_figures.core.job import job
from llm_figures.plotting.drawing import render

if "snakemake" in globals():
    with job(snakemake):
        render(
            draw_choices,
            choices_caption,
            scores=snakemake.input.choices,
            pictures=snakemake.output.pictures,
            caption=snakemake.output.caption,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
