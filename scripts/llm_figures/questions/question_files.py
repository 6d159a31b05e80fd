"""Files of questions: their paths, columns and rows.

Imported while the Snakefile is read, so heavy libraries are imported where they are used.
"""

import csv
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from llm_figures.core.errors import UserError
from llm_figures.core.text_files import read_json_lines, read_json_rows, read_lines
from llm_figures.models.model_files import A_POINTER, is_lfs_pointer
from llm_figures.questions.cell_values import (
    is_printed,
    parse_list,
    parse_object,
    shorten_float,
    show_cell,
)
from llm_figures.questions.options import Dataset

KINDS = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
COMPRESSED = ".gz"
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

    @property
    def kind(self) -> str:
        """Its suffix, such as .csv, also of a compressed file."""
        return find_kind(self.path)


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
    named = dataset.columns().items()
    for key, column in (*named, *(("choices", column) for column in dataset.choice_columns())):
        if column not in columns and column.split(".")[0] not in columns:
            yield (
                f"config: dataset.{key}: {file.shown} has no column {column!r}; "
                f"it has: {', '.join(columns)}"
            )
        elif columns.count(column) > 1:
            yield f"config: dataset.{key}: {file.shown} has more than one column {column!r}"


def find_kind(path: Path) -> str:
    """The suffix of a file's name that says how it is read: .csv for questions.csv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]] or [""]
    if suffixes[-1] == COMPRESSED and len(suffixes) > 1 and suffixes[0] != ".parquet":
        return suffixes[0]
    return suffixes[-1]


def read_columns(file: QuestionFile) -> list[str]:
    """Column names of a file; but for JSON, only its beginning is read.

    Raises:
        UserError: a file that is missing, empty, damaged or of another kind.
    """
    path, where = file.path, file.where
    with _readable(path, where):
        match file.kind:
            case ".csv" | ".tsv":
                columns = next(_records(file), (0, []))[1]
            case ".parquet":
                import pyarrow.parquet as pq

                columns = pq.read_schema(path).names
            case _:
                rows = islice(_objects(file), SAMPLE)
                columns = list(dict.fromkeys(chain.from_iterable(rows)))
    if not columns:
        raise UserError(f"{where}: is empty")
    return columns


def read_rows(
    file: QuestionFile, columns: list[str], optional: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield each row as {column: value}, the value's type unchanged.

    Cells of CSV and TSV files are text. A key that a JSON row lacks is None. "answer.aliases" is
    the field aliases of an object in the column answer, or of each object in a list; the object may
    be written as text, in JSON or as Python prints it.

    optional: columns that the file need not have.

    Raises:
        UserError: a row that cannot be read, by its line where it has one; a field that no row has.
    """
    with _readable(file.path, file.where):
        misses: dict[str, Any] = {}  # by column: the first value without the field
        sought = {column for column in columns if column not in optional and "." in column}
        for row in _raw_rows(file, [*columns, *optional]):
            found = {}
            for column in (*columns, *optional):
                value, miss = _field(row, column)
                found[column] = value
                if column in sought:
                    if miss is None:
                        if value is not None:
                            sought.remove(column)
                    else:
                        misses.setdefault(column, miss)
            yield found
        for column in sorted(sought & misses.keys()):
            raise UserError(f"{file.where}: column {column!r}: {_explain_miss(misses[column])}")


def _raw_rows(file: QuestionFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows with at least these columns, or those that they are fields of."""
    if file.kind in (".csv", ".tsv"):
        records = _records(file)
        _, header = next(records)
        for line, cells in records:
            if len(cells) != len(header):
                raise UserError(
                    f"{file.where}: line {line}: {len(cells)} cell(s) under a header of "
                    f"{len(header)}; quote a cell that holds the separator"
                )
            yield dict(zip(header, cells, strict=True))
    elif file.kind == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(file.path) as table:
            names = set(table.schema_arrow.names)
            outer = [column if column in names else column.split(".")[0] for column in columns]
            for batch in table.iter_batches(columns=list(dict.fromkeys(outer))):
                values = [plain_values(column) for column in batch.columns]
                for row in zip(*values, strict=True):
                    yield dict(zip(batch.schema.names, row, strict=True))
    else:
        yield from _objects(file)


def _objects(file: QuestionFile) -> Iterator[dict[str, Any]]:
    if file.kind == ".json":
        yield from read_json_rows(file.path, file.where)
    else:
        yield from read_json_lines(file.path, file.where)


def plain_values(array: Any) -> list:
    """The values of an Arrow array; a float of 32 or 16 bits is the double of its shortest text."""
    import pyarrow.types as types

    kind = array.type
    if types.is_dictionary(kind):
        return plain_values(array.dictionary_decode())
    if types.is_float32(kind) or types.is_float16(kind):
        code = "f" if types.is_float32(kind) else "e"
        return [value and shorten_float(value, code) for value in array.to_pylist()]
    if types.is_struct(kind):
        names = [field.name for field in kind]
        fields = [plain_values(field) for field in array.flatten()]
        rows = zip(*fields, strict=True) if fields else [()] * len(array)
        return [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        items = iter(plain_values(array.flatten()))
        lengths = array.value_lengths().to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    if types.is_map(kind):
        return [None if pairs is None else dict(pairs) for pairs in array.to_pylist()]
    return array.to_pylist()


def _field(row: dict[str, Any], column: str) -> tuple[Any, Any]:
    """(value, None) of a column or field; (None, what has no such field) where it is missing."""
    if column in row or "." not in column:
        return row.get(column), None
    outer, inner = column.split(".", 1)
    return _inner_field(row.get(outer), inner)


def _inner_field(value: Any, field: str) -> tuple[Any, Any]:
    if isinstance(value, str):
        if not value.strip():
            return None, None
        whole = parse_object(value)
        if whole is None:
            items = parse_list(value) or [None]
            whole = items if all(isinstance(item, dict) for item in items) else None
        if whole is None:
            return None, value
        value = whole
    if value is None:
        return None, None
    if isinstance(value, list):
        found = [_inner_field(item, field) for item in value]
        items = [item for item, miss in found if miss is None]
        return (items, None) if items or not found else found[0]
    if not isinstance(value, dict):
        return None, value
    if field not in value and "." not in field:
        return None, value
    return _field(value, field)


def _explain_miss(value: Any) -> str:
    """Why the field of a column is not found. value: of the first row."""
    if isinstance(value, dict):
        return f"no such field; there is {', '.join(map(str, value)) or 'none'}"
    if isinstance(value, str) and is_printed(value):
        return (
            f"{show_cell(value)} is what Python or NumPy printed, which cannot be read back; save "
            "the data again as JSONL or Parquet"
        )
    return f"{show_cell(value)} is no object with fields"


@contextmanager
def _readable(path: Path, where: str) -> Iterator[None]:
    """Turn errors of opening and decoding a file into one line."""
    kind = find_kind(path)
    try:
        if path.is_dir():
            raise UserError(f"{where}: is a folder; name a file in it")
        if not path.is_file():
            raise UserError(f"{where}: no such file")
        if kind not in KINDS:
            raise UserError(
                f"{where}: unknown kind {kind!r}; allowed: {', '.join(KINDS)}, all but .parquet "
                f"also with {COMPRESSED}"
            )
        if is_lfs_pointer(path):
            raise UserError(f"{where}: is {A_POINTER}")
        yield
    except (OSError, ValueError, NotImplementedError) as error:  # Arrow's errors are among them
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{where}: cannot be read: {reason}") from None


def _records(file: QuestionFile) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) of every record of a CSV or TSV file, the header first."""
    csv.field_size_limit(sys.maxsize)  # a cell may hold a long context
    delimiter = "\t" if file.kind == ".tsv" else ","
    reader = csv.reader(read_lines(file.path, file.where), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{file.where}: line {line}: {error}; check the quotes of the row that begins there"
        ) from None
