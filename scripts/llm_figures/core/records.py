"""Records: what each result was made from, beside the result.

Snakemake keeps this in the working directory, where it is lost when results are copied. So every
job writes results/{model}/records/{file}.json for each of its files, which goes wherever the folder
goes. `provenance.snakemake_records` gives Snakemake back from it what it has lost.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import stat_result
from pathlib import Path
from typing import Any

from llm_figures.core.atomic_files import write_text
from llm_figures.core.checksums import sha256
from llm_figures.core.versions import find_versions_in_use

# The folder of records, beside those of logs and benchmarks.
RECORDS = "records"
LOGS = "logs"
# Increased when a reader of the previous format would misread this one.
FORMAT = 1
# Larger files are known by their size alone; profiles/default/config.yaml has Snakemake's limit.
HASHED_BYTES = 600_000_000


# What each part of a record is.
KINDS = {
    **dict.fromkeys(("file", "rule"), str),
    **dict.fromkeys(("log", "params"), list),
    **dict.fromkeys(("inputs", "versions"), dict),
    **dict.fromkeys(("bytes", "mtime_ns"), int),
    "sha256": str | None,
    "facts": dict | None,
    "superseded": bool,
}


@dataclass(frozen=True)
class Record:
    """What one file was made from.

    file: the file, from the working directory. params: as Snakemake compares them. inputs: {file:
    sha256, null for a large one}. versions: {package: version} of what the job had imported.
    facts: what a Parquet file's rows were computed on, for when the file itself is deleted.
    superseded: whether a later job began to replace the file. It did not end, or failed and
    Snakemake put the file back: as a file of the later job, whose params it then has by mistake.
    """

    file: str
    rule: str
    log: list[str]
    params: list[str]
    inputs: dict[str, str | None]
    versions: dict[str, str]
    bytes: int
    mtime_ns: int
    sha256: str | None
    facts: dict | None = None
    superseded: bool = False
    format: int = FORMAT

    def describes(self, path: Path, found: stat_result) -> bool:
        """Whether the file at `path` is the one that was made."""
        if found.st_size != self.bytes:
            return False
        return (
            found.st_mtime_ns == self.mtime_ns or self.sha256 is None or sha256(path) == self.sha256
        )


@dataclass(frozen=True)
class Maker:
    """The job that this process runs.

    folder: results/{model}. made_from: a digest of its params. inputs: its input files. facts:
    {file: what its rows are computed on}, filled as files are written.
    """

    folder: Path
    rule: str
    made_from: str
    inputs: list[str]
    facts: dict[str, Mapping] = field(default_factory=dict)


# None in a notebook, where nobody says what a file is made from.
current: Maker | None = None


@contextmanager
def recorded(snakemake: Any) -> Iterator[None]:
    """Write a record of each file that the job `snakemake` makes in the block.

    Parquet files that are written in the block say whose they are (see `parquet_seal`).
    """
    global current
    folder = find_folder(snakemake.log[0])
    files = [file for file in snakemake.output if folder in Path(file).parents]
    for file in files:
        _supersede(Path(file), record_path(file, folder))
    params = serialise(snakemake.params)
    made_from = hashlib.sha256("\n".join(params).encode()).hexdigest()[:12]
    maker = current = Maker(folder, snakemake.rule, made_from, list(snakemake.input))
    try:
        yield
    finally:
        current = None
    if not files:
        return
    inputs = {file: _digest_input(Path(file)) for file in sorted(snakemake.input)}
    for file in files:
        stat = Path(file).stat()
        record = Record(
            file=file,
            rule=snakemake.rule,
            log=sorted(snakemake.log),
            params=params,
            inputs=inputs,
            versions=find_versions_in_use(),
            bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            sha256=sha256(Path(file)) if stat.st_size <= HASHED_BYTES else None,
            facts=maker.facts.get(file),
        )
        _write_record(record_path(file, folder), record)


def _supersede(file: Path, path: Path) -> None:
    """Mark the earlier record of a file, or remove it if Snakemake has removed the file."""
    record = read_record(path) if file.exists() else None
    if record is None:  # it would describe another file
        path.unlink(missing_ok=True)
    else:
        _write_record(path, replace(record, superseded=True))


def _write_record(path: Path, record: Record) -> None:
    write_text(path, json.dumps(vars(record), sort_keys=True) + "\n")


def list_earlier_files(snakemake: Any) -> list[str]:
    """Files of an earlier run that the job is to replace; Snakemake puts them back if it fails.

    Those of a rule with `update` outputs. Of other rules Snakemake removes them before the job.
    """
    return [file for file in snakemake.output if Path(file).exists()]


def keep_facts(file: str | Path, facts: Mapping | None) -> None:
    """Note what the rows of a file are computed on, for its record."""
    if current is not None and facts is not None:
        current.facts[str(file)] = facts


def find_folder(log: str | Path) -> Path:
    """The folder results/{model} of a job, from the path of its log."""
    return next((parent.parent for parent in Path(log).parents if parent.name == LOGS), Path())


def record_path(file: str | Path, folder: Path) -> Path:
    """Where the record of a file in `folder` is."""
    inside = Path(file).relative_to(folder)
    return folder / RECORDS / inside.with_name(f"{inside.name}.json")


def read_record(path: Path) -> Record | None:
    """The record at `path`; None if there is none, or one that is damaged or of another format."""
    try:
        record = Record(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    whole = all(isinstance(getattr(record, name), kind) for name, kind in KINDS.items())
    return record if whole else None


def serialise(params: Sequence) -> list[str]:
    """A job's params as Snakemake's own records have them."""
    return sorted(map(repr, params))


def _digest_input(path: Path) -> str | None:
    """The sha256 of an input: from its own record if it has one, as large ones take a second."""
    try:
        stat = path.stat()
    except OSError:  # deleted while the job ran
        return None
    for folder in path.parents:
        if (folder / RECORDS).is_dir():
            record = read_record(record_path(path, folder))
            if record and (record.bytes, record.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                return record.sha256
            break
    return sha256(path) if path.is_file() and stat.st_size <= HASHED_BYTES else None
