"""Who holds a working directory, and Snakemake's locks that a killed run left there.

    python -m llm_figures.provenance.locks

removes the locks, unless a process of this machine still works there (`make unlock`). Each
Snakemake that makes files names itself in `.snakemake/holders` for as long as it runs.
"""

import atexit
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from llm_figures.core.atomic_files import write_text
from llm_figures.core.processes import Process, describe_self, read_process

LOCKS = Path(".snakemake", "locks")
HOLDERS = Path(".snakemake", "holders")


def hold_folder() -> str | None:
    """Name this process as a holder until it ends; remove locks whose holders were all killed.

    Returns a line for the terminal where there are locks.
    """
    own = describe_self()
    path = (HOLDERS / f"{own.host}-{own.pid}.json").absolute()
    write_text(path, json.dumps(asdict(own)))
    atexit.register(path.unlink, missing_ok=True)
    return tidy_locks(own)


def tidy_locks(own: Process | None = None, forced: bool = False) -> str | None:
    """Remove locks whose holders have all been killed; returns a line for the terminal, if any.

    forced: remove them also where the holder is on another machine or not known.

    Raises:
        BlockingIOError: a process of this machine holds the folder, and `forced` is given.
    """
    ended, living, elsewhere = [], [], []
    for path in sorted(HOLDERS.glob("*.json")):
        holder = _read(path)
        if holder is None or holder == own:
            continue
        alive = holder.alive()
        {True: living, False: ended, None: elsewhere}[alive].append(holder)
        if alive is False or (forced and alive is None):
            path.unlink(missing_ok=True)
    locked = LOCKS.is_dir() and any(LOCKS.iterdir())
    if living and (locked or forced):
        holder = living[0]
        line = (
            f"process {holder.pid} on {holder.host} makes files in this folder; wait for it, or "
            f"end it: kill {holder.pid}"
        )
        if forced:
            raise BlockingIOError(line)
        return line
    if not locked:
        return None
    if forced or (ended and not elsewhere):
        shutil.rmtree(LOCKS, ignore_errors=True)
        who = ", ".join(f"process {holder.pid} on {holder.host}" for holder in ended + elsewhere)
        return f"removed the lock of {who or 'an unknown process'}" + (
            ", which was killed" if ended and not elsewhere else ""
        )
    if elsewhere:
        return (
            f"process {elsewhere[0].pid} on {elsewhere[0].host} holds this folder, or was killed "
            "there; if it was: make unlock"
        )
    return (
        "this folder is locked by an unknown process; if no other Snakemake runs here: make unlock"
    )


def _read(path: Path) -> Process | None:
    try:
        return read_process(path.read_text(encoding="utf-8"))
    except OSError:  # it has just ended
        return None


def main(arguments: Sequence[str]) -> int:
    """Remove the locks of the working directory; 1 if a living process holds it."""
    if arguments:
        print("usage: no arguments, in the working directory", file=sys.stderr)
        return 2
    try:
        print(tidy_locks(forced=True) or "this folder is not locked")
    except BlockingIOError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
