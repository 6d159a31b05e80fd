"""Parquet files of tensors (Arrow's fixed-shape tensors) and of tidy frames."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.atomic_files import whole_file
from llm_figures.core.errors import UserError
from llm_figures.core.parquet_seal import check_seal, write_sealed
from llm_figures.core.records import keep_facts

# The key in a Parquet file's metadata with what its numbers were computed on.
FACTS = b"llm_figures"
# The size of a row group before compression.
ROW_GROUP_BYTES = 64_000_000


def tensor(shape: Sequence[int], dtype: str = "float32") -> pa.DataType:
    """Arrow type of a tensor of this shape (C order)."""
    return pa.fixed_shape_tensor(pa.type_for_alias(dtype), tuple(int(n) for n in shape))


class TensorWriter:
    """Writes rows whose columns may be tensors or lists, in row groups of equal size.

    One row group is in memory at a time. Its size depends only on the columns, and on the rows
    themselves where long lists fill a group early, so that the same rows give the same bytes in any
    batches.
    """

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema):
        self._writer = writer
        self._schema = schema
        rows = ROW_GROUP_BYTES // _bytes_of_row(schema)
        self._rows_of_group = rows if rows > 4 else 1  # large rows are written one by one
        self._has_lists = any(map(_is_list, schema.types))
        self._waiting: list[pa.Table] = []
        # Of what waits, counted as it comes: a sum over thousands of rows, for each of them, would
        # take hours.
        self._rows = self._bytes = 0

    def write(self, columns: Mapping[str, Sequence | np.ndarray]) -> None:
        """Append rows: {column: values}; tensor columns as arrays [rows, *shape].

        None among a tensor column's values is a null.
        """
        arrays = [_column(columns[field.name], field.type) for field in self._schema]
        table = pa.table(arrays, schema=self._schema)
        del arrays
        step = 1 if self._has_lists else max(1, len(table))
        parts = [table.slice(start, step) for start in range(0, len(table), step)]
        del table
        while parts:
            self._wait(parts.pop(0))
            while self._is_full():
                self._write_group()

    def close(self) -> None:
        """Write the last row group."""
        if self._rows:
            self._write_group()

    def _wait(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._rows += len(table)
        if self._has_lists:
            self._bytes += table.nbytes

    def _is_full(self) -> bool:
        return self._rows >= self._rows_of_group or self._bytes >= ROW_GROUP_BYTES

    def _write_group(self) -> None:
        together = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting.clear()
        self._rows = self._bytes = 0
        self._writer.write_table(together.slice(0, self._rows_of_group))
        if (
            len(together) > self._rows_of_group
        ):  # even an empty slice would keep the table in memory
            self._wait(together.slice(self._rows_of_group))
        if self._rows_of_group == 1 or self._has_lists:
            del together
            pa.default_memory_pool().release_unused()


@contextmanager
def tensor_file(
    path: str | Path, schema: pa.Schema, facts: Mapping | None = None
) -> Iterator[TensorWriter]:
    """Open a Parquet file for rows that come batch by batch (see `TensorWriter.write`).

    facts: what the rows are computed on, kept in the file's metadata (see `read_facts`).

    Floats are split by byte before compression, which is lossless and halves the size of a bfloat16
    model's values in float32, with their two zero bytes.
    """
    plain = [field.name for field in schema if not isinstance(field.type, pa.FixedShapeTensorType)]
    tensors = [
        f"{field.name}.list.element"
        for field in schema
        if isinstance(field.type, pa.FixedShapeTensorType)
    ]
    schema = _with_facts(schema, facts)
    keep_facts(path, facts)
    with (
        whole_file(path) as partial,
        write_sealed(
            partial,
            path,
            schema,
            compression_level=1,
            use_dictionary=plain,
            use_byte_stream_split=tensors,
            write_statistics=False,
        ) as writer,
    ):
        rows = TensorWriter(writer, schema)
        yield rows
        rows.close()


def write_tensors(
    path: str | Path, batches: Iterable[tuple[pa.Schema, dict]], facts: Mapping | None = None
) -> None:
    """Write batches (schema, columns) of rows; the first, which must exist, sets the schema.

    facts: see `tensor_file`.
    """
    batches = iter(batches)
    schema, columns = next(batches)
    with tensor_file(path, schema, facts) as file:
        file.write(columns)
        for _, columns in batches:
            file.write(columns)


def read_tensors(table: pa.Table, column: str) -> np.ndarray:
    """A tensor column of floats as one array [rows, *shape]; a null is all NaN."""
    array = table.column(column).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a table without rows has no chunk to combine
        return np.empty((0, *array.type.shape), array.type.value_type.to_pandas_dtype())
    if not array.null_count:
        return array.to_numpy_ndarray()
    shape = array.type.shape
    known = array.is_valid().to_numpy(zero_copy_only=False)
    values = np.full((len(array), *shape), np.nan, array.type.value_type.to_pandas_dtype())
    values[known] = array.storage.flatten().to_numpy().reshape(-1, *shape)  # flattened: no nulls
    return values


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of this workflow as an Arrow table.

    Raises:
        UserError: the file is missing, truncated, not Parquet, written by others, or changed.
    """
    with _name_damage(path):
        check_seal(path)
        return pq.read_table(path, columns=columns, page_checksum_verification=True)


def read_columns(paths: Sequence[str | Path], column: str) -> np.ndarray:
    """Read one tensor column of several files, concatenated: [rows, *shape].

    Raises:
        UserError: as `read_table`.
    """
    parts = [read_tensors(read_table(path, [column]), column) for path in paths]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def read_rows(paths: Sequence[str | Path], column: str, rows: np.ndarray) -> np.ndarray:
    """Read some rows of one tensor column of several files: [len(rows), *shape].

    rows: their numbers, counted through all files; in any order, and one may be there twice.

    Beside these rows, one row group of the column is in memory at a time. Row groups without any of
    them are not read.

    Raises:
        UserError: as `read_table`.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    found, start = None, 0
    for path in paths:
        with _name_damage(path):
            check_seal(path)
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                kind = file.schema_arrow.field(column).type
                if found is None:
                    dtype = kind.value_type.to_pandas_dtype()
                    found = np.empty((len(rows), *kind.shape), dtype)
                for group in range(file.metadata.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    first, last = np.searchsorted(ascending, (start, stop))
                    if first < last:
                        table = file.read_row_group(group, columns=[column])
                        values = read_tensors(table, column)
                        found[order[first:last]] = values[ascending[first:last] - start]
                    start = stop
    if found is None or (len(rows) and not 0 <= ascending[0] <= ascending[-1] < start):
        raise IndexError(f"rows of {column} outside the {start} of {len(paths)} file(s)")
    return found


class RowReader:
    """Reads single rows of a Parquet file of this workflow, with one row group in memory at a time.

    Raises:
        UserError: as `read_table`, here and in every method.
    """

    def __init__(self, path: str | Path):
        self._path = path
        with _name_damage(path):
            check_seal(path)
            self.schema = pq.read_schema(path)
            metadata = pq.read_metadata(path)
        counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *counts])
        self._held: tuple[int, pa.Table] | None = None

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows."""
        # by row group: read_table would also fetch what lies between the columns
        with _open_file(self._path) as file:
            groups = range(len(self._starts) - 1)
            return pa.concat_tables([file.read_row_group(n, columns=list(names)) for n in groups])

    def row(self, number: int) -> pa.Table:
        """A table of one row, counted from 0."""
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        if self._held is None or self._held[0] != group:
            self._held = None  # freed before another is read
            with _open_file(self._path) as file:
                self._held = (group, file.read_row_group(group))
        return self._held[1].slice(number - self._starts[group], 1)


class TableReader:
    """Reads a Parquet file of this workflow by row groups.

    Raises:
        UserError: as `read_table`, here and in every method.
    """

    def __init__(self, path: str | Path):
        self._path = path
        with _name_damage(path):
            check_seal(path)
            self._metadata = pq.read_metadata(path)

    def read_minima(self, column: str) -> list:
        """The least value of a column of numbers in every row group, from the file's footer."""
        at = self._metadata.schema.names.index(column)
        groups = range(self._metadata.num_row_groups)
        return [self._metadata.row_group(group).column(at).statistics.min for group in groups]

    def read(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group."""
        with _open_file(self._path) as file:
            return file.read_row_group(group, columns=columns)


def read_facts(path: str | Path) -> dict | None:
    """What a Parquet file's rows were computed on; None if its writer did not say.

    Raises:
        UserError: the file is missing, truncated or not Parquet.
    """
    with _name_damage(path):
        facts = (pq.read_schema(path).metadata or {}).get(FACTS)
    return None if facts is None else json.loads(facts)


@contextmanager
def frames_file(path: str | Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a tidy Parquet file, written atomically, for tables that come one by one."""
    with whole_file(path) as partial, write_sealed(partial, path, schema) as writer:
        yield writer


def write_frame(frame: pd.DataFrame, path: str | Path, facts: Mapping | None = None) -> None:
    """Write a tidy frame as Parquet, atomically. facts: see `tensor_file`."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata(_with_facts(table.schema, facts).metadata)
    keep_facts(path, facts)
    with frames_file(path, table.schema) as file:
        file.write_table(table)


def read_frame(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a tidy Parquet file as a frame (see `read_table`)."""
    return read_table(path, columns).to_pandas()


def read_frames(paths: Sequence[str | Path], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read several tidy Parquet files as one frame, concatenated (see `read_table`)."""
    return pd.concat([read_frame(path, columns) for path in paths], ignore_index=True)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _bytes_of_row(schema: pa.Schema) -> int:
    """Bytes of a row; columns other than tensors count as 64."""
    return sum(
        math.prod(field.type.shape) * field.type.value_type.bit_width // 8
        if isinstance(field.type, pa.FixedShapeTensorType)
        else 64
        for field in schema
    )


def _with_facts(schema: pa.Schema, facts: Mapping | None) -> pa.Schema:
    if facts is None:
        return schema
    written = json.dumps(facts, sort_keys=True).encode()
    return schema.with_metadata({**(schema.metadata or {}), FACTS: written})


@contextmanager
def _open_file(path: str | Path) -> Iterator[pq.ParquetFile]:
    """Open a file for reading; pages are checked as they are read."""
    with _name_damage(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield file


@contextmanager
def _name_damage(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} cannot be read ({reason}); remove it and run again") from None


def _column(values: Sequence | np.ndarray, kind: pa.DataType) -> pa.Array:
    if not isinstance(kind, pa.FixedShapeTensorType):
        return pa.array(values, type=kind)
    if not len(values):
        return pa.ExtensionArray.from_storage(kind, pa.array([], type=kind.storage_type))
    missing = np.array([value is None for value in values])
    if missing.any():
        zeros = np.zeros(kind.shape, kind.value_type.to_pandas_dtype())
        values = [zeros if value is None else value for value in values]
    array = np.ascontiguousarray(values, dtype=kind.value_type.to_pandas_dtype())
    if array.shape[1:] != tuple(kind.shape):
        raise ValueError(f"tensor of shape {array.shape[1:]}, column holds {tuple(kind.shape)}")
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(array).cast(kind)
    if not missing.any():
        return tensors
    storage = pa.FixedSizeListArray.from_arrays(
        tensors.storage.values, math.prod(kind.shape), mask=pa.array(missing)
    )
    return pa.ExtensionArray.from_storage(kind, storage)
