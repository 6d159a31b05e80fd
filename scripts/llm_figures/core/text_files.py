"""Text, JSON Lines and YAML files: errors name the line, and a user's YAML is read without risk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llm_figures.core.errors import UserError

# libyaml takes a tenth of the time, where PyYAML is built with it.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def text_lines(path: Path, where: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, with or without a byte-order mark.

    where: how messages begin.

    Raises:
        UserError: a line that is not UTF-8.
        OSError: a file that cannot be opened.
    """
    # Bytes that are no UTF-8 arrive as lone surrogates, which no valid text holds: so the line is
    # known, and nothing beyond it has to be read.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"{where}: line {number} is not UTF-8; save the file in this encoding"
                ) from None
            yield line


def json_rows(path: Path, where: str) -> Iterator[dict]:
    """The objects of a JSONL file, one a line; blank lines are skipped.

    where: how messages begin.

    Raises:
        UserError: a line that is no JSON object.
        OSError: a file that cannot be opened.
    """
    for number, line in enumerate(text_lines(path, where), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
            json.dumps(row, ensure_ascii=False).encode()  # "\ud800" is JSON, but no text
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: line {number}: {error.msg} (column {error.colno})") from None
        except ValueError as error:
            raise UserError(f"{where}: line {number}: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: line {number} is no JSON object")
        yield row


def users_yaml(path: Path) -> Any:
    """The content of any file.

    Raises:
        OSError, ValueError, RecursionError, yaml.YAMLError: it cannot be read.
    """
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def own_yaml(path: Path) -> Any:
    """The content of a file of the project. libyaml crashes on one that is nested too deeply.

    Raises: what `users_yaml` does, which quotes the place.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _FAST)
    except yaml.YAMLError:
        return users_yaml(path)
