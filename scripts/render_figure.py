"""Draw one figure and write its caption, with the functions of its library module."""

from importlib import import_module

import matplotlib as mpl

from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.plotting.drawing import render
from llm_figures.plotting.style import Style

if "snakemake" in globals():
    with job(snakemake):
        mpl.use("Agg")  # a job draws into files alone, whatever the process that started it has
        render(
            import_module(snakemake.params.module),
            scores=snakemake.input.scores,
            files=[snakemake.output[kind] for kind in ("pdf", "svg", "png")],
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            numbers=snakemake.output.numbers,
            source=snakemake.params.source,
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=read_options(Style, snakemake.params.style, "config: style"),
        )
