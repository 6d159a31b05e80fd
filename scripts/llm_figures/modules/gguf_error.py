"""How coarse the blocks of a GGUF file are: the error its own quantisation must have made."""

import math
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, ReaderTensor
from gguf.quants import dequantize

from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.models.projection_layouts import DOWN, GATE, UP, K, O, Place, Q, V, output_rows

# Column -> its tensor, blk.N.{}.weight: alone, fused with others, of all experts.
NAMES = {
    Q: ("attn_q", "attn_qkv"),
    K: ("attn_k", "attn_qkv"),
    V: ("attn_v", "attn_qkv"),
    O: ("attn_output",),
    UP: ("ffn_up", "ffn_up_exps"),
    DOWN: ("ffn_down", "ffn_down_exps"),
    GATE: ("ffn_gate", "ffn_gate_exps", "ffn_up"),
}
# Bytes of a block that hold its weights' codes: (first, last, the byte of codes that are all 1).
# High bits lie apart from low ones and are 0 in a code of 1.
CODES = {
    "Q4_0": ((2, 18, 0x11),),
    "Q4_1": ((4, 20, 0x11),),
    "Q5_0": ((2, 6, 0), (6, 22, 0x11)),
    "Q5_1": ((4, 8, 0), (8, 24, 0x11)),
    "Q8_0": ((2, 34, 0x01),),
    "Q4_K": ((16, 144, 0x11),),
    "Q5_K": ((16, 48, 0), (48, 176, 0x11)),
    "Q6_K": ((0, 128, 0x11), (128, 192, 0)),
}
FLOATS = ("F64", "F32", "F16", "BF16")
# Weights that are unpacked at a time: as many as the cache of a core holds.
PIECE = 2**17


class GgufFile:
    """The projections in a GGUF file, of a model whose checkpoint tells what it should hold.

    Raises:
        UserError: the file is no GGUF file, or damaged.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint):
        self.path, self.checkpoint = path, checkpoint
        self.where = f"{checkpoint.where}: figures.module_map.metric: gguf_error: {path.name}"
        try:
            self._tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"{self.where} cannot be read as GGUF ({error}); download it again"
            ) from None

    def expected_error(self, layer: int, column: str) -> float:
        """√(Σ step² / 12) / ‖W‖_F of one projection, W as the file has it; NaN where W = 0.

        A weight that is rounded to the nearest multiple of its block's step is off by up to half a
        step, and by step² / 12 in the mean square where every rest is equally likely. It is an
        estimate: a block's extreme weights are kept better, a clipped one worse. 0 for float
        tensors.

        What was really lost is `relative_update`, with the unquantised checkpoint as compare_with:
        a model prepared from a GGUF file has that file's weights.

        llama.cpp reorders the rows of query and key for its rotary embedding. Neither a norm nor a
        sum over blocks, which lie within rows, sees the order.

        Raises:
            UserError: the projection is not there, of another size, or of a type whose steps are
                not known.
        """
        tensor = self._tensor(layer, column)
        kind = tensor.tensor_type.name
        rows = self._rows(layer, column, tensor)
        if kind in FLOATS:
            return 0.0
        weights_of_block, bytes_of_block = GGML_QUANT_SIZES[tensor.tensor_type]
        d_in = int(tensor.shape[0])
        raw = np.fromfile(
            self.path, np.uint8, count=int(tensor.n_bytes), offset=int(tensor.data_offset)
        ).reshape(-1, d_in // weights_of_block * bytes_of_block)[rows]
        squares = norm = 0.0
        many = max(1, PIECE // d_in)
        for start in range(0, len(raw), many):
            packed = raw[start : start + many]
            squares += float(np.square(steps(packed, kind), dtype=np.float64).sum())
            norm += float(np.square(_unpacked(packed, kind), dtype=np.float64).sum())
        return float(np.sqrt(squares / 12 / norm)) if norm else float("nan")

    def _tensor(self, layer: int, column: str) -> ReaderTensor:
        names = [f"blk.{layer}.{name}.weight" for name in NAMES[column]]
        name = next((name for name in names if name in self._tensors), None)
        if name is None:
            raise UserError(f"{self.where} has no {names[0]}")
        kind = self._tensors[name].tensor_type.name
        if kind not in (*CODES, *FLOATS):
            raise UserError(
                f"{self.where}: {name} is of type {kind}, whose steps are not known; known: "
                f"{', '.join((*CODES, *FLOATS))}"
            )
        return self._tensors[name]

    def _rows(self, layer: int, column: str, tensor: ReaderTensor) -> slice | np.ndarray:
        """Which rows of a tensor (of all experts) are the column's: all, or those of a fused one.

        GGUF keeps outputs as rows, and the parts of a fused map one after the other.
        """
        point = self.checkpoint
        d_in, *outer = map(int, tensor.shape)
        d_out = math.prod(outer)
        fused = tensor.name.endswith(".attn_qkv.weight") or (
            tensor.name == f"blk.{layer}.ffn_up.weight"
            and GATE in point.columns(layer)
            and f"blk.{layer}.ffn_gate.weight" not in self._tensors
        )
        place = Place(tensor.name, column, "stacked" if fused else None)
        rows = output_rows(place, d_out, point.heads)
        found = (len(range(*rows.indices(d_out))), d_in)
        one = point.shape(layer, column)
        wanted = (point.experts(layer, column) * one[0], one[1])
        if found != wanted:
            raise UserError(
                f"{self.where}: {tensor.name} has {found[0]} × {found[1]} weights for {column!r}, "
                f"the checkpoint {wanted[0]} × {wanted[1]}; it is of another model"
            )
        return rows


def steps(packed: np.ndarray, kind: str) -> np.ndarray:
    """The distance between neighbouring values of each weight, [rows, weights].

    packed: [rows, bytes], the blocks of a row one after the other. The difference of codes 1 and 0,
    unpacked with the blocks' own scales.
    """
    _, bytes_of_block = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    found = []
    for number in (0, 1):
        codes = packed.copy()
        blocks = codes.reshape(-1, bytes_of_block)
        for first, last, one in CODES[kind]:
            blocks[:, first:last] = number * one
        found.append(_unpacked(codes, kind))
    zeros, ones = found
    return np.abs(ones - zeros)


def _unpacked(packed: np.ndarray, kind: str) -> np.ndarray:
    # Rows whole: the library takes 16 at a time, and of single blocks that is little.
    return dequantize(packed, GGMLQuantizationType[kind])


@contextmanager
def open_gguf(model_info: Mapping, cache: Path) -> Iterator[Path]:
    """The GGUF file that a prepared model was made from, as long as the context is open.

    model_info: of `prepare_model`. cache: the folder where wheels were put
        (`environment.cache_folder`).

    A file inside a wheel is unpacked to a temporary folder.

    Raises:
        UserError: the model does not come from a GGUF file, or that is gone.
    """
    where = f"model {model_info['name']}: figures.module_map.metric: gguf_error"
    again = "prepare the model again with: snakemake --forcerun prepare_model"
    if model_info.get("gguf"):
        path = Path(model_info["gguf"])
        if not path.is_file():
            raise UserError(f"{where}: {path} is gone; {again}")
        yield path
        return
    if model_info["source"] != "pypi":
        raise UserError(f"{where}: the model does not come from a GGUF file; leave gguf_error out")
    entry = model_info["entry"]
    name = f"{entry['package'].replace('-', '_')}-{entry['version']}-*.whl"
    wheel = next((cache / "wheels").glob(name), None)
    if wheel is None:
        raise UserError(f"{where}: {cache / 'wheels' / name} is gone; {again}, or copy it there")
    with tempfile.TemporaryDirectory(prefix="llm-figures.") as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                path = Path(archive.extract(model_info["file"], folder))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{where}: {wheel} cannot be unpacked ({error}); remove it") from None
        if sha256(path) != model_info["file_sha256"]:
            raise UserError(
                f"{where}: {model_info['file']} in {wheel} is damaged; remove the wheel"
            )
        yield path
