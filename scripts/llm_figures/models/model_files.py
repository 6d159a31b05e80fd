"""What stands in place of a model's files: their JSON objects, and pointers of Git LFS.

It is imported while the workflow is planned, so nothing here needs torch.
"""

import json
from pathlib import Path
from typing import Any

from llm_figures.core.errors import UserError

# A file of Git LFS that was not downloaded begins so.
LFS_POINTER = b"version https://git-lfs"
A_POINTER = "a Git LFS pointer, not the file itself; fetch it with: git lfs pull"


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is a pointer of Git LFS in place of what was to be downloaded."""
    with file.open("rb") as opened:
        return opened.read(len(LFS_POINTER)) == LFS_POINTER


def refuse_lfs_pointer(file: Path, where: str) -> None:
    """Raise a UserError, which begins with `where`, if a file is a pointer of Git LFS."""
    if is_lfs_pointer(file):
        raise UserError(f"{where}: {file} is {A_POINTER}")


def read_json_object(file: Path, where: str) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    where: how messages begin.

    Raises:
        UserError: the file is missing, a Git LFS pointer, cut short or no JSON object.
    """
    try:
        refuse_lfs_pointer(file, where)
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{where}: {file} is missing; complete the download") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is empty" if not _size(file) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{where}: {file} is not JSON ({' '.join(reason.split())[:200]}); download it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"{where}: {file} is not JSON of an object in braces, but a "
            f"{type(content).__name__}; download it again"
        )
    return content


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 1
