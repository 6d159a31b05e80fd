"""Who holds a working directory, and Snakemake's locks that a killed run left there.

    python -m llm_figures.provenance.locks

removes the locks, unless a process of this machine still makes files there (`make unlock`). Each
Snakemake that may make files names itself in `.snakemake/holders` for as long as it runs.
"""

import atexit
import json
import logging
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from llm_figures.core.atomic_files import write_text
from llm_figures.core.processes import Process, describe_self, read_process

LOCKS = Path(".snakemake", "locks")
HOLDERS = Path(".snakemake", "holders")


def hold_folder() -> str | None:
    """Name this process as a holder until it ends, and remove the locks of killed ones.

    Returns a line for the terminal if there were any.
    """
    own = describe_self()
    path = (HOLDERS / f"{own.host}-{own.pid}.json").absolute()
    write_text(path, json.dumps(asdict(own)))
    atexit.register(path.unlink, missing_ok=True)
    return remove_stale_locks()


def remove_stale_locks() -> str | None:
    """Remove the locks if all holders were killed on this machine; returns a line about it."""
    holders = _find_holders()
    if not _locked() or holders[True] or holders[None] or not holders[False]:
        return None
    return _remove_locks(holders[False], " on this machine, which was killed")


def describe_holder() -> str:
    """One line that says who holds this folder and what to do."""
    holders = _find_holders()
    for holder in holders[True]:
        return (
            f"process {holder.pid} on {holder.host} makes files in this folder; wait for it, or "
            f"end it: kill {holder.pid}"
        )
    for holder in holders[None]:
        return (
            f"process {holder.pid} on {holder.host} holds this folder, unless it was killed there; "
            "if it was: make unlock"
        )
    for holder in holders[False]:
        return (
            f"process {holder.pid} on {holder.host} held this folder and was killed; the next run "
            "removes its lock"
        )
    return "an unknown process locked this folder; if no other Snakemake works here: make unlock"


class NameHolder(logging.Filter):
    """Says who holds the folder where Snakemake's own message can only guess."""

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(("LockException", "Error: Directory cannot be locked")):
            record.msg, record.args = describe_holder(), ()
        return True


def _find_holders() -> dict[bool | None, list[Process]]:
    """The holders but this process, by whether they are alive; None for those elsewhere.

    The notes of dead ones are removed with their locks.
    """
    found: dict[bool | None, list[Process]] = {True: [], False: [], None: []}
    own = describe_self()
    for path in sorted(HOLDERS.glob("*.json")):
        try:
            holder = read_process(path.read_text(encoding="utf-8"))
        except OSError:  # it has just ended
            continue
        if holder is not None and holder != own:
            found[holder.alive()].append(holder)
    return found


def _locked() -> bool:
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def _remove_locks(holders: list[Process], why: str) -> str:
    shutil.rmtree(LOCKS, ignore_errors=True)
    for holder in holders:
        (HOLDERS / f"{holder.host}-{holder.pid}.json").unlink(missing_ok=True)
    who = ", ".join(f"process {holder.pid} on {holder.host}" for holder in holders)
    return f"removed the lock of {who or 'an unknown process'}{why}"


def main() -> int:
    """Remove the locks of the working directory; returns 1 if a living process holds it."""
    holders = _find_holders()
    if holders[True]:
        print(f"error: {describe_holder()}", file=sys.stderr)
        return 1
    if _locked():
        print(_remove_locks(holders[False] + holders[None], ""))
    else:
        print("this folder is not locked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
