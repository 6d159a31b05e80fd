"""Write files atomically.

A file is written under a temporary name beside its place and renamed at the end, so that a job that
dies leaves nothing that a later run could take for data.
"""

import glob
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds without a write after which another machine's partial file counts as abandoned.
ABANDONED_AFTER = 7 * 24 * 3600


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` on success, else remove it.

    If two jobs write the same file, on one machine or on two that share the folder, each has a
    temporary name of its own, and the last to finish wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if _abandoned(partial):
            partial.unlink(missing_ok=True)
    writer = f"{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
    partial = path.with_name(f".{path.name}.{writer}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _abandoned(partial: Path) -> bool:
    """Whether the writer of a partial file was killed.

    Another machine's processes are not known here: its file counts as abandoned after a week
    without a write.
    """
    *_, host, process, _, _ = partial.name.split(".")
    if host == _host() and process.isdecimal():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's, so alive
            pass
        return False
    try:
        return time.time() - partial.stat().st_mtime > ABANDONED_AFTER
    except FileNotFoundError:  # finished or removed meanwhile
        return False


def _host() -> str:
    return socket.gethostname().split(".")[0]
