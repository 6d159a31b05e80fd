"""Draw one figure and write its caption, with the functions of its library module."""

from importlib import import_module

from llm_figures.core.job import job
from llm_figures.plotting.drawing import render

if "snakemake" in globals():
    with job(snakemake):
        module = import_module(snakemake.params.module)
        render(
            module.draw,
            module.describe,
            scores=snakemake.input.scores,
            pictures=[snakemake.output[kind] for kind in ("pdf", "svg", "png")],
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
