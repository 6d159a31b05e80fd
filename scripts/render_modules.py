"""Draw the module map."""

from llm_figures.captions import module_caption
from llm_figures.drawing import drawing_style, save
from llm_figures.job import job
from llm_figures.module_figure import draw_modules
from llm_figures.tensors import read_frame, whole_file


def main(scores: str, pictures: list[str], caption: str, model: str, options: dict, style: dict):
    table = read_frame(scores)
    with drawing_style(**style):
        save(draw_modules(table, options), pictures)
    with whole_file(caption) as partial:
        partial.write_text(module_caption(table, model, options), encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.scores,
            snakemake.output.pictures,
            snakemake.output.caption,
            snakemake.wildcards.model,
            snakemake.params.options,
            snakemake.params.style,
        )
