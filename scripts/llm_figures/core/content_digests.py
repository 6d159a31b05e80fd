"""Digests of the user's own files, among the params of the rules that read them.

Snakemake looks at the content of an input only if it is newer than the output. A file that was
replaced by an older one (`cp -p`, `rsync -a`) is noticed by its digest.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from llm_figures.core.atomic_files import write_text
from llm_figures.core.checksums import sha256
from llm_figures.core.environment import cache_folder
from llm_figures.core.formatting import format_bytes

# Digests of files from this size on are kept; of smaller ones they are as soon taken as found.
KEPT_FROM = 4_000_000
# From this size on, a first reading is announced.
ANNOUNCED_FROM = 2_000_000_000


def digest_contents(files: Sequence[str | Path]) -> list[str | None]:
    """A digest of the content of each of the user's own files; None for one that cannot be read.

    Digests of large files are kept in the user's cache, with size, times and inode, so that weights
    are read once and not whenever a run begins.
    """
    paths = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 (links stay)
    known = [_kept_digest(path) for path in paths]
    waiting = [path for path, digest in zip(paths, known, strict=True) if digest is None]
    size = sum(path.stat().st_size for path in waiting if path.is_file())
    if size >= ANNOUNCED_FROM:
        print(f"reading {format_bytes(size)} of files once, to know them again", file=sys.stderr)
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(waiting, pool.map(_digest_content, waiting), strict=True))
    return [digest or found[path] for path, digest in zip(paths, known, strict=True)]


def _kept_digest(path: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        if path.stat().st_size >= KEPT_FROM:
            kept = json.loads(_kept_at(path).read_bytes())
            return kept["digest"] if kept["state"] == _state(path) else None
    return None


def _digest_content(path: Path) -> str | None:
    try:
        before = _state(path)
        digest = sha256(path)[:16]
    except OSError:
        return None
    # a file that was just written could change again within one tick of its times
    settled = time.time_ns() - max(before[1:3]) > 2_000_000_000
    if before[0] >= KEPT_FROM and settled:
        with suppress(OSError):  # a cache that cannot be written
            write_text(_kept_at(path), json.dumps({"state": before, "digest": digest}))
    return digest


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _kept_at(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"
