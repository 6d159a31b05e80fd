"""Make the table that a figure is drawn from, with the function `score` of its library module."""

from importlib import import_module

from llm_figures.core.job import job
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame

if "snakemake" in globals():
    with job(snakemake):
        module = import_module(snakemake.params.module)
        options = read_options(module.OPTIONS, snakemake.params.options, "config")
        frames = {name: read_frame(path) for name, path in snakemake.input.items()}
        write_frame(module.score(**frames, options=options), snakemake.output.scores)
