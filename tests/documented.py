"""The columns that docs/files.md names for every file of results."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.parquet as pq

PAGE = Path(__file__).resolve().parent.parent / "docs" / "files.md"


def read_columns() -> dict[str, list[str]]:
    """{pattern of paths: patterns of the columns of such a file}."""
    columns: dict[str, list[str]] = {}
    _, *sections = re.split(r"^#{2,3} ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for section in sections:
        heading, *lines = section.splitlines()
        own = []
        for line in lines:
            if line.startswith("Also the columns of"):
                tables, _, without = line.partition(", without ")
                own += [name for path in _names(tables) for name in columns[path]]
                own = [name for name in own if name not in _names(without)]
            elif line.startswith("| `"):
                own += _names(line.split("|")[1])
        columns |= dict.fromkeys(_names(heading), own)
    return columns


def find_differences(results: Path) -> dict[str, list[str]]:
    """{file: its columns that are not on the page, and those of the page that it lacks}."""
    documented, found = read_columns(), {}
    for path in sorted(results.rglob("*.parquet")):
        name = re.sub(r"^datasets/[^/]+/", "", path.relative_to(results).as_posix())
        own = next((columns for known, columns in documented.items() if fnmatch(name, known)), [])
        there = pq.read_schema(path).names
        extra = [one for one in there if not any(fnmatch(one, known) for known in own)]
        absent = [known for known in own if not any(fnmatch(one, known) for one in there)]
        if extra or absent:
            found[name] = [*extra, *(f"no {known}" for known in absent)]
    return found


def _names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)
