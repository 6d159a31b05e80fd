"""Files of questions: their paths, columns and rows.

Imported while the Snakefile is read, so heavy libraries are imported where they are used.
"""

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from llm_figures.core.errors import UserError
from llm_figures.core.text_files import json_rows, text_lines
from llm_figures.questions.options import Dataset

KINDS = (".csv", ".jsonl", ".parquet", ".tsv")
# The columns of a JSONL file are the keys of its first rows: a null is often left out.
SAMPLE = 100


class QuestionFile(NamedTuple):
    """A file of questions on this machine.

    name: its name; on the hub, its path in the repository.
    shown: its name in messages.
    key: the option of `dataset` that names it.
    """

    path: Path
    name: str
    shown: str
    key: str

    @property
    def where(self) -> str:
        """The beginning of messages about the whole file."""
        return f"config: dataset.{self.key}: {self.shown}"


def find_question_files(dataset: Dataset, held_out: bool = False) -> list[QuestionFile]:
    """The files of the training questions, or those of the held-out ones.

    dataset: resolved, of source path or hub; files of the hub are downloaded unless cached.

    Raises:
        UserError: see `hub.fetch_files`.
    """
    if dataset.source == "path":
        key = "hold_out" if held_out else "path"
        path = Path(getattr(dataset, key))
        return [QuestionFile(path, path.name, str(path), key)]

    from llm_figures.models.hub import fetch_files

    key = "hold_out" if held_out else "file"
    where = f"config: dataset.{key}: {dataset.repo} at revision {dataset.revision}"
    files = fetch_files(
        dataset.repo, dataset.revision, getattr(dataset, key), where, kind="dataset"
    )
    return [
        QuestionFile(path, name, f"{dataset.repo}: {name}", key) for name, path in files.items()
    ]


def column_problems(dataset: Dataset, file: QuestionFile) -> Iterator[str]:
    """One line for each column that `dataset` names and `file` lacks; one if it is unreadable."""
    try:
        columns = read_columns(file)
    except UserError as error:
        yield str(error)
        return
    for key, column in dataset.columns().items():
        if column not in columns and _outer(column, file) not in columns:
            yield (
                f"config: dataset.{key}: {file.shown} has no column {column!r}; "
                f"it has: {', '.join(columns)}"
            )
        elif columns.count(column) > 1:
            yield f"config: dataset.{key}: {file.shown} has more than one column {column!r}"


def read_columns(file: QuestionFile) -> list[str]:
    """Column names of a CSV, TSV, JSONL or Parquet file; only its beginning is read.

    Raises:
        UserError: a file that is missing, empty, damaged or of another kind.
    """
    path, where = file.path, file.where
    with _readable(path, where):
        match path.suffix.lower():
            case ".csv" | ".tsv":
                columns = next(_records(path, where), (0, []))[1]
            case ".jsonl":
                rows = islice(json_rows(path, where), SAMPLE)
                columns = list(dict.fromkeys(chain.from_iterable(rows)))
            case _:
                import pyarrow.parquet as pq

                columns = pq.read_schema(path).names
    if not columns:
        raise UserError(f"{where}: is empty")
    return columns


def read_rows(file: QuestionFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield each row as {column: value}, the value's type unchanged.

    Cells of CSV and TSV files are text. A key that a JSONL row lacks is None. In JSONL and Parquet
    "answer.aliases" is the field aliases of the column answer.

    Raises:
        UserError: a row that cannot be read, by its line where it has one.
    """
    path, where = file.path, file.where
    with _readable(path, where):
        match path.suffix.lower():
            case ".csv" | ".tsv":
                records = _records(path, where)
                _, header = next(records)
                for line, cells in records:
                    if len(cells) != len(header):
                        raise UserError(
                            f"{where}: line {line}: {len(cells)} cell(s) under a header of "
                            f"{len(header)}; quote a cell that holds the separator"
                        )
                    row = dict(zip(header, cells, strict=True))
                    yield {column: row[column] for column in columns}
            case ".jsonl":
                for row in json_rows(path, where):
                    yield {column: _field(row, column) for column in columns}
            case _:
                import pyarrow.parquet as pq

                with pq.ParquetFile(path) as table:
                    for batch in table.iter_batches(columns=columns):
                        for row in batch.to_pylist():
                            yield {column: _field(row, column) for column in columns}


def _outer(column: str, file: QuestionFile) -> str:
    """The column of which "answer.aliases" is a field, in kinds of files that have fields."""
    nested = file.path.suffix.lower() in (".jsonl", ".parquet")
    return column.split(".")[0] if nested else column


def _field(row: dict[str, Any], column: str) -> Any:
    if column in row or "." not in column:
        return row.get(column)
    outer, inner = column.split(".", 1)
    value = row.get(outer)
    return _field(value, inner) if isinstance(value, dict) else None


@contextmanager
def _readable(path: Path, where: str) -> Iterator[None]:
    """Turn errors of opening and decoding a file into one line."""
    kind = path.suffix.lower()
    try:
        if path.is_dir():
            raise UserError(f"{where}: is a folder; name a file in it")
        if not path.is_file():
            raise UserError(f"{where}: no such file")
        if kind not in KINDS:
            raise UserError(f"{where}: unknown kind {kind!r}; allowed: {', '.join(KINDS)}")
        yield
    except (OSError, ValueError, NotImplementedError) as error:  # Arrow's errors are among them
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{where}: cannot be read: {reason}") from None


def _records(path: Path, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) of every record of a CSV or TSV file, the header first."""
    csv.field_size_limit(sys.maxsize)  # a cell may hold a long context
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(text_lines(path, where), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{where}: line {line}: {error}; check the quotes of the row that begins there"
        ) from None
