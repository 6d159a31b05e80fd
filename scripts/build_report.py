"""Render a model's figures, claims and provenance as one HTML page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from llm_figures.attention.figure import make_figure_title
from llm_figures.attention.options import AttentionFigure
from llm_figures.core.atomic_files import write_text
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, read_frames
from llm_figures.modules.metrics import METRICS
from llm_figures.provenance.manifest_facts import read_manifest
from llm_figures.provenance.report import (
    Data,
    FigureFiles,
    Section,
    render_report,
    tabulate_controls,
)
from llm_figures.provenance.summaries import (
    summarise_attention,
    summarise_modules,
    summarise_probe,
)


def main(
    *,
    model: str,
    figures: Sequence[str],
    scores: Mapping[str, str],
    shown: Mapping[str, Sequence[str]],
    claims: Sequence[str],
    manifest: str,
    template: Sequence[str],
    report: str,
    options: Mapping[str, dict],
    choices: str | None = None,
) -> None:
    """Build the page.

    figures: every file of the figures, named FIGURE.pdf, .svg, .png, .caption.txt and .panels.json.
    scores: {section: the file that its figures are drawn from}, in the order of the page.
    shown: {section: its figures, its own first}. options: {section: the options that its title and
    its table of controls depend on}. template: the page's HTML, CSS and JavaScript.
    """
    drawn = {}
    for path in map(Path, figures):
        name, kind = path.name.split(".", 1)
        drawn.setdefault(name, {})[kind] = path
    sections = []
    for figure, path in scores.items():
        table = _read_data(path)
        own = options.get(figure, {})
        beside = [name for name in drawn if name.startswith("module_map_")]
        beside = beside if figure == "module_map" else shown[figure][1:]
        controls = None
        if figure == "probe_auc":
            controls = tabulate_controls(table.frame, own["metric"], own["tokens"])
        title, summary = _describe(figure, own, table.frame, controls)
        sections.append(
            Section(
                _read_figure(figure, drawn[figure]),
                title,
                table,
                summary=summary,
                beside=[_read_figure(name, drawn[name]) for name in beside],
                controls=controls,
            )
        )
    page = render_report(
        model,
        sections,
        read_frames(claims),
        read_manifest(Path(manifest).read_text(encoding="utf-8"), manifest),
        {Path(file).name: Path(file).read_text(encoding="utf-8") for file in template},
        (_read_figure("choices", drawn["choices"]), _read_data(choices)) if choices else None,
    )
    write_text(report, page)
    log.info("%s: %s", report, format_bytes(len(page.encode())))


def _describe(
    figure: str, options: dict, scores: pd.DataFrame, controls: dict | None
) -> tuple[str, str | None]:
    """Title and sentence of a figure's section."""
    if "operation" in options:  # of an attention figure
        title = make_figure_title(read_options(AttentionFigure, options, "options"))
        return title.replace("*", ""), summarise_attention(scores)
    if figure == "module_map":
        metric = options["metric"]
        return METRICS[metric].title, summarise_modules(scores, metric)
    if figure == "probe_auc":
        kind = scores.attrs.get("protocol", {}).get("kind", "logistic")
        probe = "a Linear Probe" if kind != "mlp" else "a Probe with a Hidden Layer"
        return f"How Well {probe} Detects a Wrong Answer", summarise_probe(controls)
    return options.get("title") or figure.replace("_", " ").capitalize(), None


def _read_figure(name: str, files: Mapping[str, Path]) -> FigureFiles:
    panels = _panels(files["panels.json"])
    return FigureFiles(
        name,
        {kind: files[kind].read_bytes() for kind in ("pdf", "svg", "png")},
        files["caption.txt"].read_text(encoding="utf-8"),
        panels if panels["panels"] else None,
    )


def _panels(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it and run again") from None


def _read_data(path: str) -> Data:
    return Data(path, Path(path).read_bytes(), read_frame(path))


if "snakemake" in globals():
    with job(snakemake):
        main(
            model=snakemake.wildcards.model,
            figures=list(snakemake.input.figures),
            scores=dict(zip(snakemake.params.shown, snakemake.input.scores, strict=True)),
            shown=snakemake.params.shown,
            claims=list(snakemake.input.claims),
            manifest=snakemake.input.manifest,
            template=snakemake.input.template,
            report=snakemake.output.report,
            options=snakemake.params.options,
            choices=snakemake.input.choices or None,
        )
