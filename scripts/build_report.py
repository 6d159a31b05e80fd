"""Put a model's figures, claims and provenance on one HTML page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_figures.attention.figure import figure_title
from llm_figures.core.atomic_files import write_text
from llm_figures.core.errors import UserError
from llm_figures.core.figure_names import ATTENTION_FIGURES
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.modules.metrics import METRICS
from llm_figures.provenance.report import (
    Data,
    Picture,
    Section,
    probe_controls,
    read_manifest,
    report_page,
)


def main(
    *,
    model: str,
    figures: Sequence[str],
    data: Mapping[str, str],
    claims: str,
    manifest: str,
    template: Sequence[str],
    report: str,
    options: Mapping[str, dict],
    choices: str | None = None,
) -> None:
    """Build the page.

    figures: every file of the figures (pdf, svg, png, caption.txt, panels.json), figure.kind each.
    data: by figure, in the order of the page. options: the config's, by figure.
    """
    pictures = {}
    for path in map(Path, figures):
        name, kind = path.name.split(".", 1)
        pictures.setdefault(name, {})[kind] = path
    sections = []
    for figure, path in data.items():
        table = _data(path)
        probe = figure == "probe_auc"
        further = {
            "probe_auc": ["probe_curves"],
            "module_map": [name for name in pictures if name.startswith("module_map_")],
        }
        sections.append(
            Section(
                _picture(figure, pictures[figure]),
                _title(figure, options[figure]),
                table,
                beside=[_picture(name, pictures[name]) for name in further.get(figure, [])],
                controls=probe_controls(
                    table.frame, options[figure]["metric"], options[figure]["tokens"]
                )
                if probe
                else None,
            )
        )
    page = report_page(
        model,
        sections,
        read_frame(claims),
        read_manifest(Path(manifest).read_text(encoding="utf-8"), manifest),
        {Path(file).name: Path(file).read_text(encoding="utf-8") for file in template},
        (_picture("choices", pictures["choices"]), _data(choices)) if choices else None,
    )
    write_text(report, page)
    log.info("%s: %.1f MB", report, len(page.encode()) / 1e6)


def _title(figure: str, options: dict) -> str:
    if figure in ATTENTION_FIGURES:
        return figure_title(options).replace("*", "")
    if figure == "module_map":
        return METRICS[options["metric"]].title
    return "How Well a Linear Probe Detects a Wrong Answer"


def _picture(name: str, files: Mapping[str, Path]) -> Picture:
    panels = files.get("panels.json")
    return Picture(
        name,
        {kind: files[kind].read_bytes() for kind in ("pdf", "svg", "png")},
        files["caption.txt"].read_text(encoding="utf-8"),
        _panels(panels) if panels else None,
    )


def _panels(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it and run again") from None


def _data(path: str) -> Data:
    return Data(path, Path(path).read_bytes(), read_frame(path))


if "snakemake" in globals():
    with job(snakemake):
        main(
            model=snakemake.wildcards.model,
            figures=[*snakemake.input.figures, *snakemake.input.get("choice_figures", [])],
            data={
                **dict(zip(ATTENTION_FIGURES, snakemake.input.attention, strict=True)),
                "probe_auc": snakemake.input.probe,
                "module_map": snakemake.input.modules,
            },
            claims=snakemake.input.claims,
            manifest=snakemake.input.manifest,
            template=snakemake.input.template,
            report=snakemake.output.report,
            options=snakemake.params.options,
            choices=snakemake.input.get("choices"),
        )
