"""Give Snakemake back what it knew of results, from the records beside them.

Snakemake compares a file's params and inputs with those in `.snakemake`, and takes a file of which
it knows nothing for up to date. Where the working directory lost that folder, or results were
brought in from elsewhere, its own records are written again from ours. A file of which nobody knows
what it was made from gets one that matches no job, so that it is made again.
"""

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord, PersistenceBase

from llm_figures.core.errors import UserError
from llm_figures.core.records import RECORDS, Record
from llm_figures.core.versions import find_other_versions
from llm_figures.provenance.outdated import find_replaced_input, read_records

# Params that no job has. Snakemake shows them as the reason why a file is made again.
UNKNOWN = "'made from nobody knows what'"
EARLIER = "'made from an earlier "
VERSIONS = "'made with other versions: "
# Files that no job reads, which may be edited: figures, their captions, and pages.
EDITABLE = (".pdf", ".svg", ".png", ".txt", ".md")
# Folders in a model's folder without results.
BESIDE = {RECORDS, "logs", "benchmarks"}


@dataclass
class _Findings:
    """What is to be told: files without a record, packages of other versions, and whole lines."""

    unknown: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


def restore_records(
    folders: Iterable[Path],
    is_output: Callable[[str], bool],
    persistence: PersistenceBase,
    strict: bool | None,
) -> list[str]:
    """Write Snakemake's records of the results in `folders` where they are missing or out of step.

    is_output: whether a rule makes a file. strict: whether files that were made with other versions
    of the packages than are installed are to be made again; None does not compare versions, where
    jobs have environments of their own.

    Returns lines for the terminal.
    """
    files, records = {}, {}
    for folder in folders:
        files |= {str(path): path.stat() for path in _walk(folder)}
        records |= read_records(folder)
    every = {*files, *records}
    found = _Findings()
    for file in sorted(every - persistence._filter_incomplete_keys(every)):
        known, record = persistence._read_record(file), records.get(file)
        if record is None:
            # Snakemake's own record may be of a file that another replaced
            replaced = known is None or not _of_this_file(known, files[file])
            if not replaced or not is_output(file):
                continue
            found.unknown.append(file)
            wanted = _unknown(files[file])
        else:
            if known is not None and (_is_marked(known) or record.superseded):
                known = None  # it may be known by now, or is that of a job that failed
            wanted = _compare(file, files.get(file), record, known, records, found)
            if wanted is not None:
                wanted = _with_versions(wanted, record, strict, found)
        if wanted is not None and wanted != known:
            persistence._write_record(file, wanted)
    return _describe(found, strict)


def _compare(
    file: str,
    stat: os.stat_result | None,
    record: Record,
    known: MetadataRecord | None,
    records: Mapping[str, Record],
    found: _Findings,
) -> MetadataRecord | None:
    """What Snakemake is to know of a file that has a record; None to leave it as it is.

    stat: None for a file that was deleted. known: what Snakemake knows.
    """
    if known is not None and (stat is None or _of_this_file(known, stat)):
        # whoever touched a file, by --touch, takes it as it is
        earlier = None if _is_touched(known, record) else find_replaced_input(record, records)
        return _outdated(known, earlier) if earlier else known
    if stat is None or record.describes(Path(file), stat):
        earlier = find_replaced_input(record, records)
        restored = _restored(record, record.mtime_ns / 1e9 if stat is None else stat.st_mtime)
        return _outdated(restored, earlier) if earlier else restored
    if file.endswith(".parquet"):
        from llm_figures.core.parquet_seal import check_seal  # pyarrow, which is seldom needed

        try:
            check_seal(file)
        except UserError as error:
            if known is not None:  # whoever reads the file refuses it
                found.lines.append(str(error))
                return None
        except (OSError, ValueError):
            if known is not None:
                return None
    elif known is not None and file.endswith(EDITABLE):
        found.lines.append(
            f"{file} was edited or replaced after it was made, and is kept; remove it to have it "
            "made again"
        )
        return None
    found.lines.append(f"{file} is not the file that its record describes; it is made again")
    return _unknown(stat)


def _with_versions(
    known: MetadataRecord, record: Record, strict: bool | None, found: _Findings
) -> MetadataRecord:
    """The same, marked if the file was made with other versions and these matter."""
    other = {} if strict is None else find_other_versions(record.versions)
    now = [f"{name} {then}, now {now}" for name, (then, now) in sorted(other.items())]
    found.versions.update(now)
    marks = [f"{VERSIONS}{'; '.join(now)}'"] if now and strict else []
    params = [param for param in known.params or [] if not param.startswith(VERSIONS)]
    return known.model_copy(update={"params": sorted([*params, *marks])})


def _is_touched(known: MetadataRecord, record: Record) -> bool:
    """Whether Snakemake took a file for one of another job than made it."""
    params = [param for param in known.params or [] if not param.startswith(VERSIONS)]
    return sorted(params) != sorted(record.params) or set(known.input or []) != set(record.inputs)


def _of_this_file(known: MetadataRecord, stat: os.stat_result) -> bool:
    """Whether Snakemake's record is of this file, not of one that was here before."""
    return known.endtime is not None and abs(known.endtime - stat.st_mtime) < 1e-3


def _restored(record: Record, endtime: float) -> MetadataRecord:
    return MetadataRecord(
        rule=record.rule,
        input=sorted(record.inputs),
        log=record.log,
        params=record.params,
        record_format_version=RECORD_FORMAT_VERSION,
        job_hash=zlib.crc32("\n".join(record.log).encode()),  # one for all files of a job
        starttime=endtime,
        endtime=endtime,
        incomplete=False,
        input_checksums={
            file: f"sha256:{digest}" for file, digest in record.inputs.items() if digest
        },
    )


def _outdated(known: MetadataRecord, earlier: str) -> MetadataRecord:
    return known.model_copy(update={"params": [f"{EARLIER}{earlier}'"]})


def _is_marked(known: MetadataRecord) -> bool:
    return any(param.startswith((UNKNOWN, EARLIER)) for param in known.params or [])


def _unknown(stat: os.stat_result) -> MetadataRecord:
    return MetadataRecord(
        params=[UNKNOWN],
        record_format_version=RECORD_FORMAT_VERSION,
        starttime=stat.st_mtime,
        endtime=stat.st_mtime,
        incomplete=False,
    )


def _describe(found: _Findings, strict: bool | None) -> list[str]:
    lines = list(found.lines)
    if found.unknown:
        lines.append(
            f"{len(found.unknown)} results have no record of what they were made from and are made "
            f"again where they are needed ({found.unknown[0]}, …)"
        )
    if found.versions:
        which = "; ".join(f"{what}: {count}" for what, count in sorted(found.versions.items()))
        what = (
            "made again" if strict else "used as they are (strict_versions: true makes them again)"
        )
        lines.append(f"results of other versions than are installed are {what}: {which} files")
    return lines


def _walk(folder: Path) -> Iterator[Path]:
    """The files of results in a model's folder."""
    for path in _entries(folder):
        if path.is_dir():
            if path.name not in BESIDE:
                yield from _walk_all(path)
        else:
            yield path


def _walk_all(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        if path.is_dir():
            yield from _walk_all(path)
        else:
            yield path


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden entries, as partial files are."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names, not paths)
    except OSError:
        return []
    return [folder / name for name in names if not name.startswith(".")]
