"""A second checkpoint beside a model's own, as further training might have left it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from made import SEED

from llm_figures.models.model_info import read_model_info

MOVED, SIZE = 0.5, 0.05  # share of the weights, and how far beside their root mean square
PIECE = 2**20
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@contextmanager
def changed_copy(model_info: Path, folder: Path) -> Iterator[Path]:
    """The model info of a copy in `folder`, there inside the block, half of whose weights have
    moved.

    It is written a piece at a time: what is held here must not be the process's peak.
    """
    known = read_model_info(model_info)
    shutil.copytree(known["folder"], folder)
    generator = torch.Generator().manual_seed(SEED)
    for file in sorted(folder.glob("*.safetensors")):
        file.chmod(0o644)
        with file.open("r+b") as opened:
            # The library only writes whole files. The header gives the offset of every tensor.
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
            for name in sorted(header.keys() - {"__metadata__"}):
                if len(header[name]["shape"]) == 2:
                    _move(opened, header[name], 8 + length, generator)
    path = folder / "model.json"
    path.write_text(json.dumps(known | {"name": f"{known['name']}-changed", "folder": str(folder)}))
    try:
        yield path
    finally:
        shutil.rmtree(folder)


def _move(file, tensor: dict, start: int, generator: torch.Generator) -> None:
    """Move half of a tensor's weights. start: where the file's tensors begin."""
    kind, left = DTYPES[tensor["dtype"]], tensor["shape"][0] * tensor["shape"][1]
    place = start + tensor["data_offsets"][0]
    while left:
        count = min(PIECE, left)
        file.seek(place)
        piece = torch.frombuffer(bytearray(file.read(count * kind.itemsize)), dtype=kind)
        noise = torch.randn(count, generator=generator)
        noise *= torch.rand(count, generator=generator) < MOVED
        moved = (piece + SIZE * piece.float().square().mean().sqrt() * noise).to(kind)
        file.seek(place)
        file.write(moved.view(torch.uint8).numpy().tobytes())
        place, left = place + count * kind.itemsize, left - count
