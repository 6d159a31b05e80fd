"""Draw one attention figure."""

from llm_figures.attention.figure import attention_caption, draw_attention
from llm_figures.core.job import job
from llm_figures.plotting.drawing import render

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
