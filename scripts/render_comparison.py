"""Draw one figure of several models on one colour scale."""

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib as mpl

from llm_figures.comparison.figure import describe_comparison, find_drawing
from llm_figures.comparison.tables import read_usable_tables
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job
from llm_figures.core.options import Options
from llm_figures.core.options_reader import read_options
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.finite import check_drawn
from llm_figures.plotting.layout import draw_to_fit
from llm_figures.plotting.saving import save
from llm_figures.plotting.style import Style


def main(
    figure: str,
    models: Mapping[str, str],
    missing: Sequence[str],
    files: Sequence[str],
    caption: str,
    *,
    folders: Sequence[str],
    options: Options,
    style: Style,
) -> None:
    """Draw the figure and write its caption.

    models: files of scores by model. missing: files that result folders lack. files: see
    `saving.save`. folders: models whose files were made elsewhere or earlier. options: of the
    figure's own class, see `find_drawing`.
    """
    drawing = find_drawing(figure)
    find_problem = partial(drawing.find_problem, options=options)
    tables, left_out = read_usable_tables(models, missing, find_problem, figure)
    text = drawing.describe(tables, options)
    with drawing_style(style):
        fig = draw_to_fit(figure, lambda: drawing.draw(tables, options))
        check_drawn(fig, text, figure)
        save(fig, files, caption=text)
    write_text(caption, describe_comparison(text, tables, folders, left_out))


if "snakemake" in globals():
    with job(snakemake):
        mpl.use("Agg")  # a job draws into files alone, whatever the process that started it has
        kind = find_drawing(snakemake.wildcards.figure).OPTIONS
        main(
            snakemake.wildcards.figure,
            dict(zip(snakemake.params.names, snakemake.input.tables, strict=True)),
            snakemake.params.missing,
            [snakemake.output[kind] for kind in ("pdf", "svg", "png")],
            snakemake.output.caption,
            folders=snakemake.params.folders,
            options=read_options(kind, snakemake.params.options, "config: figures"),
            style=read_options(Style, snakemake.params.style, "config: style"),
        )
