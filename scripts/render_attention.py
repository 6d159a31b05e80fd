"""Draw one attention figure."""

from llm_figures.attention_figure import draw_attention
from llm_figures.captions import attention_caption
from llm_figures.drawing import drawing_style, save
from llm_figures.job import job
from llm_figures.tensors import read_frame, whole_file


def main(cells: str, pictures: list[str], caption: str, model: str, options: dict, style: dict):
    table = read_frame(cells)
    with drawing_style(**style):
        save(draw_attention(table, options), pictures)
    with whole_file(caption) as partial:
        partial.write_text(attention_caption(table, model, options), encoding="utf-8")


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.cells,
            snakemake.output.pictures,
            snakemake.output.caption,
            snakemake.wildcards.model,
            snakemake.params.options,
            snakemake.params.style,
        )
