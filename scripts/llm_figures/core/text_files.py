"""Read text, JSON, JSON Lines and YAML. Errors name the line; a user's YAML is read safely."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from llm_figures.core.errors import UserError
from llm_figures.core.text_checks import value_problems

# Problems that PyYAML finds long after their cause.
_AT_END = re.compile(r"end of stream|<stream end>|could not find expected")
# libyaml, if PyYAML is built with it, takes a tenth of the time.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_lines(path: Path, where: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, with or without a byte-order mark.

    A file that gzip has compressed is known by its first bytes, whatever its name.

    where: how messages begin.

    Raises:
        UserError: a line that is not UTF-8, a compressed file that is damaged.
        OSError: a file that cannot be opened.
    """
    number = 0
    with open_binary(path) as binary:
        # Bytes that are not UTF-8 become lone surrogates, which no valid text contains, so that
        # the line is known without reading beyond it.
        file = io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="")
        try:
            for number, line in enumerate(file, start=1):
                try:
                    line.encode()
                except UnicodeEncodeError:
                    raise UserError(
                        f"{where}: line {number} is not UTF-8; save the file in this encoding"
                    ) from None
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"{where}: the compressed file is damaged after line {number}: {error}; "
                "compress or copy it again"
            ) from None


def open_binary(path: Path) -> IO[bytes]:
    """Open a file's content, decompressed if gzip has compressed it.

    Raises:
        OSError: a file that cannot be opened.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


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
        # A whole array under the name of JSON Lines, in one line or in several.
        hint = "; name a file that is one array .json" if line.lstrip().startswith("[") else ""
        try:
            row = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            raise UserError(
                f"{where}: line {number}: {error.msg} (column {error.colno}){hint}"
            ) from None
        except ValueError as error:
            raise UserError(f"{where}: line {number}: {error}") from None
        except RecursionError:
            raise UserError(f"{where}: line {number} is nested too deeply") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: line {number} is not a JSON object{hint}")
        _check_texts(row, f"{where}: line {number}")
        yield row


def read_json_rows(path: Path, where: str) -> list[dict]:
    """The objects of a JSON file: an array, or the only array within one object.

    JSON Lines under the name of JSON are read, too.

    where: how messages begin.

    Raises:
        UserError: damaged JSON, or JSON of another form.
        OSError: a file that cannot be opened.
    """
    text = "".join(read_lines(path, where))
    if not text.strip():
        return []
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        first = text[: error.pos].strip()
        if error.msg == "Extra data" and first.startswith("{") and "\n" not in first:
            return list(read_json_lines(path, where))
        raise UserError(
            f"{where}: line {error.lineno}: {error.msg} (column {error.colno})"
        ) from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    except RecursionError:
        raise UserError(f"{where}: is nested too deeply") from None
    rows = _find_rows(content, where)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{where}: item {number} of the array is not a JSON object")
        _check_texts(row, f"{where}: item {number} of the array")
    return rows


def _check_texts(row: dict, where: str) -> None:
    """Refuse halves of characters, which JSON can spell."""
    if problem := next(value_problems(row), None):
        raise UserError(f"{where}: {problem}")


def _find_rows(content: Any, where: str) -> list:
    """The array of rows in the content of a JSON file."""
    if isinstance(content, list):
        return content
    save = "save an array of objects, as pandas does with orient='records'"
    if not isinstance(content, dict):
        raise UserError(f"{where}: is one JSON value; {save}")
    arrays = {
        key: value
        for key, value in content.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    }
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if arrays:
        raise UserError(
            f"{where}: is an object with several arrays of objects: {', '.join(arrays)}; {save}"
        )
    columns = all(isinstance(value, dict | list) for value in content.values())
    what = "an object of columns, not of rows" if content and columns else "one object"
    raise UserError(f"{where}: is {what}; {save}")


def describe_yaml_error(error: yaml.YAMLError) -> str:
    """One line for an error of PyYAML: line, column and what is wrong there."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or mark is None:
        return " ".join(str(error).split())[:200]
    if "'\\t'" in problem:
        problem = "a tab; indent with spaces"
    elif error.context_mark is not None and _AT_END.search(problem):
        # what began there goes on to the end of the file, or of the line
        mark = error.context_mark
        if "stream" in problem:
            problem = f"{re.sub(r'while (scanning|parsing) ', '', error.context)} is not closed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


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
