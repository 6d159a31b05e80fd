"""Write a model's numbers, tables and figures as LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, read_frames
from llm_figures.paper.contents import build_paper
from llm_figures.paper.floats import measure_width
from llm_figures.paper.stated_figures import read_stated
from llm_figures.provenance.manifest_facts import read_manifest


def main(
    *,
    model: str,
    figures: Sequence[str],
    numbers: Sequence[str],
    pdfs: Sequence[str],
    claims: Sequence[str],
    scores: str,
    manifest: str,
    answers: str | None,
    output: Sequence[str],
    options: Mapping,
) -> None:
    """figures: names, in the order of their numbers.json and PDF files. options: of `build_paper`,
    with the metric and the tokens of the probe. output: the files, by the names of `build_paper`.
    """
    stated = {
        name: (
            read_stated(Path(file).read_text(encoding="utf-8"), file, model),
            measure_width(Path(pdf).read_bytes(), pdf),
        )
        for name, file, pdf in zip(figures, numbers, pdfs, strict=True)
    }
    files = build_paper(
        model,
        stated,
        read_frames(claims),
        read_frame(scores),
        (options["metric"], options["tokens"]),
        read_manifest(Path(manifest).read_text(encoding="utf-8"), manifest),
        read_frame(answers, ["valid", "correct"]) if answers else None,
        prefix=options["prefix"],
        exact=options["exact"],
        across=options["across"],
    )
    for path in output:
        write_text(path, files[Path(path).name])
    count = files["numbers.tex"].count("\\newcommand*")
    log.info("%d macros, %d figures: %s", count, len(figures), Path(output[0]).parent)


if "snakemake" in globals():
    with job(snakemake):
        main(
            model=snakemake.params.model,
            figures=snakemake.params.figures,
            numbers=snakemake.input.numbers,
            pdfs=snakemake.input.pdfs,
            claims=list(snakemake.input.claims),
            scores=snakemake.input.scores,
            manifest=snakemake.input.manifest,
            answers=snakemake.input.get("answers"),
            output=list(snakemake.output),
            options=snakemake.params.options,
        )
