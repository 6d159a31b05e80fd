"""The safetensors files of a transformers folder, and their tensors' names, dtypes and shapes."""

import json
from pathlib import Path
from typing import NamedTuple

from llm_figures.core.errors import UserError

INDEX = "model.safetensors.index.json"


class StoredTensor(NamedTuple):
    """A tensor in a file. dtype: as the file names it, such as BF16."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def read_index(folder: Path, where: str) -> dict[str, str]:
    """Read the index of a folder with several files: {tensor: file name}; {} without an index.

    where: how messages begin.

    Raises:
        UserError: the index cannot be read.
    """
    index = folder / INDEX
    if not index.is_file():
        return {}
    try:
        return json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: {index} cannot be read: {error!r}") from None


def weight_files(folder: Path, index: dict[str, str]) -> list[Path]:
    """The files of a model's weights. index: as from `read_index`."""
    if index:
        return [folder / name for name in sorted(set(index.values()))]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else sorted(folder.glob("*.safetensors"))


def read_header(file: Path, where: str) -> dict[str, StoredTensor]:
    """Read the names, dtypes and shapes of a file's tensors, not their data.

    Raises:
        UserError: the file is missing, not a safetensors file, or truncated.
    """
    # not at the top: this is imported for planning in the drawing environment, which lacks it
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            stored = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (not a dict: it cannot be iterated)
            return {
                name: StoredTensor(file, tensor.get_dtype(), tuple(tensor.get_shape()))
                for name, tensor in stored.items()
            }
    except FileNotFoundError:
        raise UserError(f"{where}: {file} is missing; complete the download") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{where}: {file} is damaged ({error}); download it again") from None
