"""The header of a GGUF file: its metadata and its tensors' names, shapes and types, no weights.

It is read while the workflow is planned, so nothing here needs torch or the gguf package.
"""

import math
import re
import struct
from collections.abc import Mapping
from io import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from llm_figures.core.errors import UserError
from llm_figures.models.model_files import A_POINTER, LFS_POINTER

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# {type of a value: its struct format}; beside these there are strings and arrays.
FORMATS = {
    **{0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i"},
    **{6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"},
}
STRING, ARRAY = 8, 9
# The data of tensors begin at a multiple of it, unless the metadata name another number of bytes.
ALIGNMENT = 32
# Metadata beyond these sizes stands in no file: what is read is damaged.
LONGEST = {"string": 1 << 24, "array": 1 << 26, "tensors": 1 << 20, "dimensions": 8}
DTYPES = {0: "float32", 1: "float16", 30: "bfloat16"}


class GgufHeader(NamedTuple):
    """metadata: {key: value}; of an array its largest number, or its length if it has none.

    tensors: {name: shape}, in torch's order. types: {name: number of the type}.
    starts: {name: the byte of the file at which its data begin}.
    """

    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    types: dict[str, int]
    starts: dict[str, int]


def is_gguf_name(name: str) -> bool:
    """Whether a file is a GGUF file by its name."""
    return name.lower().endswith(".gguf")


def check_gguf(gguf: Path, where: str) -> None:
    """Check that a file begins as a GGUF file does and is not one of several parts.

    Raises:
        UserError: no such file, or not such a file; begins with `where`.
    """
    if not gguf.is_file():
        raise UserError(f"{where}: no such file: {gguf}")
    if (
        re.search(r"-\d{5}-of-\d{5}\.gguf$", gguf.name, re.IGNORECASE)
        and "-of-00001" not in gguf.name
    ):
        raise UserError(
            f"{where}: {gguf.name} is one of several parts; join them (llama-gguf-split --merge)"
        )
    with gguf.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise UserError(f"{where}: {gguf.name} is {A_POINTER}")
    if not start.startswith(MAGIC):
        raise UserError(f"{where}: {gguf.name} is not a GGUF file")


def read_gguf_header(gguf: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or of an unknown version.
    """
    with gguf.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("not a GGUF file")
        version = _read(file, "I")
        if version not in VERSIONS:
            raise ValueError(f"GGUF of version {version}")
        tensor_count, key_count = _read(file, "Q"), _read(file, "Q")
        _check_size("tensors", tensor_count)
        _check_size("tensors", key_count)
        metadata = {}
        for _ in range(key_count):
            key = _read_string(file)
            if key in metadata:
                raise ValueError(f"two keys {key} in its header")
            metadata[key] = _read_value(file, _read(file, "I"))
        tensors: dict[str, tuple[int, ...]] = {}
        types: dict[str, int] = {}
        offsets: dict[str, int] = {}
        for _ in range(tensor_count):
            name = _read_string(file)
            if name in tensors:
                raise ValueError(f"two tensors {name} in its header")
            dimensions = _read(file, "I")
            _check_size("dimensions", dimensions)
            # the fastest-moving dimension comes first
            tensors[name] = tuple(reversed([_read(file, "Q") for _ in range(dimensions)]))
            types[name] = _read(file, "I")
            offsets[name] = _read(file, "Q")
        first = _align(file.tell(), metadata.get("general.alignment", ALIGNMENT))
    starts = {name: first + offset for name, offset in offsets.items()}
    return GgufHeader(metadata, tensors, types, starts)


def check_gguf_header(gguf: Path, where: str) -> GgufHeader:
    """Read the header of a GGUF file (see `read_gguf_header`).

    Raises:
        UserError: no such file, or a damaged one; begins with `where`.
    """
    check_gguf(gguf, where)
    try:
        return read_gguf_header(gguf)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: {gguf.name} is damaged: {type(error).__name__}: {reason}; download it again"
        ) from None


def sizes_of(header: GgufHeader) -> dict[str, Any]:
    """A model's sizes from the header of its GGUF file, named as by `model_info.shape_of`.

    An absent size is None. Sizes that differ by layer are the largest ones.
    """
    metadata = header.metadata
    architecture = metadata.get("general.architecture")

    def get(name: str) -> Any:
        value = metadata.get(f"{architecture}.{name}")
        return value if isinstance(value, int) and value > 0 else None

    rows = header.tensors.get("token_embd.weight", (None,))[0]
    return {
        "layers": get("block_count"),
        "heads": get("attention.head_count"),
        "hidden_size": get("embedding_length"),
        "key_value_heads": get("attention.head_count_kv"),
        "head_dim": get("attention.key_length") or get("rope.dimension_count"),
        "intermediate_size": get("expert_feed_forward_length") or get("feed_forward_length"),
        "experts": get("expert_count"),
        "vocabulary": rows or get("vocab_size"),
        "tied": "output.weight" not in header.tensors,
        "dtype": "float32",  # as it is converted
        "parameters": sum(math.prod(shape) for shape in header.tensors.values()) or None,
    }


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the file's architecture, without its name before them."""
    start = f"{metadata.get('general.architecture')}."
    return {
        key.removeprefix(start): value for key, value in metadata.items() if key.startswith(start)
    }


def _read(file: BinaryIO, kind: str) -> Any:
    size = struct.calcsize(f"<{kind}")
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends within its header")
    return struct.unpack(f"<{kind}", data)[0]


def _read_string(file: BinaryIO) -> str:
    length = _read(file, "Q")
    _check_size("string", length)
    data = file.read(length)
    if len(data) < length:
        raise ValueError("it ends within its header")
    return data.decode("utf-8")


def _read_value(file: BinaryIO, kind: int) -> Any:
    """A value; of an array its largest number, or its length if it holds something else."""
    if kind in FORMATS:
        return _read(file, FORMATS[kind])
    if kind == STRING:
        return _read_string(file)
    if kind != ARRAY:
        raise ValueError(f"a value of the unknown type {kind} in its header")
    element, length = _read(file, "I"), _read(file, "Q")
    _check_size("array", length)
    if element in FORMATS:
        size = struct.calcsize(f"<{FORMATS[element]}") * length
        data = file.read(size)
        if len(data) < size:
            raise ValueError("it ends within its header")
        return max(struct.unpack(f"<{length}{FORMATS[element]}", data), default=0)
    if element != STRING:  # llama.cpp reads no arrays of arrays either
        raise ValueError(f"an array of the unknown type {element} in its header")
    for _ in range(length):
        size = _read(file, "Q")
        _check_size("string", size)
        file.seek(size, SEEK_CUR)
    return length


def _align(place: int, alignment: Any) -> int:
    """The first multiple of `alignment` from `place` on."""
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment {alignment!r} in its header")
    return -(-place // alignment) * alignment


def _check_size(what: str, number: int) -> None:
    if number > LONGEST[what]:
        raise ValueError(f"{number} {what} in its header")
