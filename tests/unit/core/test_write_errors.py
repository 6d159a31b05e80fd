"""Full disks and read-only folders, as systems and libraries report them."""

import errno
import os

import pytest
from safetensors import SafetensorError

from llm_figures.core.errors import UserError
from llm_figures.core.write_errors import FULL, find_write_problem, writing_to


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (OSError(errno.ENOSPC, "whatever", "a.parquet"), "No space left on device"),
        (PermissionError(errno.EACCES, "whatever"), "Permission denied"),
        (OSError(errno.EROFS, "whatever"), "Read-only file system"),
        (OSError(errno.EDQUOT, "whatever"), os.strerror(errno.EDQUOT)),
        (SafetensorError("I/O error: no space (os error 28)"), "No space left on device"),
        ("ERROR: Could not install: [Errno 28] No space left", "No space left on device"),
        (FileNotFoundError(errno.ENOENT, "whatever"), None),
        (OSError("no number"), None),
        (ValueError("28"), None),
    ],
    ids=repr,
)
def test_what_cannot_be_written_is_told_from_other_errors(error, problem):
    assert find_write_problem(error) == problem


def test_only_a_full_or_read_only_disk_is_surely_about_writing():
    assert find_write_problem(PermissionError(errno.EACCES, "whatever"), FULL) is None


def test_the_folder_is_named_and_other_errors_pass(tmp_path):
    line = f"cannot write to {tmp_path}: No space left on device; make room"
    with pytest.raises(UserError) as caught, writing_to(tmp_path, "make room"):
        raise OSError(errno.ENOSPC, "whatever")
    assert str(caught.value) == line
    for error in (ValueError("x"), UserError("the model's file: [Errno 13] Permission denied")):
        with pytest.raises(type(error), match=error.args[0][:5]), writing_to(tmp_path, "make room"):
            raise error
