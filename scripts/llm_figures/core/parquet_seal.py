"""Parquet files that name their writer and the bytes of their data.

Snakemake compares a file's input and code with those of the job that made it, not the file with
what that job wrote. So every file that is written here has a checksum in each page and, in its
metadata, a seal: the length of the data in bytes, the file's own name, the model that it was made
for (its name and a digest of its weights), the rule with a digest of its options and code, and the
versions of the packages. Other writers drop the seal.

What a reader finds, counted on small files of one and of several row groups:

=============================================  ==========  ==================  ========
damage                                         checksums   checksums and seal  `verify`
=============================================  ==========  ==================  ========
a bit of the data that changes a value         12,159 all  all                 all
a truncated file, a part cut out or zeroed     yes         yes                 yes
rewritten by pandas or pyarrow                 no          yes                 yes
rewritten with fewer rows, the seal copied     no          yes                 yes
a bit of the footer that changes a value       no          no                  all
two pieces of equal length change places       no          no                  yes
another file of this workflow in its place     no          yes                 yes
the same file of another model in its place    no          yes                 yes
the same file of the model, made otherwise     no          no                  yes
=============================================  ==========  ==================  ========

Whose a folder is, its model.json says, so that it may be copied and renamed as a whole. What a file
was made from, its record says (see `records`), with which a run begins.

A SHA-256 of the data in the seal would find that two pieces change places. It took 0.16 s whenever
60 MB were read and a quarter more time to write them; the seal takes less than 1 ms for 500 MB.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llm_figures.core import records
from llm_figures.core.errors import UserError
from llm_figures.core.versions import find_versions_in_use

SEAL = b"llm_figures_seal"
# For readers that give tensors as flat lists: {column: its shape}.
SHAPES = b"llm_figures_shapes"
# After the footer: its length, and the magic number.
TAIL_BYTES = 8
MODEL_INFO = "model.json"
# Result files are at most so many folders below their model's.
DEPTH = 5


@contextmanager
def write_sealed(
    path: Path, name: str | Path, schema: pa.Schema, **options
) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of row groups to `path`; the seal is written at the end.

    name: the path that the file will have. options: see pyarrow's ParquetWriter.

    Pages carry checksums.
    """
    with (
        pa.OSFile(str(path), "wb") as file,
        pq.ParquetWriter(
            file, schema, compression="zstd", write_page_checksum=True, **options
        ) as writer,
    ):
        yield writer
        seal = {"bytes": file.tell(), **_describe_origin(Path(name))}
        notes = {SEAL: seal, SHAPES: _list_shapes(schema)}
        writer.add_key_value_metadata(
            {key: json.dumps(note, sort_keys=True).encode() for key, note in notes.items() if note}
        )


def _list_shapes(schema: pa.Schema) -> dict[str, list[int]]:
    """{column: shape} of the tensors."""
    tensors = (field for field in schema if isinstance(field.type, pa.FixedShapeTensorType))
    return {field.name: list(field.type.shape) for field in tensors}


def check_seal(path: str | Path) -> None:
    """Compare a file's length and place with its seal; its pages are checked as they are read.

    Raises:
        UserError: the file was not written by this workflow, was changed afterwards, or was made
            for another model or as another file.
        OSError, pa.ArrowInvalid: the file is missing, truncated or not Parquet.
    """
    metadata = pq.read_metadata(path)
    seal = _seal_of(metadata)
    if seal is None:
        raise UserError(f"{path} was not written by this workflow; remove it and run again")
    if Path(path).stat().st_size != seal["bytes"] + metadata.serialized_size + TAIL_BYTES:
        raise UserError(f"{path} was changed after it was made; remove it and run again")
    _check_owner(Path(path), seal)


def _seal_of(metadata: pq.FileMetaData) -> dict | None:
    return json.loads((metadata.metadata or {}).get(SEAL, b"null"))


def _describe_origin(path: Path) -> dict:
    """What the seal says of the job that this process runs; nothing outside of a job."""
    maker = records.current
    if maker is None or maker.folder not in path.parents:
        return {}
    return {
        "file": path.relative_to(maker.folder).as_posix(),
        "rule": maker.rule,
        "made_from": maker.made_from,
        "versions": find_versions_in_use(),
        **_find_model(maker),
    }


def _find_model(maker: records.Maker) -> dict[str, str]:
    """The name of the model that a job works for, and a digest of its weights.

    Without the digest for files that are made before the weights are known, as the questions are.
    """
    if maker.folder.name.startswith("_"):  # a comparison, which has no model
        return {}
    inside = [file for file in map(Path, maker.inputs) if maker.folder in file.parents]
    for file in inside:
        found = None
        if file == maker.folder / MODEL_INFO:
            found = _read_model(file)
        elif file.suffix == ".parquet":
            with suppress(OSError, pa.ArrowInvalid):  # damaged, which whoever reads it reports
                found = _seal_of(pq.read_metadata(file))
        if found and found.get("weights"):
            return {"model": found["model"], "weights": found["weights"]}
    return {"model": maker.folder.name}


def _read_model(model_info: Path) -> dict[str, str]:
    stat = model_info.stat()
    return _read_model_once(model_info, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read_model_once(model_info: Path, *_changes: int) -> dict[str, str]:
    """The name and a digest of the weights of a model info, as far as it has them."""
    with suppress(OSError, ValueError):  # damaged, which whoever loads the model reports
        found = json.loads(model_info.read_bytes())
        if isinstance(found, dict) and isinstance(name := found.get("name"), str):
            weights = found.get("weights")
            digest = hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()[:12]
            return {"model": name, **({"weights": digest} if weights else {})}
    return {}


def _check_owner(path: Path, seal: Mapping) -> None:
    """Compare what a seal says of its file's place with the model.json of the folder around it.

    A file outside such a folder, or of an earlier version, may be anyone's.
    """
    owners = (parent for parent in list(path.parents)[:DEPTH] if (parent / MODEL_INFO).is_file())
    folder = next(owners, None)
    if folder is None or "file" not in seal:
        return
    if path.relative_to(folder).as_posix() != seal["file"]:
        raise UserError(f"{path} holds {seal['file']}; remove it and run again")
    model, owner = seal.get("model"), _read_model(folder / MODEL_INFO)
    if model is None or "model" not in owner:
        return
    # what follows an @ names a checkpoint, which its weights tell from others, or a run
    if model.partition("@")[0] != owner["model"].partition("@")[0]:
        raise UserError(
            f"{path} was made for model {model}, not {owner['model']}; remove it and run again"
        )
    weights = seal.get("weights"), owner.get("weights")
    if None not in weights and weights[0] != weights[1]:
        raise UserError(
            f"{path} was made for other weights of model {model}; remove it and run again"
        )
