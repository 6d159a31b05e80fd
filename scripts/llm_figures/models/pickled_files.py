"""The pickled weights of a transformers folder, which `safetensors_only: false` allows."""

import zipfile
from pathlib import Path

from llm_figures.core.errors import UserError
from llm_figures.models.model_files import refuse_lfs_pointer
from llm_figures.models.safetensors_files import read_index

SINGLE = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"
# How torch before 1.6 began a file: the pickle of a magic number.
_OLD_FORMAT = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


def check_pickled_files(folder: Path, where: str) -> list[Path]:
    """The files of a folder's pickled weights, which begin and end as torch writes them.

    Nothing is unpickled, so that no code runs.

    Raises:
        UserError: a file is missing, empty, a Git LFS pointer or damaged; begins with `where`.
    """
    files = _list_files(folder, where)
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(
            f"{where}: {len(missing)} of {len(files)} weight files are missing, for example "
            f"{missing[0]}; complete the download"
        )
    for file in files:
        refuse_lfs_pointer(file, where)
        with file.open("rb") as opened:
            start = opened.read(len(_OLD_FORMAT))
        # the table of a zip archive is at its end, so that one cut short is none
        if start != _OLD_FORMAT and not zipfile.is_zipfile(file):
            reason = "holds no weights as torch saves them, or only a part" if start else "is empty"
            raise UserError(f"{where}: {file} {reason}; download it again")
    return files


def _list_files(folder: Path, where: str) -> list[Path]:
    """The pickled files that transformers loads a model's weights from, which may not be there.

    Raises:
        UserError: a damaged index; begins with `where`.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = read_index(folder, where, INDEX)
    return [folder / name for name in sorted(set(index.values()))] or [folder / SINGLE]
