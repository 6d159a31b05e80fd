"""The tensors of a GGUF file, read one by one.

The gguf package's own reader makes an array of every token and merge in the metadata, which takes
seconds and of which nothing here is needed.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from llm_figures.models.gguf_header import read_gguf_header


class GgufTensor(NamedTuple):
    """A tensor in a file.

    kind: such as Q4_1. shape: in torch's order. start, size: where its data begin, and how long
    they are, in bytes.
    """

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    size: int

    def read(self) -> np.ndarray:
        """The packed data, uint8 [rows, bytes of a row]."""
        raw = np.fromfile(self.file, np.uint8, count=self.size, offset=self.start)
        return raw.reshape(math.prod(self.shape[:-1]), -1)


def read_gguf_tensors(gguf: Path) -> dict[str, GgufTensor]:
    """Find the tensors of a GGUF file by name, in the file's order; no data are read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, ends before its data do, or has a tensor of an unknown type, or
            with rows that are not whole blocks.
    """
    header = read_gguf_header(gguf)
    end = gguf.stat().st_size
    tensors = {}
    for name, shape in header.tensors.items():
        kind = GGMLQuantizationType(header.types[name])
        weights_of_block, bytes_of_block = GGML_QUANT_SIZES[kind]
        if shape and shape[-1] % weights_of_block:
            raise ValueError(f"{name} has rows of {shape[-1]} weights in blocks of {kind.name}")
        size = math.prod(shape) // weights_of_block * bytes_of_block
        start = header.starts[name]
        if start + size > end:
            raise ValueError(f"it ends before the data of {name}")
        tensors[name] = GgufTensor(gguf, name, kind.name, shape, start, size)
    return tensors


def unpack(packed: np.ndarray, kind: str) -> np.ndarray:
    """float32 [rows, weights] from `packed`, uint8 [rows, bytes].

    Whole rows, because the package takes 16 rows at a time, and 16 blocks would be few.
    """
    return dequantize(packed, GGMLQuantizationType[kind])
