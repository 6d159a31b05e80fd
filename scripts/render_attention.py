"""Draw one attention figure."""

from llm_figures.attention_figure import attention_caption, draw_attention
from llm_figures.drawing import render
from llm_figures.job import job

if "snakemake" in globals():
    with job(snakemake):
        render(
            draw_attention,
            attention_caption,
            scores=snakemake.input.cells,
            pictures=snakemake.output.pictures,
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
