"""Render the report of one model: figures, claims and provenance in one self-contained HTML page.

This module prepares what the page shows from bytes and tables; the template lays it out.
"""

import base64
import gzip
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml
from jinja2 import DictLoader, Environment, StrictUndefined
from PIL import Image

from llm_figures.claims.definitions import (
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    SYMBOLS,
    format_threshold,
)
from llm_figures.claims.page import count_verdicts
from llm_figures.core.alt_text import make_alt_text, split_sentences
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes, format_duration
from llm_figures.core.numbers import minus_signs, three_decimals, three_digits
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.controls import CONTROLS, EXPLANATIONS, LABELS, name_control
from llm_figures.provenance.manifest import describe_versions

MOST_DATA = 5_000_000  # bytes of the largest data file that is embedded in the page
PLAIN_CSV = 1_000_000  # bytes of the largest CSV that is embedded without gzip
LONGEST_LEAD = 400  # characters of a caption that are shown before it is unfolded
THUMBNAIL = 480  # pixels of the longer side of an image of the overview
# Misses first: they are what a reader looks for. The others are folded.
ORDER = (NOT_REPRODUCED, NOT_APPLICABLE, REPRODUCED)
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
        spreads = Counter(row["spread"] for row in rows if row["spread"]).most_common()
        parts.append(
            {
                "name": name,
                "title": section.title,
                "summary": section.summary or split_sentences(section.figure.caption)[0],
                "thumbnail": _shrink(section.figure.files["png"]),
                "figures": [_embed(figure, model) for figure in (section.figure, *section.beside)],
                "downloads": _embed_data(section.data, f"{model}_{name}"),
                "groups": {
                    verdict: group
                    for verdict in ORDER
                    if (group := [row for row in rows if row["verdict"] == verdict])
                },
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
        counts={verdict: count_verdicts(claims)[verdict] for verdict in ORDER},
        symbols=SYMBOLS,
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
    for claim in claims.to_dict("records"):
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
                "held": f"held in {' and '.join(counts)}" if counts else None,
                "expected": _format_expected(claim),
                "expected_key": _given(claim["threshold"]),
            }
        )
    return rows


def tabulate_controls(scores: pd.DataFrame, metric: str, tokens: Sequence[str]) -> dict | None:
    """The scores of the probe and its controls at the probe's best cell; None without a score.

    Returns {layer, token, metric, rows: [{name, mean, interval, gain, gain_interval, explains}]},
    the probe itself first; gain is probe − control. A control explains the cell if the interval of
    probe − control includes zero and the control rests on no judgement of the model
    (`controls.EXPLANATIONS`).
    """
    best = find_best_cell(scores, metric, tokens)
    if best is None:
        return None
    rows = []
    for control in ("none", *CONTROLS):
        if control not in best.beside.index:
            continue
        row = best.beside.loc[control]
        itself = control == "none"
        rows.append(
            {
                "name": "probe" if itself else name_control(control, row),
                "mean": three_decimals(row["mean"]),
                "interval": _interval(row["ci_low"], row["ci_high"]),
                "gain": None if itself else three_decimals(row["gain"]),
                "gain_interval": None if itself else _interval(row["gain_low"], row["gain_high"]),
                # without an interval there is no evidence of a difference either
                "explains": control in EXPLANATIONS and not row["gain_low"] > 0,
            }
        )
    return {
        "layer": int(best.probe["layer"]),
        "token": best.probe["token"],
        "metric": LABELS[metric],
        "rows": rows,
    }


def tabulate_combinations(choices: pd.DataFrame) -> list[dict]:
    """Rows of the page's table of choices, one for each combination, the best first.

    Claims that are not applicable to a combination are not counted against it.
    """
    rows = []
    for keys, claims in choices.groupby(CHOICES, sort=False, dropna=False):
        shown = {name: _given(value) for name, value in zip(CHOICES, keys, strict=True)}
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
                "missed": missed,
            }
        )
    # a stable sort keeps equals in the order of the file
    return sorted(rows, key=lambda row: (-row["reproduced"], row["applicable"]))


def describe_provenance(manifest: dict) -> dict:
    """The manifest's content as the page shows it, without what the manifest lacks.

    Returns {facts: [(name, text)], hashes: [(name, sha256)], config: YAML, packages: [(name,
    version)], stages: [{rule, jobs, seconds, memory, ...}], total: text, files: [{path, sha256,
    bytes}]}, each empty where there is nothing.
    """
    model = manifest.get("model") or {}
    config = manifest.get("config") or {}
    project = manifest.get("project") or {}
    written = manifest.get("written_with") or {}
    stages = manifest.get("stages") or {}
    facts = [
        ("Model", model.get("name")),
        ("Revision", model.get("revision")),
        ("Quantization", model.get("quantization")),
        ("Compared with", _name_model(manifest.get("compared_with") or {})),
        ("Data set", _name_dataset(config.get("dataset"))),
        *(("Run on", text) for text in _describe_runtimes(stages)),
        *(("Attention maps", text) for text in _describe_proofs(stages)),
        *(("Versions", line) for line in describe_versions(manifest.get("versions") or {})),
        ("Written with", " ".join(str(written[k]) for k in ("python", "platform") if k in written)),
        ("Code", _name_code(project)),
    ]
    rows = [
        {
            "rule": rule,
            "jobs": stage.get("jobs"),
            "seconds": _given(stage.get("seconds")),
            "time": format_duration(stage.get("seconds")),
            "memory_key": _given(stage.get("max_memory_mb")),
            "memory": format_bytes(1e6 * memory) if (memory := stage.get("max_memory_mb")) else "",
        }
        for rule, stage in stages.items()
    ]
    return {
        "facts": [(name, text) for name, text in facts if text],
        "hashes": _hashes(model),
        "config": yaml.safe_dump(config, allow_unicode=True, sort_keys=False) if config else "",
        "packages": sorted((written.get("packages") or {}).items(), key=lambda p: p[0].lower()),
        "stages": rows,
        "total": format_duration(sum(row["seconds"] or 0 for row in rows)) if rows else "",
        "files": [{"path": path, **known} for path, known in (manifest.get("files") or {}).items()],
    }


def _name_model(model: Mapping) -> str:
    """Name and revision of the checkpoint that weights are compared with."""
    return ", ".join(str(model[key]) for key in ("name", "revision") if model.get(key))


def _describe_runtimes(stages: Mapping[str, dict]) -> list[str]:
    """Device, precision and so on that stages ran the model with, naming the stages if several."""
    kinds: dict[str, list[str]] = {}
    for rule, stage in stages.items():
        for kind in stage.get("ran_on") or []:
            text = _flat({key: kind[key] for key in kind if key not in ("files", "proof")})
            if rule not in kinds.setdefault(text, []):
                kinds[text].append(rule)
    if len(kinds) == 1:
        return list(kinds)
    return [f"{text} ({', '.join(rules)})" for text, rules in kinds.items()]


def _describe_proofs(stages: Mapping[str, dict]) -> list[str]:
    """How far attention maps are from the model's own weights, see `attention.proof`."""
    proofs = [kind["proof"] for stage in stages.values() for kind in stage.get("ran_on") or []
              if kind.get("proof")]  # fmt: skip
    return list(
        dict.fromkeys(
            "equal the model's own eager weights to "
            f"{minus_signs(str(proof['largest_deviation']))} in "
            f"{len(proof['attention_layers'])} of {proof['layers']} layers"
            for proof in proofs
        )
    )


def _name_code(project: dict) -> str:
    """llm-figures 0.1.0 (commit 0123456789ab, with uncommitted changes)"""
    text = " ".join(str(project[key]) for key in ("name", "version") if project.get(key))
    if commit := project.get("commit"):
        changes = ", with uncommitted changes" if project.get("uncommitted_changes") else ""
        text += f" (commit {commit[:12]}{changes})"
    return text


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


def _flat(value: Any) -> str:
    """JSON values on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return "" if value is None else str(value)


def _name_dataset(dataset: dict | str | None) -> str:
    """The source of the questions."""
    if not isinstance(dataset, dict):
        return dataset or ""
    source = dataset.get("source") or ("path" if dataset.get("path") else "facts")
    keys = {
        "path": ("path", "hold_out"),
        "hub": ("repo", "revision", "file"),
    }.get(source, ("name",))
    parts = [str(dataset[key]) for key in keys if dataset.get(key)]
    return ", ".join(parts) + (" (built in)" if source == "facts" else "")


def _hashes(model: Any, name: str = "") -> list[tuple[str, str]]:
    """(name, hash) of every SHA-256 in the model's info; it is named by its file or its key."""
    if isinstance(model, dict):
        label = model.get("file") or model.get("path")
        hashes = []
        for key, part in model.items():
            if key != "entry":  # holds the same hashes again
                own = label if key.endswith("sha256") and label else str(key)
                hashes += _hashes(part, own)
        return list(dict.fromkeys(hashes))
    if isinstance(model, list):
        return [pair for part in model for pair in _hashes(part, name)]
    return (
        [(name, model)] if isinstance(model, str) and re.fullmatch(r"[0-9a-f]{64}", model) else []
    )


def read_manifest(text: str, path: str) -> dict:
    """The manifest as a dictionary.

    Raises:
        UserError: it is not JSON, or no object.
    """
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it and run again") from None
    if not isinstance(manifest, dict):
        raise UserError(f"{path} is not a JSON object; remove it and run again")
    return manifest
