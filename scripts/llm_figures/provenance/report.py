"""The report of one model: its figures, claims and provenance as one HTML page that needs no other.

What stands on the page is put together here from bytes and frames; how it looks is the template's.
"""

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import yaml
from jinja2 import DictLoader, Environment, StrictUndefined

from llm_figures.claims.definitions import SYMBOLS, threshold_text
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes, format_duration
from llm_figures.core.numbers import three_decimals, three_digits
from llm_figures.probe.best_cell import find_best_cell
from llm_figures.probe.controls import CONTROLS, EXPLANATIONS, LABELS

MOST_DATA = 5_000_000  # bytes of one data file that is put into the page
PLAIN_CSV = 1_000_000  # bytes of a CSV that is put there as it is; a larger one is gzipped
TYPES = {
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
    "png": "image/png",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "csv.gz": "application/gzip",
}
# What tells one combination of choices from another.
CHOICES = ["operation", "over", "stage", "scope", "layer", "layer_choice", "head", "head_choice"]


@dataclass(frozen=True)
class Picture:
    """One figure as drawn.

    panels: see `drawing.panel_notes`; None where nothing can be pointed at.
    """

    name: str
    files: Mapping[str, bytes]  # by format: pdf, svg, png
    caption: str
    panels: dict | None = None


@dataclass(frozen=True)
class Data:
    """The tidy data of a figure. path: where they lie, named where they are too large to embed."""

    path: str
    parquet: bytes
    frame: pd.DataFrame


@dataclass(frozen=True)
class Section:
    """One figure's part of the page; `beside` are further pictures of the same data."""

    picture: Picture
    title: str
    data: Data
    beside: Sequence[Picture] = ()
    controls: dict | None = None
    claims: list[dict] = field(default_factory=list)


def report_page(
    model: str,
    sections: Sequence[Section],
    claims: pd.DataFrame,
    manifest: dict,
    template: Mapping[str, str],
    choices: tuple[Picture, Data] | None = None,
) -> str:
    """The page.

    Styles and script are put into it unescaped: they are ours. All else is escaped.

    sections: in their order. claims: rows of claims.parquet. template: the texts of
    report.html.j2, report.css and report.js. choices: picture and rows of choices.parquet.

    Raises:
        UserError: a claim about a figure that has no section.
    """
    names = [section.picture.name for section in sections]
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
        rows = claim_rows(claims[claims["figure"] == section.picture.name])
        parts.append(
            {
                "name": section.picture.name,
                "title": section.title,
                "pictures": [_shown(p, model) for p in (section.picture, *section.beside)],
                "downloads": _data_links(section.data, f"{model}_{section.picture.name}"),
                "claims": rows,
                "counts": verdict_counts(rows),
                "controls": section.controls,
            }
        )
    every = [row for part in parts for row in part["claims"]]
    css, js = template["report.css"], template["report.js"]
    page = environment.get_template("page").render(
        model=model,
        sections=parts,
        counts=verdict_counts(every),
        symbols=SYMBOLS,
        choices=choices
        and {
            "picture": _shown(choices[0], model),
            "downloads": _data_links(choices[1], f"{model}_choices"),
            "rows": combination_rows(choices[1].frame),
        },
        provenance=provenance(manifest),
        css=css,
        js=js,
        css_hash=_source_hash(css),
        js_hash=_source_hash(js),
    )
    return page.lstrip()


def claim_rows(claims: pd.DataFrame) -> list[dict]:
    """What the table of claims shows, row by row of claims.parquet."""
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
                "symbol": SYMBOLS[claim["verdict"]],
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
                "expected": _expected(claim),
                "expected_key": _given(claim["threshold"]),
            }
        )
    return rows


def verdict_counts(rows: Sequence[dict]) -> dict[str, int]:
    """{verdict: number of claims}, all three."""
    return {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in SYMBOLS}


def probe_controls(scores: pd.DataFrame, metric: str, tokens: Sequence[str]) -> dict | None:
    """The probe's best cell and its controls there; None where no cell has a score.

    Returns {layer, token, metric, rows: [{name, mean, interval, gain, gain_interval, explains}]},
    the probe itself first. A control explains the cell where the interval of the probe's gain over
    it includes zero and it needs no judgement of the model (`controls.EXPLANATIONS`).
    """
    best = find_best_cell(scores, metric, tokens)
    if best is None:
        return None
    rows = []
    for control, name in {"none": "probe", **CONTROLS}.items():
        if control not in best.beside.index:
            continue
        row = best.beside.loc[control]
        itself = control == "none"
        rows.append(
            {
                "name": name,
                "mean": three_decimals(row["mean"]),
                "interval": _interval(row["ci_low"], row["ci_high"]),
                "gain": None if itself else three_decimals(row["gain"]),
                "gain_interval": None if itself else _interval(row["gain_low"], row["gain_high"]),
                # without an interval there is no evidence of a gain either
                "explains": control in EXPLANATIONS and not row["gain_low"] > 0,
            }
        )
    return {
        "layer": int(best.probe["layer"]),
        "token": best.probe["token"],
        "metric": LABELS[metric],
        "rows": rows,
    }


def combination_rows(choices: pd.DataFrame) -> list[dict]:
    """Every combination of choices with what it reproduces, the best first.

    Claims that do not apply to a combination are not counted against it.
    """
    rows = []
    for keys, claims in choices.groupby(CHOICES, sort=False, dropna=False):
        shown = {name: _given(value) for name, value in zip(CHOICES, keys, strict=True)}
        verdicts = claims["verdict"]
        reproduced = int((verdicts == "reproduced").sum())
        missed = list(claims.loc[verdicts == "not reproduced", "claim"])
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
    # stable, so that equals stay in the order of the file
    return sorted(rows, key=lambda row: (-row["reproduced"], row["applicable"]))


def provenance(manifest: dict) -> dict:
    """What the manifest says, made ready for the page; what it lacks is left out.

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
        ("Compared with", _flat_model(manifest.get("compared_with") or {})),
        ("Data set", _dataset(config.get("dataset"))),
        *(("Run on", text) for text in _ran_on(stages)),
        ("Written with", " ".join(str(written[k]) for k in ("python", "platform") if k in written)),
        ("Code", _code(project)),
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


def _flat_model(model: Mapping) -> str:
    """Name and revision of the checkpoint that weights are compared with."""
    return ", ".join(str(model[key]) for key in ("name", "revision") if model.get(key))


def _ran_on(stages: Mapping[str, dict]) -> list[str]:
    """What stages ran the model on, each kind once, with its stages where they differ."""
    kinds: dict[str, list[str]] = {}
    for rule, stage in stages.items():
        for kind in stage.get("ran_on") or []:
            text = _flat({key: value for key, value in kind.items() if key != "files"})
            if rule not in kinds.setdefault(text, []):
                kinds[text].append(rule)
    if len(kinds) == 1:
        return list(kinds)
    return [f"{text} ({', '.join(rules)})" for text, rules in kinds.items()]


def _code(project: dict) -> str:
    """llm-figures 0.1.0 (commit 0123456789ab, with uncommitted changes)"""
    text = " ".join(str(project[key]) for key in ("name", "version") if project.get(key))
    if commit := project.get("commit"):
        changes = ", with uncommitted changes" if project.get("uncommitted_changes") else ""
        text += f" (commit {commit[:12]}{changes})"
    return text


def _shown(picture: Picture, model: str) -> dict:
    """A picture for the template. The PNG is in the page once: the link to it is made by script."""
    png = picture.files["png"]
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    caption = picture.caption.strip()
    return {
        "name": picture.name,
        "png": _data_uri(png, "png"),
        "width": width,
        "height": height,
        "alt": re.split(r"(?<=[.!?])\s", caption, maxsplit=1)[0],
        "caption": caption,
        "panels": picture.panels,
        "files": [
            {
                "format": kind,
                "name": f"{model}_{picture.name}.{kind}",
                "uri": None if kind == "png" else _data_uri(picture.files[kind], kind),
                "size": format_bytes(len(picture.files[kind])),
            }
            for kind in ("pdf", "svg", "png")
        ],
    }


def _data_links(data: Data, name: str) -> dict:
    """{links: files put into the page, left_out: what is too large for that, or None}."""
    if len(data.parquet) > MOST_DATA:
        size = format_bytes(len(data.parquet))
        return {"links": [], "left_out": f"The data ({size}) are too large for a page: {data.path}"}
    csv = data.frame.to_csv(index=False, float_format="%.7g").encode()
    files = {"parquet": data.parquet}
    if len(csv) <= PLAIN_CSV:
        files["csv"] = csv
    else:
        files["csv.gz"] = gzip.compress(csv, mtime=0)  # the same bytes on another day
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
    return {"links": links, "left_out": "As CSV too large for a page." if too_large else None}


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode('ascii')}"


def _source_hash(text: str) -> str:
    """A source of the page's content security policy: this very text and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _given(value: Any) -> Any:
    """None for every kind of missing value."""
    return None if value is None or pd.isna(value) else value


def _expected(claim: dict) -> str:
    """What the value is compared with; empty where there is none."""
    if _given(claim["threshold"]) is None:
        return ""
    return threshold_text(claim["comparison"], claim["threshold"], claim["threshold_high"])


def _interval(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{three_decimals(low)}, {three_decimals(high)}]"


def _with_choice(value: Any, choice: Any) -> str:
    return str(value) if choice is None or str(choice) == str(value) else f"{value} ({choice})"


def _flat(value: Any) -> str:
    """One line of whatever JSON holds."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return "" if value is None else str(value)


def _dataset(dataset: dict | str | None) -> str:
    """Where the questions came from."""
    if not isinstance(dataset, dict):
        return dataset or ""
    source = dataset.get("source") or ("path" if dataset.get("path") else "facts")
    kept = {
        "path": ("path", "hold_out"),
        "hub": ("repo", "revision", "file"),
    }.get(source, ("name",))
    parts = [str(dataset[key]) for key in kept if dataset.get(key)]
    return ", ".join(parts) + (" (built in)" if source == "facts" else "")


def _hashes(model: Any, name: str = "") -> list[tuple[str, str]]:
    """Everything in the model's info that looks like a SHA-256, with the keys that lead to it."""
    if isinstance(model, dict):
        label = model.get("file") or model.get("path")
        found = []
        for key, part in model.items():
            if key != "entry":  # repeats what the model info says itself
                own = label if key.endswith("sha256") and label else str(key)
                found += _hashes(part, own)
        return list(dict.fromkeys(found))
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
