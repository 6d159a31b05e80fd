"""Draw one figure of several models on one scale."""

from collections.abc import Sequence
from functools import partial

from llm_figures.comparison.figure import comparison_caption, draw_comparison, unusable
from llm_figures.comparison.tables import usable_tables
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.options import read_options
from llm_figures.plotting.drawing import drawing_style, save
from llm_figures.plotting.style import Style


def main(
    figure: str,
    models: dict[str, str],
    missing: Sequence[str],
    pictures: Sequence[str],
    caption: str,
    *,
    folders: Sequence[str],
    options: dict,
    style: dict,
) -> None:
    """models: files of scores by name. missing: those that a folder lacks."""
    tables, left_out = usable_tables(
        models, missing, partial(unusable, figure, options=options), figure
    )
    with drawing_style(read_options(Style, style, "config: style")):
        save(draw_comparison(figure, tables, options), pictures)
        text = comparison_caption(figure, tables, options, folders, left_out)
    write_text(caption, text)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.wildcards.figure,
            dict(zip(snakemake.params.names, snakemake.input.tables, strict=True)),
            snakemake.params.missing,
            snakemake.output.pictures,
            snakemake.output.caption,
            folders=snakemake.params.folders,
            options=snakemake.params.options,
            style=snakemake.params.style,
        )
