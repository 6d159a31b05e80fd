"""Runs of one model share the results that they make in the same way.

A named run has a folder of its own, results/{model}@{run}. Before its jobs are planned, files that
it lacks are linked from the model's other folders, each with its record. Snakemake then compares
their options, code and inputs with those of this run, as it does for any file, and makes again what
differs.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from graphlib import TopologicalSorter
from pathlib import Path

from llm_figures.core.atomic_files import whole_file, write_text
from llm_figures.core.errors import UserError
from llm_figures.core.records import Record, read_record, record_path
from llm_figures.provenance.outdated import read_records

# What is shared: model.json, and Parquet files in these folders. Figures and pages name their run,
# and other files say what it made.
STAGES = ("forward", "attention", "probe", "modules", "claims", "datasets")
MODEL_INFO = "model.json"


def find_other_runs(results: Path, model: str, folder: str) -> list[Path]:
    """The folders of a model's other runs, that without a name first.

    results: the folder of all models. folder: the name of this run's.
    """
    named = sorted(path for path in results.glob("*@*") if path.name.startswith(f"{model}@"))
    every = [results / model, *named]
    return [path for path in every if path.name != folder and _name_of(path) == model]


def share_results(folder: Path, others: Iterable[Path], own: Collection[str] = ()) -> list[str]:
    """Link what `folder` lacks from other runs of the model, with the records.

    own: files, relative to the folder, that are made only where they are asked for.

    Files are linked where the file system allows it, and copied elsewhere. A job that makes a file
    again makes a new one, so the other run keeps its own. A file that was deleted here, and of
    which the record is left, stays deleted; of one that was deleted there the record is taken over.
    A file comes only with all that it was made from.

    Returns the files that are new in the folder.

    Raises:
        UserError: the folder cannot be written to.
    """
    shared: list[str] = []
    try:
        for other in others:
            shared += _share_from(other, folder, own)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
    return shared


def _share_from(other: Path, folder: Path, own: Collection[str]) -> list[str]:
    shared = []
    records = read_records(other)
    order = TopologicalSorter({file: [*record.inputs] for file, record in records.items()})
    for file in order.static_order():
        record = records.get(file)
        if record is None or record.superseded:
            continue
        inside = Path(file).relative_to(other)
        target = folder / inside
        if not _is_shared(inside, own):
            continue
        if target.exists() or record_path(target, folder).exists():
            continue
        if not all(_is_there(one, records, other, folder) for one in record.inputs):
            continue
        if Path(file).exists():
            if not record.describes(Path(file), Path(file).stat()):
                continue
            _link(Path(file), target)
            shared.append(str(target))
        moved = _move(record, other, folder)
        write_text(record_path(target, folder), json.dumps(asdict(moved), sort_keys=True) + "\n")
    return shared


def _is_shared(file: Path, own: Collection[str]) -> bool:
    """file: relative to the model's folder."""
    if file.as_posix() in own:
        return False
    return file.as_posix() == MODEL_INFO or (file.parts[0] in STAGES and file.suffix == ".parquet")


def _is_there(file: str, records: Mapping[str, Record], other: Path, folder: Path) -> bool:
    """Whether an input of the other run is the same in the folder, made or deleted."""
    if other not in Path(file).parents:
        return True  # common to both, such as the user's questions
    target = folder / Path(file).relative_to(other)
    here, there = read_record(record_path(target, folder)), records.get(file)
    if here is None or there is None:
        return False
    return (here.params, here.sha256) == (there.params, there.sha256)


def _name_of(folder: Path) -> str | None:
    """The model's name in model.json, which is the same in all of its runs."""
    try:
        return json.loads((folder / "model.json").read_bytes())["name"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


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
