"""Describe a manifest in words: the model, data, versions, times and hashes of a run."""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes, format_duration
from llm_figures.core.numbers import minus_signs
from llm_figures.provenance.manifest import describe_versions


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
            "seconds": stage.get("seconds"),
            "time": format_duration(stage.get("seconds")),
            "memory_key": stage.get("max_memory_mb"),
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
