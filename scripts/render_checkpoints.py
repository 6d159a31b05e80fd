"""Draw the curves of the figures' key numbers over checkpoints."""

import matplotlib as mpl

from llm_figures.comparison import checkpoints_figure
from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.plotting.drawing import render
from llm_figures.plotting.style import Style

if "snakemake" in globals():
    with job(snakemake):
        mpl.use("Agg")  # a job draws into files alone, whatever the process that started it has
        render(
            checkpoints_figure,
            scores=snakemake.input.scores,
            files=[snakemake.output[kind] for kind in ("pdf", "svg", "png")],
            caption=snakemake.output.caption,
            panels=snakemake.output.panels,
            numbers=snakemake.output.numbers,
            source="over_checkpoints.parquet",
            model=snakemake.params.model,
            options=snakemake.params.options,
            style=read_options(Style, snakemake.params.style, "config: style"),
        )
