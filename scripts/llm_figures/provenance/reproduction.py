"""Compare the results of two runs file by file, to the byte.

    python -m llm_figures.provenance.reproduction first/results second/results

The shards of a stage hold the same rows whatever their number; where the runs differ in it, shards
are compared row by row.
"""

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_table, read_tensors

KINDS = {".parquet", ".pdf", ".svg", ".png", ".txt", ".md"}
PANELS = ".panels.json"
SHARD = re.compile(r"\d+-of-(\d+)\.parquet")

SAME_BYTES = "the same bytes"
SAME_ROWS = "the same rows in other shards"


def compare_runs(first: Path, second: Path) -> dict[str, str]:
    """{file, or folder of shards: how the two runs agree, or what differs}.

    Compared are Parquet files, figures, captions and pages. Descriptions of the run itself (logs,
    times, the manifest, the location of the model) are not.

    Raises:
        UserError: a folder has no results, or a file is damaged.
    """
    outputs = [_outputs(folder) for folder in (first, second)]
    for folder, names in zip((first, second), outputs, strict=True):
        if not names:
            raise UserError(f"{folder}: no results there")
    return {
        name: _agreement(*(names.get(name) for names in outputs))
        for name in sorted(set().union(*outputs))
    }


def _outputs(folder: Path) -> dict[str, list[Path]]:
    """{name: files}; shards are listed under their folder's name, other files under their own."""
    outputs: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix not in KINDS and not path.name.endswith(PANELS):
            continue
        if {"logs", "benchmarks"} & set(inside.parts) or path.name.startswith("."):
            continue
        shard = SHARD.fullmatch(path.name)
        name = f"{inside.parent.as_posix()}/" if shard else inside.as_posix()
        outputs.setdefault(name, []).append(path)
    return outputs


def _agreement(first: list[Path] | None, second: list[Path] | None) -> str:
    if first is None or second is None:
        return f"only in the {'second' if first is None else 'first'} run"
    if [path.name for path in first] == [path.name for path in second] and all(
        sha256(one) == sha256(other) for one, other in zip(first, second, strict=True)
    ):
        return SAME_BYTES
    if first[0].suffix != ".parquet":
        return "differs"
    tables = [pa.concat_tables(map(read_table, paths)) for paths in (first, second)]
    if SHARD.fullmatch(first[0].name):
        if _rows(tables[0]) == _rows(tables[1]):
            return SAME_ROWS
        tables = [_sorted(table) for table in tables]
    return f"differs: {_difference(*tables)}"


def _rows(table: pa.Table) -> list[bytes]:
    """A digest of each row, sorted."""
    columns = [
        read_tensors(table, field.name)
        if isinstance(field.type, pa.FixedShapeTensorType)
        else table[field.name].to_pylist()
        for field in table.schema
    ]
    digests = []
    for row in zip(*columns, strict=True):
        digest = hashlib.sha256()
        for value in row:
            is_array = isinstance(value, np.ndarray)
            digest.update(value.tobytes() if is_array else repr(value).encode())
        digests.append(digest.digest())
    return sorted(digests)


def _sorted(table: pa.Table) -> pa.Table:
    """The rows sorted by their keys, the columns of integers and strings."""
    keys = [
        field.name
        for field in table.schema
        if pa.types.is_integer(field.type)
        or pa.types.is_string(field.type)
        or pa.types.is_dictionary(field.type)
    ]
    order = table.select(keys).to_pandas().sort_values(keys, kind="stable").index
    return table.take(pa.array(order))


def _difference(first: pa.Table, second: pa.Table) -> str:
    """The columns in which two tables differ, and by how much."""
    if first.schema.names != second.schema.names:
        return "columns"
    if len(first) != len(second):
        return f"{len(first)} and {len(second)} rows"
    parts = []
    for field in first.schema:
        one, other = (_numbers(table, field) for table in (first, second))
        if one is None:
            values = [table[field.name].to_pylist() for table in (first, second)]
            count = sum(a != b for a, b in zip(*values, strict=True))
            parts += [f"{field.name} in {count} row(s)"] if count else []
        elif not np.array_equal(one, other, equal_nan=True):
            distance = np.nanmax(np.abs(one - other), initial=0)
            parts.append(f"{field.name} by at most {distance:.1e}")
    return ", ".join(parts) or "the same values, stored differently"


def _numbers(table: pa.Table, field: pa.Field) -> np.ndarray | None:
    if isinstance(field.type, pa.FixedShapeTensorType):
        return read_tensors(table, field.name).astype(float)
    if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
        return table[field.name].to_numpy().astype(float)
    return None


def summarise(agreements: dict[str, str]) -> tuple[int, str]:
    """Exit status and text for the terminal: the files that differ, and how many agree.

    agreements: as from `compare_runs`.
    """
    lines = [f"{name}: {how}" for name, how in agreements.items() if how != SAME_BYTES]
    counts = Counter(agreements.values())
    differing = len(agreements) - counts[SAME_BYTES] - counts[SAME_ROWS]
    lines.append(
        f"{counts[SAME_BYTES]} of {len(agreements)} outputs have the same bytes, "
        f"{counts[SAME_ROWS]} the same rows in other shards, {differing} differ"
    )
    return int(differing > 0), "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Compare the two folders named on the command line; returns 0 if all files agree."""
    if len(arguments) != 2:
        print("usage: two folders of results", file=sys.stderr)
        return 2
    try:
        status, text = summarise(compare_runs(*map(Path, arguments)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
