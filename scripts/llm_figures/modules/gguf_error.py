"""The expected rounding error of a GGUF file, from the steps of its blocks."""

import math
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from llm_figures.core.checksums import sha256
from llm_figures.core.errors import UserError
from llm_figures.models.checkpoints import Checkpoint
from llm_figures.models.gguf_tensors import GgufTensor, read_gguf_tensors, unpack
from llm_figures.models.projection_layouts import (
    DOWN,
    GATE,
    KV_DOWN,
    KV_UP,
    Q_DOWN,
    Q_UP,
    SHARED_DOWN,
    SHARED_GATE,
    SHARED_UP,
    UP,
    K,
    O,
    Place,
    Q,
    V,
    output_rows,
)

# Names of each projection's tensor, blk.N.{}.weight: alone, fused with others, of all experts.
NAMES = {
    Q: ("attn_q", "attn_qkv"),
    K: ("attn_k", "attn_qkv"),
    V: ("attn_v", "attn_qkv"),
    O: ("attn_output",),
    Q_DOWN: ("attn_q_a",),
    Q_UP: ("attn_q_b",),
    KV_DOWN: ("attn_kv_a_mqa",),
    KV_UP: ("attn_kv_b",),
    UP: ("ffn_up", "ffn_up_exps"),
    DOWN: ("ffn_down", "ffn_down_exps"),
    GATE: ("ffn_gate", "ffn_gate_exps", "ffn_up"),
    SHARED_UP: ("ffn_up_shexp",),
    SHARED_DOWN: ("ffn_down_shexp",),
    SHARED_GATE: ("ffn_gate_shexp",),
}
# The bytes of a block with its weights' codes: (first, last, the byte in which all codes are 1).
# High bits are stored apart from low ones and are 0 in a code of 1.
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
# Types whose blocks begin with the step of all their weights, a float16.
ONE_STEP = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
FLOATS = ("F64", "F32", "F16", "BF16")
# Weights unpacked at a time: what fits the cache of a core.
PIECE = 2**17


class GgufFile:
    """The projections in a GGUF file.

    checkpoint: of the same model, which tells what the file should contain.

    Raises:
        UserError: the file is not a GGUF file, or damaged.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint):
        self.path, self.checkpoint = path, checkpoint
        self.where = f"{checkpoint.where}: figures.module_map.metric: gguf_error: {path.name}"
        try:
            self._tensors = read_gguf_tensors(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.where} cannot be read as GGUF ({error}); download it again"
            ) from None

    def expected_error(self, layer: int, projection: str) -> float:
        """√(Σ step² / 12) / ‖W‖_F of one projection, with W as in the file; NaN if W = 0.

        Rounding a weight to the nearest multiple of its block's step has an error of up to half a
        step, with a mean square of step² / 12 if all remainders are equally likely. This is an
        estimate: a block's extreme weights lose less, a clipped one more. Float tensors give 0.

        The true error is `relative_update` with the unquantised checkpoint as compare_with, because
        a model prepared from a GGUF file has that file's weights.

        llama.cpp reorders the rows of query and key for its rotary embedding, which changes neither
        norms nor sums over blocks, because a block is within a row.

        Raises:
            UserError: the projection is missing, of another size, of a type with unknown steps, or
                not finite.
        """
        tensor = self._tensor(layer, projection)
        kind = tensor.kind
        rows = self._rows(layer, projection, tensor)
        if kind in FLOATS:
            return 0.0
        raw = tensor.read()[rows]
        squares = norm = 0.0
        rows_at_a_time = max(1, PIECE // tensor.shape[-1])
        for start in range(0, len(raw), rows_at_a_time):
            packed = raw[start : start + rows_at_a_time]
            weights, steps = unpack(packed, kind), compute_steps(packed, kind)
            norm += _sum_squares(weights)
            squares += _sum_squares(steps) * (weights.size // steps.size)
        if not np.isfinite(squares + norm):
            raise UserError(
                f"{self.where}: {tensor.name}, {projection} of layer {layer}, holds NaN or "
                "infinite steps or weights; download it again"
            )
        return float(np.sqrt(squares / 12 / norm)) if norm else float("nan")

    def _tensor(self, layer: int, projection: str) -> GgufTensor:
        names = [f"blk.{layer}.{name}.weight" for name in NAMES[projection]]
        name = next((name for name in names if name in self._tensors), None)
        if name is None:
            raise UserError(f"{self.where} has no {names[0]}")
        kind = self._tensors[name].kind
        if kind not in (*CODES, *FLOATS):
            raise UserError(
                f"{self.where}: {name} is of type {kind}, whose steps are unknown; known: "
                f"{', '.join((*CODES, *FLOATS))}"
            )
        return self._tensors[name]

    def _rows(self, layer: int, projection: str, tensor: GgufTensor) -> slice | np.ndarray:
        """The projection's rows in a tensor (of all experts): all, or some of a fused one.

        In GGUF, rows are outputs, and the parts of a fused map follow one another.
        """
        checkpoint = self.checkpoint
        *outer, d_in = tensor.shape
        d_out = math.prod(outer)
        fused = tensor.name.endswith(".attn_qkv.weight") or (
            tensor.name == f"blk.{layer}.ffn_up.weight"
            and GATE in checkpoint.projections(layer)
            and f"blk.{layer}.ffn_gate.weight" not in self._tensors
        )
        place = Place(tensor.name, projection, "stacked" if fused else None)
        rows = output_rows(place, d_out, checkpoint.heads)
        size = (len(range(*rows.indices(d_out))), d_in)
        one = checkpoint.shape(layer, projection)
        expected = (checkpoint.experts(layer, projection) * one[0], one[1])
        if size != expected:
            raise UserError(
                f"{self.where}: {tensor.name} has {size[0]} × {size[1]} weights for "
                f"{projection!r}, the checkpoint {expected[0]} × {expected[1]}; use the file of "
                "this model"
            )
        return rows


def compute_steps(packed: np.ndarray, kind: str) -> np.ndarray:
    """The distance between neighbouring values of each weight, or of each block that has but one.

    It is read from the block, or the difference of codes 1 and 0, unpacked with its scales.

    packed: [rows, bytes], the blocks of each row one after the other.

    Returns float32 [rows, weights], or [rows, blocks] for the types in `ONE_STEP`.
    """
    _, bytes_of_block = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    if kind in ONE_STEP:
        steps = packed.reshape(-1, bytes_of_block)[:, :2].copy().view(np.float16)
        return np.abs(steps.astype(np.float32)).reshape(len(packed), -1)
    values = []
    for number in (0, 1):
        codes = packed.copy()
        blocks = codes.reshape(-1, bytes_of_block)
        for first, last, one in CODES[kind]:
            blocks[:, first:last] = number * one
        values.append(unpack(codes, kind))
    zeros, ones = values
    return np.abs(ones - zeros)


def _sum_squares(values: np.ndarray) -> float:
    return float(np.square(values, dtype=np.float64).sum())


@contextmanager
def open_gguf(model_info: Mapping, cache: Path) -> Iterator[Path]:
    """Yield the GGUF file that a prepared model was converted from.

    A file inside a wheel is unpacked to a temporary folder, removed at the end.

    model_info: of `sources.prepare_model`. cache: the folder of wheels, see
        `environment.cache_folder`.

    Raises:
        UserError: the model does not come from a GGUF file, or the file is gone.
    """
    where = f"model {model_info['name']}: figures.module_map.metric: gguf_error"
    again = "prepare the model again with: snakemake --forcerun prepare_model"
    if model_info.get("gguf"):
        path = Path(model_info["gguf"])
        if not path.is_file():
            raise UserError(f"{where}: {path} is gone; {again}")
        yield path
        return
    if model_info["source"] == "pypi_parts":
        raise UserError(f"{where}: {model_info['file']} is gone; {again}")
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
