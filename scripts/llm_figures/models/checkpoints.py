"""A checkpoint's matrices one by one, from safetensors shards or a GGUF file, never all at once."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from llm_figures.core.errors import UserError
from llm_figures.models.model_info import read_model_info, shape_of
from llm_figures.models.projection_layouts import PROJECTIONS, Place, heads_of, output_rows, places
from llm_figures.models.safetensors_files import (
    INDEX,
    StoredTensor,
    read_header,
    read_index,
    weight_files,
)

DTYPES = ("F64", "F32", "F16", "BF16")
# Endings of tensors that hold packed weights, or what it takes to unpack them.
PACKED = re.compile(
    r"(_blocks|_scales|_scale_inv|\.(qweight|qzeros|scales|g_idx|SCB|weight_packed|weight_scale"
    r"|absmax|quant_map|quant_state[\w.]*))$"
)
# Towers beside the decoder of a model that also sees or hears.
OTHER_TOWER = re.compile(r"vision|visual|image|audio|speech|encoder", re.IGNORECASE)


class Checkpoint:
    """The projections of every block of a transformers folder, read one matrix at a time.

    layers: number of blocks. model_type, heads: of the config.json (its text_config).

    Raises:
        UserError: no safetensors weights, damaged or incomplete files, packed weights, or blocks
            that are not where they are known to be.
    """

    def __init__(self, folder: str | Path, where: str):
        """where: how messages begin, "model NAME"."""
        self.folder, self.where = Path(folder), where
        self.config = self._read_config()
        self.model_type = self.config.get("model_type")
        self.heads = heads_of(self.config)
        self._tensors = self._headers()
        self._start, self._names = self._find_blocks()
        self.layers = len(self._names)
        self._places = [self._find_places(layer) for layer in range(self.layers)]

    def columns(self, layer: int) -> list[str]:
        """The columns of the module map that a block has, in the order of the figure."""
        return list(self._places[layer])

    def experts(self, layer: int, column: str) -> int:
        """How many matrices a column's projection is made of."""
        return len(self._parts(layer, column))

    def shape(self, layer: int, column: str) -> tuple[int, int]:
        """[d_out, d_in] of a column's matrix, of one expert where there are several."""
        place, (part, *_) = self._places[layer][column], self._parts(layer, column)
        d_out, d_in = self._stored_shape(*part, place)
        if _singly(part[1], place):
            return d_out, d_in
        return _count(output_rows(place, d_out, self.heads), d_out), d_in

    def matrices(self, layer: int, column: str) -> Iterator[torch.Tensor]:
        """A column's matrix [d_out, d_in] in the checkpoint's own dtype; experts one by one.

        Nothing but the matrix that is yielded is in memory, and the fused one it is cut from
        where its rows do not lie together.
        """
        place = self._places[layer][column]
        for name, expert in self._parts(layer, column):
            if _singly(expert, place):
                yield self._read(name)
                continue
            d_out, _ = self._stored_shape(name, expert, place)
            rows = output_rows(place, d_out, self.heads)
            if place.transposed:
                whole = self._read(name, expert)
                yield _rows(whole.T, rows).contiguous()
            elif isinstance(rows, slice) and rows.step in (None, 1):
                yield self._read(name, expert, rows)
            else:
                yield _rows(self._read(name, expert), rows).contiguous()

    def _read_config(self) -> dict:
        try:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.where}: {self.folder / 'config.json'} cannot be read ({error}); if the "
                "folder is gone, prepare the model again with: snakemake --forcerun prepare_model"
            ) from None
        packing = {"quantization_config": config.get("quantization_config")}
        return {**packing, **config.get("text_config", config)}

    def _headers(self) -> dict[str, StoredTensor]:
        """{tensor: where it is stored} of all shards."""
        index = read_index(self.folder, self.where)
        files = weight_files(self.folder, index)
        if not files:
            pickled = any(self.folder.glob("*.bin"))
            raise UserError(
                f"{self.where}: no .safetensors weights in {self.folder}"
                + (" but pickled ones (.bin)" if pickled else "")
                + "; metrics of weights are read from safetensors files alone"
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

    def _find_blocks(self) -> tuple[str, list[dict[str, None]]]:
        """What stands before a block's number, and the names in each block, relative to it."""
        keys = ("num_hidden_layers", "n_layer")
        layers = next((self.config[key] for key in keys if self.config.get(key)), 0)
        found: dict[str, dict[int, dict[str, None]]] = {}
        for name in self._tensors:
            if parts := re.fullmatch(r"((?:[^.]+\.)*?)(\d+)\.(.+)", name):
                found.setdefault(parts[1], {}).setdefault(int(parts[2]), {})[parts[3]] = None
        some = {start: of for start, of in found.items() if not OTHER_TOWER.search(start)}
        whole = [start for start, of in some.items() if of.keys() >= {*range(layers)}]
        if layers and len(whole) == 1:
            return whole[0], [some[whole[0]][layer] for layer in range(layers)]
        if not whole and len(some) == 1:
            ((start, of),) = some.items()
            raise UserError(
                f"{self.where}: config.json says {layers} layers, but no tensor begins with "
                f"{start}{min({*range(layers)} - of.keys())}; complete the download"
            )
        raise UserError(
            f"{self.where}: the {layers} blocks of a {self.model_type} model are not found among "
            f"the {len(self._tensors)} tensors in {self.folder}, for example "
            f"{next(iter(self._tensors), 'none')}"
        )

    def _find_places(self, layer: int) -> dict[str, Place]:
        names = self._names[layer]
        try:
            found = places(self.model_type, names, self.where)
        except UserError:
            self._refuse_packed(layer, [name for name in names if PACKED.search(name)])
            raise
        used = [
            name
            for place in found.values()
            for name in (place.weight, *(name.format(0) for name in place.single))
            if name in names
        ]
        self._refuse_packed(
            layer, [n for n in used if self._tensors[self._full(layer, n)].dtype not in DTYPES]
        )
        return found

    def _refuse_packed(self, layer: int, names: list[str]) -> None:
        if not names:
            return
        name = self._full(layer, names[0])
        method = (self.config.get("quantization_config") or {}).get("quant_method")
        raise UserError(
            f"{self.where}: {name} ({self._tensors[name].dtype}) holds packed weights"
            + (f" ({method})" if method else "")
            + "; metrics of weights need float32, float16 or bfloat16 tensors, so take the "
            "unquantised checkpoint"
        )

    def _full(self, layer: int, name: str) -> str:
        return f"{self._start}{layer}.{name}"

    def _parts(self, layer: int, column: str) -> list[tuple[str, int | None]]:
        """(tensor, expert in it or None) of every matrix of a column."""
        place, names = self._places[layer][column], self._names[layer]
        whole = self._full(layer, place.weight)
        if not place.experts:
            return [(whole, None)]
        if place.weight in names:
            return [(whole, expert) for expert in range(self._tensors[whole].shape[0])]
        pattern = next(single for single in place.single if single.format(0) in names)
        before, after = map(re.escape, pattern.split("{}"))
        numbers = {
            int(found[1])
            for name in names
            if (found := re.fullmatch(rf"{before}(\d+){after}", name))
        }
        said = shape_of(self.config)["experts"] or 0
        if absent := set(range(max(*numbers, said - 1) + 1)) - numbers:
            raise UserError(
                f"{self.where}: {self._full(layer, pattern.format(min(absent)))} is in no file, "
                "others of its experts are; complete the download"
            )
        return [(self._full(layer, pattern.format(number)), None) for number in sorted(numbers)]

    def _stored_shape(self, name: str, expert: int | None, place: Place) -> tuple[int, int]:
        """[d_out, d_in] of a tensor (of one expert in it), before rows are cut out."""
        shape = self._tensors[name].shape
        shape = shape if expert is None else shape[1:]
        if len(shape) != 2:
            raise UserError(f"{self.where}: {name} has shape {shape}, not that of a matrix")
        turned = place.transposed and not _singly(expert, place)
        return (shape[1], shape[0]) if turned else (shape[0], shape[1])

    def _read(self, name: str, expert: int | None = None, rows: slice | None = None):
        """A tensor, one expert's of it, and of that some rows that lie together."""
        file = self._tensors[name].file
        place = (() if expert is None else (expert,)) + (() if rows is None else (rows,))
        try:
            # Opened for this tensor alone: of a file that stays open, all pages that were read
            # count as memory of the job.
            with safe_open(file, framework="pt") as opened:
                return opened.get_slice(name)[place]
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{self.where}: {file} cannot be read ({error}); check the disk, or download it "
                "again"
            ) from None


def checkpoint_of(model_info: str | Path) -> Checkpoint:
    """The checkpoint that a `model.json` describes (see `Checkpoint`)."""
    known = read_model_info(model_info)
    return Checkpoint(known["folder"], f"model {known['name']}")


def check_same_architecture(one: Checkpoint, other: Checkpoint) -> None:
    """Two checkpoints whose matrices can be subtracted; forms of storage may differ.

    Raises:
        UserError: the first difference, by name.
    """
    start = f"figures.module_map.compare_with: {one.where} and {other.where} differ in"
    for what in ("model_type", "layers", "heads"):
        mine, its = getattr(one, what), getattr(other, what)
        if mine != its:
            shown = (vars(mine), vars(its)) if what == "heads" else (mine, its)
            raise UserError(f"{start} {what}: {shown[0]} and {shown[1]}; give one architecture")
    for layer in range(one.layers):
        for column in PROJECTIONS:
            mine, its = (
                (point.experts(layer, column), *point.shape(layer, column))
                if column in point.columns(layer)
                else None
                for point in (one, other)
            )
            if mine != its:
                raise UserError(
                    f"{start} {column!r} of layer {layer}: {_shown(mine)} and {_shown(its)}; "
                    "give one architecture"
                )


def _shown(found: tuple[int, int, int] | None) -> str:
    if found is None:
        return "none"
    experts, d_out, d_in = found
    return f"{d_out} × {d_in}" + (f", {experts} experts" if experts > 1 else "")


def _singly(expert: int | None, place: Place) -> bool:
    """Whether a tensor is one expert's map by itself, neither fused nor transposed."""
    return place.experts and expert is None


def _rows(matrix: torch.Tensor, rows: slice | np.ndarray) -> torch.Tensor:
    return matrix[rows if isinstance(rows, slice) else torch.from_numpy(rows)]


def _count(rows: slice | np.ndarray, d_out: int) -> int:
    return len(range(*rows.indices(d_out))) if isinstance(rows, slice) else len(rows)
