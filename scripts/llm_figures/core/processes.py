"""Which process is meant, also after its number was given to another one, and whether it lives."""

import _thread
import json
import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

# The variable in which Snakemake names itself to its jobs.
HEAD = "LLM_FIGURES_HEAD"
# Seconds between two looks at the head, and until a job that does not end by itself is ended.
WATCHED_EVERY = 1
ENDED_AFTER = 10


@dataclass(frozen=True)
class Process:
    """A process on some machine.

    namespace: of process numbers, which a container has of its own. boot: changes as the machine is
    started. begun: of the process, in the system's own unit.
    """

    host: str
    namespace: str
    boot: str
    pid: int
    begun: str

    def alive(self) -> bool | None:
        """Whether it runs; None for a process on another machine or in another container."""
        here = describe_self()
        if (self.host, self.namespace) != (here.host, here.namespace):
            return None
        return self.boot == here.boot and _begun(self.pid) == self.begun


def describe_self() -> Process:
    """This process."""
    namespace = boot = ""
    with suppress(OSError):  # another system
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (not the path of a file)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    pid = os.getpid()
    return Process(socket.gethostname(), namespace, boot, pid, _begun(pid) or "")


def read_process(text: str) -> Process | None:
    """The process that `json.dumps(asdict(process))` described; None for other text."""
    try:
        return Process(**json.loads(text))
    except (ValueError, TypeError):
        return None


def announce_head() -> None:
    """Name this process, a Snakemake, to the jobs that it starts."""
    os.environ[HEAD] = json.dumps(asdict(describe_self()))


def end_with_head(log: logging.Logger) -> None:
    """End this process, a job, soon after the Snakemake that started it was killed.

    Snakemake in a job of a cluster names itself anew, so that such a job outlives the head node's.
    """
    head = read_process(os.environ.get(HEAD, ""))
    if head is None or head.alive() is None:
        return
    # not SIGINT, which a shell lets processes in the background ignore
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    threading.Thread(target=_watch, args=(head, log), daemon=True).start()


def _watch(head: Process, log: logging.Logger) -> None:
    while head.alive():
        time.sleep(WATCHED_EVERY)
    log.debug("snakemake (process %d) was killed, and so this job ends", head.pid)
    _thread.interrupt_main(signal.SIGUSR1)  # partial files are removed on the way out
    time.sleep(ENDED_AFTER)
    os._exit(1)


def _begun(pid: int) -> str | None:
    """When a process of this machine began; None if it has ended, even if it was not reaped."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (ProcessLookupError, PermissionError):
        return None
    import psutil  # Snakemake brings it

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
