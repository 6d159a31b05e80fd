"""Read the matrices of a checkpoint's safetensors files one by one."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from llm_figures.core.errors import UserError
from llm_figures.models.auto_classes import read_text_config
from llm_figures.models.model_info import read_model_info, shape_of
from llm_figures.models.projection_families import check_query, find_places, layout_of
from llm_figures.models.projection_layouts import COLUMNS, O, Place, Q, heads_of, output_rows
from llm_figures.models.safetensors_files import (
    INDEX,
    StoredTensor,
    read_header,
    read_index,
    weight_files,
)
from llm_figures.models.tensor_names import OTHER_TOWER
from llm_figures.models.weight_checks import is_finite

DTYPES = ("F64", "F32", "F16", "BF16")
# Endings of tensors that hold packed weights, or what is needed to unpack them.
PACKED = re.compile(
    r"(_blocks|_scales|_scale_inv|\.(qweight|qzeros|scales|g_idx|SCB|weight_packed|weight_scale"
    r"|absmax|quant_map|quant_state[\w.]*))$"
)


class Checkpoint:
    """The projections of every block of a transformers folder, read one matrix at a time.

    layers: the number of blocks. model_type, heads: from config.json, or its text_config.

    Raises:
        UserError: no safetensors weights, damaged or incomplete files, packed weights, or blocks in
            an unknown place.
    """

    def __init__(self, folder: str | Path, where: str):
        """where: how messages begin, such as "model NAME"."""
        self.folder, self.where = Path(folder), where
        self.config = self._read_config()
        self.model_type = self.config.get("model_type")
        self.heads = heads_of(self.config)
        self._tensors = self._read_headers()
        self._start, self._names = self._find_blocks()
        self.layers = len(self._names)
        self._places = [self._find_places(layer) for layer in range(self.layers)]

    def projections(self, layer: int) -> list[str]:
        """The projections of a block, in the order of the figure."""
        return list(self._places[layer])

    def experts(self, layer: int, projection: str) -> int:
        """The number of a projection's matrices: one, or one per expert."""
        return len(self._stored(layer, projection))

    def shape(self, layer: int, projection: str) -> tuple[int, int]:
        """(d_out, d_in) of a projection's matrix, or of one expert's."""
        place = self._places[layer][projection]
        name, expert = self._stored(layer, projection)[0]
        d_out, d_in = self._stored_shape(name, expert, place)
        if _is_single(expert, place):
            return d_out, d_in
        return _count(output_rows(place, d_out, self.heads), d_out), d_in

    def matrices(self, layer: int, projection: str) -> Iterator[torch.Tensor]:
        """A projection's matrix [d_out, d_in] in the checkpoint's own dtype; experts one by one.

        In memory is the matrix that is yielded, and the fused one that contains it if its rows are
        not contiguous.

        Raises:
            UserError: a matrix holds NaN or infinite numbers; names layer and projection.
        """
        for name, matrix in self._read_matrices(layer, projection):
            if not is_finite(matrix):
                raise UserError(
                    f"{self.where}: layer {layer}, {projection}, holds NaN or infinite numbers "
                    f"({name} in {self._tensors[name].file}); download it again, or choose another "
                    "checkpoint"
                )
            yield matrix

    def _read_matrices(self, layer: int, projection: str) -> Iterator[tuple[str, torch.Tensor]]:
        """(tensor, matrix) of every matrix of a projection."""
        place = self._places[layer][projection]
        for name, expert in self._stored(layer, projection):
            if _is_single(expert, place):
                yield name, self._read(name)
                continue
            d_out, _ = self._stored_shape(name, expert, place)
            rows = output_rows(place, d_out, self.heads)
            if place.transposed:
                whole = self._read(name, expert)
                yield name, _rows(whole.T, rows).contiguous()
            elif isinstance(rows, slice) and rows.step in (None, 1):
                yield name, self._read(name, expert, rows)
            else:
                yield name, _rows(self._read(name, expert), rows).contiguous()

    def _read_config(self) -> dict:
        if not (self.folder / "config.json").is_file():
            raise UserError(
                f"{self.where}: {self.folder / 'config.json'} cannot be read; if the folder is "
                "gone, prepare the model again with: snakemake --forcerun prepare_model"
            )
        return read_text_config(self.folder, self.where)

    def _read_headers(self) -> dict[str, StoredTensor]:
        """{name: tensor} of all shards."""
        index = read_index(self.folder, self.where)
        files = weight_files(self.folder, index)
        if not index and not files[0].is_file():
            pickled = any(self.folder.glob("*.bin"))
            raise UserError(
                f"{self.where}: no .safetensors weights in {self.folder}"
                + (", only pickled ones (.bin)" if pickled else "")
                + "; metrics of weights need safetensors files"
            )
        tensors: dict[str, StoredTensor] = {}
        for file in files:
            tensors |= read_header(file, self.where)
        if absent := sorted(set(index) - set(tensors)):
            raise UserError(
                f"{self.where}: {len(absent)} tensor(s) that {INDEX} names are in no file, "
                f"for example {absent[0]}; complete the download"
            )
        return tensors

    def _find_blocks(self) -> tuple[str, list[dict[str, str]]]:
        """The prefix of a block's number in names, and each block's {name in the model: in files}.

        Both are relative to the block.
        """
        keys = ("num_hidden_layers", "n_layer")
        layers = next((self.config[key] for key in keys if self.config.get(key)), 0)
        rename = layout_of(self.model_type).rename
        stacks: dict[str, dict[int, dict[str, str]]] = {}
        for name in self._tensors:
            parts = re.fullmatch(r"((?:[^.]+\.)*?)(\d+)\.(.+)", name)
            if parts and not OTHER_TOWER.search(parts[1]):
                block = stacks.setdefault(parts[1], {}).setdefault(int(parts[2]), {})
                block[rename(parts[3])] = parts[3]
        if not layers and len(stacks) == 1:  # a config that lists its blocks' kinds alone
            layers = max(len(blocks) for blocks in stacks.values())
        complete = [start for start, blocks in stacks.items() if blocks.keys() >= {*range(layers)}]
        if layers and len(complete) == 1:
            return complete[0], [stacks[complete[0]][layer] for layer in range(layers)]
        if not complete and len(stacks) == 1:
            ((start, blocks),) = stacks.items()
            raise UserError(
                f"{self.where}: config.json says {layers} layers, but no tensor begins with "
                f"{start}{min({*range(layers)} - blocks.keys())}; complete the download"
            )
        raise UserError(
            f"{self.where}: the {layers} blocks of a {self.model_type} model are not found among "
            f"the {len(self._tensors)} tensors in {self.folder}, for example "
            f"{next(iter(self._tensors), 'none')}"
        )

    def _find_places(self, layer: int) -> dict[str, Place]:
        names = self._names[layer]
        try:
            places = find_places(self.config, layer, names, self.where)
        except UserError:
            self._refuse_packed(layer, [name for name in names if PACKED.search(name)])
            raise
        used = [
            name
            for place in places.values()
            for name in (place.weight, *(name.format(0) for name in place.single))
            if name in names
        ]
        self._refuse_packed(
            layer, [n for n in used if self._tensors[self._full_name(layer, n)].dtype not in DTYPES]
        )
        if Q in places and O in places:
            outputs, d_in = (
                self._tensors[self._full_name(layer, places[name].weight)].shape[side]
                for name, side in ((Q, 0), (O, -1))
            )
            check_query(self.model_type, layer, outputs, d_in, self.where)
        return places

    def _refuse_packed(self, layer: int, names: list[str]) -> None:
        if not names:
            return
        name = self._full_name(layer, names[0])
        method = (self.config.get("quantization_config") or {}).get("quant_method")
        raise UserError(
            f"{self.where}: {name} ({self._tensors[name].dtype}) holds packed weights"
            + (f" ({method})" if method else "")
            + "; metrics of weights need float32, float16 or bfloat16 tensors: use the unquantised "
            "checkpoint"
        )

    def _full_name(self, layer: int, name: str) -> str:
        return f"{self._start}{layer}.{self._names[layer].get(name, name)}"

    def _stored(self, layer: int, projection: str) -> list[tuple[str, int | None]]:
        """(tensor, expert in it or None) of every matrix of a projection."""
        place, names = self._places[layer][projection], self._names[layer]
        full_name = self._full_name(layer, place.weight)
        if not place.experts:
            return [(full_name, None)]
        if place.weight in names:
            return [(full_name, expert) for expert in range(self._tensors[full_name].shape[0])]
        pattern = next(single for single in place.single if single.format(0) in names)
        before, after = map(re.escape, pattern.split("{}"))
        numbers = {
            int(number[1])
            for name in names
            if (number := re.fullmatch(rf"{before}(\d+){after}", name))
        }
        expected = shape_of(self.config)["experts"] or 0
        if absent := set(range(max(*numbers, expected - 1) + 1)) - numbers:
            number = min(numbers)
            known = self._full_name(layer, pattern.format(number)).rpartition(f".{number}.")
            raise UserError(
                f"{self.where}: {known[0]}.{min(absent)}.{known[2]} is in no file, unlike other "
                "experts; complete the download"
            )
        return [
            (self._full_name(layer, pattern.format(number)), None) for number in sorted(numbers)
        ]

    def _stored_shape(self, name: str, expert: int | None, place: Place) -> tuple[int, int]:
        """(d_out, d_in) of a tensor, or of one expert in it, before rows are selected."""
        shape = self._tensors[name].shape
        shape = shape if expert is None else shape[1:]
        if len(shape) != 2:
            raise UserError(f"{self.where}: {name} has shape {shape}, not that of a matrix")
        transposed = place.transposed and not _is_single(expert, place)
        return (shape[1], shape[0]) if transposed else (shape[0], shape[1])

    def _read(self, name: str, expert: int | None = None, rows: slice | None = None):
        """Read a tensor, or one expert of it, or contiguous rows of that."""
        file = self._tensors[name].file
        selection = (() if expert is None else (expert,)) + (() if rows is None else (rows,))
        try:
            # opened for each tensor: all pages read from an open file count as the job's memory
            with safe_open(file, framework="pt") as opened:
                return opened.get_slice(name)[selection]
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{self.where}: {file} cannot be read ({error}); check the disk, or download it "
                "again"
            ) from None


def open_checkpoint(model_info: str | Path) -> Checkpoint:
    """The checkpoint of the model that a `model.json` describes (see `Checkpoint`)."""
    known = read_model_info(model_info)
    return Checkpoint(known["folder"], f"model {known['name']}")


def check_same_architecture(one: Checkpoint, other: Checkpoint) -> None:
    """Check that the matrices of two checkpoints can be subtracted; their storage may differ.

    Raises:
        UserError: names the first difference.
    """
    start = f"figures.module_map.compare_with: {one.where} and {other.where} differ in"
    for what in ("model_type", "layers", "heads"):
        values = getattr(one, what), getattr(other, what)
        if values[0] != values[1]:
            first, second = map(vars, values) if what == "heads" else values
            raise UserError(f"{start} {what}: {first} and {second}; choose one architecture")
    for layer in range(one.layers):
        for projection in COLUMNS:
            first, second = (
                (checkpoint.experts(layer, projection), *checkpoint.shape(layer, projection))
                if projection in checkpoint.projections(layer)
                else None
                for checkpoint in (one, other)
            )
            if first != second:
                raise UserError(
                    f"{start} {projection!r} of layer {layer}: {_describe_size(first)} and "
                    f"{_describe_size(second)}; choose one architecture"
                )


def _describe_size(size: tuple[int, int, int] | None) -> str:
    """size: (experts, d_out, d_in); None without the projection."""
    if size is None:
        return "none"
    experts, d_out, d_in = size
    return f"{d_out} × {d_in}" + (f", {experts} experts" if experts > 1 else "")


def _is_single(expert: int | None, place: Place) -> bool:
    """Whether a tensor is the map of one expert alone, neither fused nor transposed."""
    return place.experts and expert is None


def _rows(matrix: torch.Tensor, rows: slice | np.ndarray) -> torch.Tensor:
    return matrix[rows if isinstance(rows, slice) else torch.from_numpy(rows)]


def _count(rows: slice | np.ndarray, d_out: int) -> int:
    return len(range(*rows.indices(d_out))) if isinstance(rows, slice) else len(rows)
