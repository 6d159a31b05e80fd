"""What is said of a file that cannot be written: a full disk, a folder that is read-only."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_figures.core.errors import UserError

# Errors of writing alone; EACCES and EPERM may be of reading, too.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
REFUSED = FULL | {errno.EACCES, errno.EPERM}
# As libraries in Rust and pip write the number of an error of the system.
_NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")


def find_write_problem(error: Exception | str, numbers: set[int] = REFUSED) -> str | None:
    """The system's words for an error of writing; None for any other error.

    error: an exception, or what another program says. numbers: the errors that count.
    """
    number = getattr(error, "errno", None)
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1] or found[2])
    return os.strerror(number) if number in numbers else None


@contextmanager
def writing_to(folder: Path, advice: str) -> Iterator[None]:
    """Name the folder where its files cannot be written; advice: what to do.

    Raises:
        UserError: it is full, read-only or somebody else's.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if problem := find_write_problem(error):
            raise UserError(f"cannot write to {folder}: {problem}; {advice}") from error
        raise
