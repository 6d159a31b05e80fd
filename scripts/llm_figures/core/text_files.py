"""Read text, JSON Lines and YAML. Errors name the line; a user's YAML is read safely."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llm_figures.core.errors import UserError

# libyaml, if PyYAML is built with it, takes a tenth of the time.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_lines(path: Path, where: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, with or without a byte-order mark.

    where: how messages begin.

    Raises:
        UserError: a line that is not UTF-8.
        OSError: a file that cannot be opened.
    """
    # Bytes that are not UTF-8 become lone surrogates, which no valid text contains, so that the
    # line is known without reading beyond it.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"{where}: line {number} is not UTF-8; save the file in this encoding"
                ) from None
            yield line


def read_json_lines(path: Path, where: str) -> Iterator[dict]:
    """The objects of a JSON Lines file; blank lines are skipped.

    where: how messages begin.

    Raises:
        UserError: a line that is not a JSON object.
        OSError: a file that cannot be opened.
    """
    for number, line in enumerate(read_lines(path, where), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.rstrip())
            json.dumps(row, ensure_ascii=False).encode()  # "\ud800" is JSON, but not text
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: line {number}: {error.msg} (column {error.colno})") from None
        except ValueError as error:
            raise UserError(f"{where}: line {number}: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: line {number} is not a JSON object")
        yield row


def read_user_yaml(path: Path) -> Any:
    """Read any YAML file.

    Raises:
        OSError, ValueError, RecursionError, yaml.YAMLError: it cannot be read.
    """
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_project_yaml(path: Path) -> Any:
    """Read a YAML file of the project with libyaml, which crashes on files nested too deeply.

    Raises: as `read_user_yaml`, whose errors quote the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _FAST)
    except yaml.YAMLError:
        return read_user_yaml(path)
