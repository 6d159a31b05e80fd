"""The safetensors files of a transformers folder, and their tensors' names, dtypes and shapes."""

from pathlib import Path
from typing import NamedTuple

from llm_figures.core.errors import UserError
from llm_figures.models.expert_checks import check_experts
from llm_figures.models.model_files import read_json_object, refuse_lfs_pointer

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class StoredTensor(NamedTuple):
    """A tensor in a file. dtype: as the file names it, such as BF16."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def read_index(folder: Path, where: str, name: str = INDEX) -> dict[str, str]:
    """Read the index of a folder with several files: {tensor: file name}; {} without an index.

    where: how messages begin. name: of the index.

    Raises:
        UserError: the index cannot be read, or does not name a file of the folder for each tensor.
    """
    index = folder / name
    if not index.is_file():
        return {}
    names = read_json_object(index, where).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{where}: {index} has no weight_map of tensors; download it again")
    for tensor, file in names.items():
        if not isinstance(file, str) or not file or Path(file).name != file:
            raise UserError(
                f"{where}: {index}: weight_map: {tensor}: {file!r} is not the name of a file in "
                "the folder; download it again"
            )
    return names


def is_stored_safely(folder: Path) -> bool:
    """Whether a folder has safetensors files that transformers loads, rather than pickled ones."""
    return any((folder / name).is_file() for name in (SINGLE, INDEX))


def weight_files(folder: Path, index: dict[str, str]) -> list[Path]:
    """The files that transformers loads a model's weights from, which may not be there.

    index: as from `read_index`. Others, such as an adapter's or `consolidated.safetensors`, which
    Mistral publishes beside the same weights, are not read.
    """
    if index and not (folder / SINGLE).is_file():
        return [folder / name for name in sorted(set(index.values()))]
    return [folder / name for name in sorted({SINGLE, *index.values()})]


def read_header(file: Path, where: str) -> dict[str, StoredTensor]:
    """Read the names, dtypes and shapes of a file's tensors, not their data.

    Raises:
        UserError: the file is missing, not a safetensors file, or truncated.
    """
    # not at the top: this is imported for planning in the drawing environment, which lacks it
    from safetensors import SafetensorError, safe_open

    try:
        refuse_lfs_pointer(file, where)
        with safe_open(file, framework="numpy") as opened:
            stored = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (not a dict: it cannot be iterated)
            return {
                name: StoredTensor(file, tensor.get_dtype(), tuple(tensor.get_shape()))
                for name, tensor in stored.items()
            }
    except FileNotFoundError:
        raise UserError(f"{where}: {file} is missing; complete the download") from None
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: {file} is damaged ({reason}); download it again") from None


def check_weight_files(folder: Path, where: str) -> dict[str, StoredTensor]:
    """Check that a folder's safetensors files are there and whole, by their headers.

    Returns the tensors by name.

    Raises:
        UserError: a file is missing or damaged, or is not that of its index, or lacks what the
            experts beside have; begins with `where`.
    """
    index = read_index(folder, where)
    files = weight_files(folder, index)
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(
            f"{where}: {len(missing)} of {len(files)} weight files are missing, for example "
            f"{missing[0]}; complete the download"
        )
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors |= read_header(file, where)
    if absent := sorted(set(index) - tensors.keys()):
        raise UserError(
            f"{where}: {len(absent)} tensor(s) that {INDEX} names are in no file, for example "
            f"{absent[0]}; complete the download"
        )
    check_experts(tensors, where)
    return tensors
