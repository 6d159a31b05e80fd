"""What a measured process does: its work, timed. Of the standard library alone, for peers' sake."""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def measured(task: dict, work: Callable[[T], R], items: T, few: T, count: int) -> R:
    """work(items), its cost written to cost.json in the task's folder.

    few: what `work` is run on first, so that what the first call loads or starts (kernels, worker
    processes) counts as set-up. count: how many questions, texts, cells or the like `items` are.
    """
    work(few)
    setup, start = time.time() - task["started"], time.perf_counter()
    result = work(items)
    seconds = time.perf_counter() - start
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        note(task, gpu_peak_mb=torch.cuda.max_memory_allocated() / 2**20)
    note(
        task,
        seconds=seconds,
        setup_seconds=setup,
        peak_mb=peak_mb(),
        count=count,
    )
    return result


def peak_mb() -> float:
    """The largest resident memory of this process so far, MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            # Not what getrusage says, which on Linux begins at the peak of the process that
            # started this one.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / 1024 ** (2 if sys.platform == "darwin" else 1)


def note(task: dict, **values: float) -> None:
    """Further numbers of a run, beside its cost."""
    path = Path(task["folder"], "cost.json")
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | values))
