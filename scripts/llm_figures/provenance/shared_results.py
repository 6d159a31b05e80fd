"""Runs of one model share the results that they make in the same way.

A named run has a folder of its own, results/{model}@{run}. Before its jobs are planned, files that
it lacks are linked from the model's other folders, each with its record. Snakemake then compares
their options, code and inputs with those of this run, as it does for any file, and makes again what
differs.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from llm_figures.core.atomic_files import whole_file, write_text
from llm_figures.core.records import Record, record_path
from llm_figures.provenance.outdated import read_records

# Figures, captions and pages name their run, and a user may edit them.
OWN = (".pdf", ".svg", ".png", ".txt", ".md", ".html", ".zip")


def find_other_runs(results: Path, model: str, folder: str) -> list[Path]:
    """The folders of a model's other runs, that without a name first.

    results: the folder of all models. folder: the name of this run's.
    """
    named = sorted(path for path in results.glob("*@*") if path.name.startswith(f"{model}@"))
    every = [results / model, *named]
    return [path for path in every if path.name != folder and _name_of(path) == model]


def share_results(folder: Path, others: Iterable[Path]) -> list[str]:
    """Link what `folder` lacks from other runs of the model, with the records.

    Files are linked where the file system allows it, and copied elsewhere. A file that a job makes
    again is a new one, so the other run keeps its own. A file that was deleted, and of which the
    record is left, stays deleted.

    Returns the files that are new in the folder.
    """
    shared = []
    for other in others:
        for record in read_records(other).values():
            source = Path(record.file)
            target = folder / source.relative_to(other)
            if target.name.endswith(OWN) or target.exists() or record_path(target, folder).exists():
                continue
            if not _is_described(source, record):
                continue
            _link(source, target)
            moved = _move(record, other, folder)
            write_text(
                record_path(target, folder), json.dumps(asdict(moved), sort_keys=True) + "\n"
            )
            shared.append(str(target))
    return shared


def _name_of(folder: Path) -> str | None:
    """The model's name in model.json, which is the same in all of its runs."""
    try:
        return json.loads((folder / "model.json").read_bytes())["name"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_described(path: Path, record: Record) -> bool:
    try:
        return record.describes(path, path.stat())
    except OSError:
        return False


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        with whole_file(target) as partial:
            shutil.copy2(source, partial)


def _move(record: Record, before: Path, now: Path) -> Record:
    """The record as it would be in another folder."""

    def moved(file: str) -> str:
        path = Path(file)
        return str(now / path.relative_to(before)) if before in path.parents else file

    return replace(
        record,
        file=moved(record.file),
        log=[moved(file) for file in record.log],
        inputs={moved(file): digest for file, digest in record.inputs.items()},
    )
