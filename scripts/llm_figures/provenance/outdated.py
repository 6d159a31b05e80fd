"""Results that were made from others of which there are newer ones."""

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from llm_figures.core.records import RECORDS, Record, read_record


def find_outdated(folders: Iterable[Path]) -> list[str]:
    """Files made from other results than are there now, themselves or what they were made from."""
    records: dict[str, Record] = {}
    for folder in folders:
        records |= read_records(folder)
    inputs = {file: [*records[file].inputs] for file in records}
    outdated: dict[str, None] = {}
    for file in TopologicalSorter(inputs).static_order():
        if file in records and (
            find_replaced_input(records[file], records)
            or any(earlier in outdated for earlier in inputs[file])
        ):
            outdated[file] = None
    return [file for file in records if file in outdated and Path(file).exists()]


def find_replaced_input(record: Record, records: Mapping[str, Record]) -> str | None:
    """An input whose own record is of other content than the one that was read, if there is one."""
    for file, digest in record.inputs.items():
        if digest and file in records and records[file].sha256 not in (None, digest):
            return file
    return None


def read_records(folder: Path) -> dict[str, Record]:
    """{file: its record} of a model's folder, without those of files elsewhere."""
    home = folder / RECORDS
    records = {}
    for path in sorted(home.rglob("[!.]*.json")):
        file = str(folder / path.relative_to(home).with_suffix(""))
        record = read_record(path)
        if record is not None and record.file == file:
            records[file] = record
    return records
