"""Render the report of one model: figures, claims and provenance in one self-contained HTML page.

This module prepares what the page shows from bytes and tables; the template lays it out.
"""

import base64
import gzip
import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import DictLoader, Environment, StrictUndefined
from PIL import Image

from llm_figures.claims.definitions import (
    DECIDED,
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    SYMBOLS,
    format_threshold,
    is_certain,
)
from llm_figures.claims.page import cites_descriptions
from llm_figures.claims.references import (
    RANDOM_WEIGHTS,
    compute_baseline,
    count_decided,
    count_verdicts,
    find_decided,
    find_share,
)
from llm_figures.core.alt_text import make_alt_text, split_sentences
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes
from llm_figures.core.numbers import three_decimals, three_digits
from llm_figures.probe.best_cell import find_highest_cell, find_nested_cell
from llm_figures.probe.cell_text import write_choices
from llm_figures.probe.controls import DETAIL_NAMES, EXPLANATIONS, LABELS, NAMES, name_control
from llm_figures.probe.protocol import VARIANT
from llm_figures.probe.protocol_text import name_probe
from llm_figures.provenance.manifest_facts import describe_provenance

MOST_DATA = 5_000_000  # bytes of the largest data file that is embedded in the page
PLAIN_CSV = 1_000_000  # bytes of the largest CSV that is embedded without gzip
LONGEST_LEAD = 400  # characters of a caption that are shown before it is unfolded
THUMBNAIL = 480  # pixels of the longer side of an image of the overview
# Misses first: they are what a reader looks for. The others are folded.
ORDER = (NOT_REPRODUCED, NOT_APPLICABLE, REPRODUCED, DECIDED)
Image.MAX_IMAGE_PIXELS = None  # the images are our own, at up to 1,200 dpi
TYPES = {
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "png": "image/png",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "csv.gz": "application/gzip",
}
# Columns that tell one combination of choices from another.
CHOICES = ["operation", "over", "stage", "scope", "layer", "layer_choice", "head", "head_choice"]


@dataclass(frozen=True)
class FigureFiles:
    """One figure as drawn.

    files: contents by format: pdf, svg, png. panels: see `drawing.panel_notes`; None where the
    figure has no heatmap whose cells can be pointed at.
    """

    name: str
    files: Mapping[str, bytes]
    caption: str
    panels: dict | None = None


@dataclass(frozen=True)
class Data:
    """The tidy data of a figure. path: of its file, shown if the file is too large to embed."""

    path: str
    parquet: bytes
    frame: pd.DataFrame


@dataclass(frozen=True)
class Section:
    """One figure's part of the page.

    summary: one sentence for the overview; None takes the first of the caption.
    beside: further figures of the same data.
    """

    figure: FigureFiles
    title: str
    data: Data
    summary: str | None = None
    beside: Sequence[FigureFiles] = ()
    controls: dict | None = None


def render_report(
    model: str,
    sections: Sequence[Section],
    claims: pd.DataFrame,
    manifest: dict,
    template: Mapping[str, str],
    choices: tuple[FigureFiles, Data] | None = None,
) -> str:
    """The page as HTML.

    Our own styles and script are embedded as they are; everything else is escaped.

    sections: in the order of the page. claims: rows of claims.parquet. template: the texts of
    report.html.j2, report.css and report.js. choices: figure and rows of choices.parquet.

    Raises:
        UserError: a claim about a figure that has no section.
    """
    names = [section.figure.name for section in sections]
    for figure in claims["figure"].unique():
        if figure not in names:
            raise UserError(
                f"claims: a claim is about {figure!r}, which the report does not show; "
                f"allowed: {', '.join(names)}"
            )
    environment = Environment(
        loader=DictLoader({"page": template["report.html.j2"]}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = []
    for section in sections:
        name = section.figure.name
        own = claims[claims["figure"] == name]
        rows = tabulate_claims(own)
        grouped = {
            name: group
            for name in ORDER
            if (group := [row for row in rows if row["group"] == name])
        }
        spreads = Counter(row["spread"] for row in rows if row["spread"]).most_common()
        parts.append(
            {
                "name": name,
                "title": section.title,
                "summary": section.summary or split_sentences(section.figure.caption)[0],
                "thumbnail": _shrink(section.figure.files["png"]),
                "figures": [_embed(figure, model) for figure in (section.figure, *section.beside)],
                "downloads": _embed_data(section.data, f"{model}_{name}"),
                "groups": grouped,
                "total": len(rows) - len(grouped.get(DECIDED, ())),
                "baselines": [
                    f"{what} {baseline.satisfied:.1f}"
                    for what, kind in (("random data", None), ("random weights", RANDOM_WEIGHTS))
                    if (baseline := compute_baseline(own, kind))
                ],
                # the most frequent is said once for all claims
                "spread": spreads[0][0] if spreads else None,
                "spreads": len(spreads),
                "controls": section.controls,
            }
        )
    css, js = template["report.css"], template["report.js"]
    page = environment.get_template("page").render(
        model=model,
        sections=parts,
        counts=_count_groups(claims),
        baseline=compute_baseline(claims),
        cites_descriptions=cites_descriptions(claims),
        symbols=SYMBOLS | {DECIDED: "="},
        decided=DECIDED,
        choices=choices
        and {
            "figure": _embed(choices[0], model),
            "downloads": _embed_data(choices[1], f"{model}_choices"),
            "rows": tabulate_combinations(choices[1].frame),
        },
        provenance=describe_provenance(manifest),
        css=css,
        js=js,
        css_hash=_source_hash(css),
        js_hash=_source_hash(js),
    )
    return page.lstrip()


def tabulate_claims(claims: pd.DataFrame) -> list[dict]:
    """Rows of the page's table of claims, one for each row of claims.parquet."""
    rows = []
    for claim, decided in zip(claims.to_dict("records"), find_decided(claims), strict=True):
        low, high = _given(claim["low"]), _given(claim["high"])
        held, units = _given(claim["held"]), _given(claim["units"])
        heads, held_heads = _given(claim["heads"]), _given(claim["held_heads"])
        counts = [
            f"{int(n)} of {int(of)}{what}"
            for n, of, what in ((held, units, ""), (held_heads, heads, " heads"))
            if n is not None and of is not None
        ]
        rows.append(
            {
                "figure": claim["figure"],
                "claim": claim["claim"],
                "verdict": claim["verdict"],
                "group": DECIDED if decided else claim["verdict"],
                "statement": claim["statement"],
                "source": _given(claim["source"]),
                "note": _given(claim["note"]),
                "statistic": claim["statistic"].replace("_", " "),
                "reason": _given(claim["reason"]),
                "value": three_digits(claim["value"]),
                "value_key": _given(claim["value"]),
                "range": None
                if low is None or high is None
                else f"{three_digits(low)}–{three_digits(high)}"
                if low >= 0
                else f"{three_digits(low)} to {three_digits(high)}",
                "spread": _given(claim["spread"]),
                "share": _describe_share(claim),
                "held": f"held in {' and '.join(counts)}" if counts else None,
                "expected": _format_expected(claim),
                "expected_key": _given(claim["threshold"]),
                "certain": is_certain(claim),
            }
        )
    return rows


def _count_groups(claims: pd.DataFrame) -> dict[str, int]:
    counts = count_verdicts(claims) | {DECIDED: count_decided(claims)}
    return {name: counts[name] for name in ORDER}


def _describe_share(claim: Mapping[str, Any]) -> str | None:
    share = find_share(claim)
    return None if share is None else f"true of {share:.0%} of {claim['references']:.0f} references"


def tabulate_controls(scores: pd.DataFrame, metric: str, tokens: Sequence[str]) -> dict | None:
    """The scores of the probe and its controls at the chosen cell; None without a score.

    It is the cell chosen in every split on the training answers (`probe.nested`); without such a
    choice, the highest.

    Returns {probe: what captions call it, cells, nested, highest, metric, rows: [{name, mean,
    interval, gain, gain_interval, raw, explains}], details: [{name, mean, interval}]}, the probe
    itself first; gain is probe − control; raw: where confidence as it is points the other way. A
    control explains the cell if the interval of probe − control includes zero and the control rests
    on no judgement of the model (`controls.EXPLANATIONS`).
    """
    highest = find_highest_cell(scores, metric, tokens)
    if highest is None:
        return None
    nested = find_nested_cell(scores, metric)
    shown = nested or highest
    place = f"layer {highest.probe['layer']}, {highest.probe['token']}"
    rows = []
    variants = [name for name in shown.beside.index if name.startswith(VARIANT)]
    for control in ("none", *NAMES, *variants):
        if control not in shown.beside.index:
            continue
        row = shown.beside.loc[control]
        itself = control == "none"
        rows.append(
            {
                "name": "probe" if itself else name_control(control, row),
                "mean": three_decimals(row["mean"]),
                "interval": _interval(row["ci_low"], row["ci_high"]),
                "gain": None if itself else three_decimals(row["gain"]),
                "gain_interval": None if itself else _interval(row["gain_low"], row["gain_high"]),
                # confidence that is higher for wrong answers, and is of use only once it is fitted
                "raw": three_decimals(shown.raw[control])
                if shown.raw.get(control, 1) < 0.5
                else None,
                # without an interval there is no evidence of a difference either
                "explains": control in EXPLANATIONS and not row["gain_low"] > 0,
            }
        )
    return {
        "probe": name_probe(scores),
        "cells": write_choices(nested) if nested else place,
        "nested": nested is not None,
        "highest": f"{place}: {three_decimals(highest.probe['mean'])}",
        "metric": LABELS[metric],
        "rows": rows,
        "details": [] if nested is None or metric != "auc" else _list_details(nested.details),
    }


def _list_details(details: pd.DataFrame) -> list[dict]:
    """What else is known of the chosen cells: {name, mean, interval}."""
    return [
        {
            "name": name,
            "mean": three_decimals(details.loc[metric, "mean"]),
            "interval": _interval(details.loc[metric, "ci_low"], details.loc[metric, "ci_high"])
            if pd.notna(details.loc[metric, "ci_low"])
            else "",
        }
        for metric, name in DETAIL_NAMES.items()
        if metric in details.index and pd.notna(details.loc[metric, "mean"])
    ]


def tabulate_combinations(choices: pd.DataFrame) -> list[dict]:
    """Rows of the page's table of choices, one for each combination, the best first.

    Claims that are decided by construction are not counted, and those that are not applicable to a
    combination are not counted against it.
    """
    rows = []
    for keys, claims in choices.groupby(CHOICES, sort=False, dropna=False):
        shown = {name: _given(value) for name, value in zip(CHOICES, keys, strict=True)}
        claims = claims[~find_decided(claims)]
        verdicts = claims["verdict"]
        reproduced = int((verdicts == REPRODUCED).sum())
        missed = list(claims.loc[verdicts == NOT_REPRODUCED, "claim"])
        rows.append(
            {
                **{name: shown[name] for name in ("operation", "over", "stage", "scope")},
                "layer": _with_choice(shown["layer"], shown["layer_choice"]),
                "head": _with_choice(shown["head"], shown["head_choice"]),
                "layer_key": shown["layer"],
                "reproduced": reproduced,
                "applicable": reproduced + len(missed),
                "baseline": compute_baseline(claims),
                "missed": missed,
            }
        )
    # a stable sort keeps equals in the order of the file
    return sorted(rows, key=lambda row: (-row["reproduced"], row["applicable"]))


def _embed(figure: FigureFiles, model: str) -> dict:
    """A figure for the template. The PNG is embedded once; the script makes the link to it."""
    png = figure.files["png"]
    with Image.open(io.BytesIO(png)) as image:
        width, height = image.size
    caption = " ".join(figure.caption.split())
    alt = make_alt_text(caption)
    short = len(alt) <= LONGEST_LEAD
    return {
        "name": figure.name,
        "png": _data_uri(png, "png"),
        "width": width,
        "height": height,
        "alt": alt,
        "lead": alt if short else alt[:LONGEST_LEAD].rpartition(" ")[0] + " …",
        "rest": caption.removeprefix(alt).strip() if short else caption,
        "panels": figure.panels,
        "files": [
            {
                "format": kind,
                "name": f"{model}_{figure.name}.{kind}",
                "uri": None if kind == "png" else _data_uri(figure.files[kind], kind),
                "size": format_bytes(len(figure.files[kind])),
            }
            for kind in ("pdf", "svg", "png")
        ],
    }


def _embed_data(data: Data, name: str) -> dict:
    """{links: files embedded in the page, left_out: a note on what is too large, or None}."""
    if len(data.parquet) > MOST_DATA:
        size = format_bytes(len(data.parquet))
        return {"links": [], "left_out": f"The data ({size}) are too large to embed: {data.path}"}
    csv = data.frame.to_csv(index=False, float_format="%.7g").encode()
    files = {"parquet": data.parquet}
    if len(csv) <= PLAIN_CSV:
        files["csv"] = csv
    else:
        files["csv.gz"] = gzip.compress(csv, mtime=0)  # without the time of day
    embedded = {kind: content for kind, content in files.items() if len(content) <= MOST_DATA}
    links = [
        {
            "format": {"parquet": "Parquet", "csv": "CSV", "csv.gz": "CSV, gzipped"}[kind],
            "name": f"{name}.{kind}",
            "uri": _data_uri(content, kind),
            "size": format_bytes(len(content)),
        }
        for kind, content in embedded.items()
    ]
    too_large = len(embedded) < len(files)
    return {"links": links, "left_out": "The CSV is too large to embed." if too_large else None}


def _shrink(png: bytes) -> str:
    """A small copy of an image, on white."""
    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("RGBA")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    paper = Image.new("RGBA", small.size, "white")
    paper.alpha_composite(small)
    file = io.BytesIO()
    paper.convert("RGB").save(file, "png", optimize=True)
    return _data_uri(file.getvalue(), "png")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode('ascii')}"


def _source_hash(text: str) -> str:
    """The source by which the page's content security policy allows exactly this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _given(value: Any) -> Any:
    """The value; None for every kind of missing value."""
    return None if value is None or pd.isna(value) else value


def _format_expected(claim: dict) -> str:
    """The threshold; empty where there is none."""
    if _given(claim["threshold"]) is None:
        return ""
    return format_threshold(claim["comparison"], claim["threshold"], claim["threshold_high"])


def _interval(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{three_decimals(low)}, {three_decimals(high)}]"


def _with_choice(value: Any, choice: Any) -> str:
    return str(value) if choice is None or str(choice) == str(value) else f"{value} ({choice})"
