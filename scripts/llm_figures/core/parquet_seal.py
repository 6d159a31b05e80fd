"""Parquet files that say what they should hold, so that a changed one is never read as data.

Snakemake compares a file with what was made of it, not with what its own job wrote: one that was
cut short, edited or overwritten would be read as if it were a result. Every Parquet file made here
therefore carries a seal in its metadata: how many bytes lie before its footer, and their digest.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core.errors import UserError

SEAL = b"llm_figures_seal"
# Files up to this size are digested whole before they are read. Larger ones are read a column at a
# time, by many jobs: of them the layout is compared, and each page read against its checksum.
DIGESTED_BYTES = 64_000_000


class _Sink:
    """A file that digests what is written to it; what pyarrow asks of a Python file."""

    def __init__(self, path: Path):
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data) -> int:
        if self.size <= DIGESTED_BYTES:
            self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def seal(self) -> dict:
        small = self.size <= DIGESTED_BYTES
        return {"bytes": self.size, "sha256": self._digest.hexdigest() if small else None}

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


@contextmanager
def sealed(path: Path, schema: pa.Schema, **options) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of row groups to `path`; the seal is written at the end.

    options: see pyarrow's ParquetWriter. Pages carry checksums.
    """
    sink = _Sink(path)
    try:
        with (
            pa.PythonFile(sink, mode="w") as file,
            pq.ParquetWriter(
                file, schema, compression="zstd", write_page_checksum=True, **options
            ) as writer,
        ):
            yield writer
            file.flush()
            writer.add_key_value_metadata({SEAL: json.dumps(sink.seal()).encode()})
    finally:
        sink.close()


def check_seal(path: str | Path) -> None:
    """Compare a file with its seal.

    Raises:
        UserError: the file was not written by this workflow, or it was changed afterwards.
        OSError, pa.ArrowInvalid: the file is missing, truncated or not Parquet.
    """
    state = Path(path).stat()
    # A job that reads a file column by column has it digested once.
    _check(str(path), state.st_mtime_ns, state.st_size)


@cache
def _check(path: str, changed: int, size: int) -> None:
    metadata = pq.read_metadata(path)
    seal = json.loads((metadata.metadata or {}).get(SEAL, b"null"))
    if seal is None:
        raise UserError(f"{path} was not written by this workflow; remove it and run again")
    with Path(path).open("rb") as file:
        found = hashlib.sha256(file.read(seal["bytes"])).hexdigest() if seal["sha256"] else None
    if _data_end(metadata) != seal["bytes"] or found != seal["sha256"]:
        raise UserError(f"{path} was changed after it was made; remove it and run again")


def _data_end(metadata: pq.FileMetaData) -> int:
    """Where the last column chunk of a file ends, in bytes; its footer follows."""
    end = len(b"PAR1")
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for column in range(row_group.num_columns):
            chunk = row_group.column(column)
            # without rows there is no data page, and its offset is 0
            offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
            start = min((offset for offset in offsets if offset), default=0)
            end = max(end, start + chunk.total_compressed_size)
    return end
