"""JSON lines, read with errors that name the line."""

import json
from collections.abc import Iterator
from pathlib import Path

from llm_figures.errors import UserError


def json_rows(path: Path) -> Iterator[dict]:
    """The objects of a JSONL file, one a line; blank lines are skipped.

    Raises:
        UserError: a line that is no JSON object.
    """
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"dataset.path: {path}: line {number}: {error}") from None
            if not isinstance(row, dict):
                raise UserError(f"dataset.path: {path}: line {number} is no JSON object")
            yield row
