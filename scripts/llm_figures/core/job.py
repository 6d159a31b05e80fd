"""The log, progress and failures of the scripts of rules."""

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from threadpoolctl import threadpool_limits

from llm_figures.core.errors import UserError
from llm_figures.core.processes import end_with_head
from llm_figures.core.progress_lines import (
    CLEAR,
    SHOWN_BY_RUN,
    STATUS_LINE,
    format_completed,
    format_progress,
)
from llm_figures.core.records import list_earlier_files, recorded
from llm_figures.core.write_errors import FULL, find_write_problem

log = logging.getLogger("llm_figures")

# The level of lines that the next one replaces.
PROGRESS = logging.INFO - 1

T = TypeVar("T")


@contextmanager
def job(snakemake) -> Iterator[None]:
    """Run the body of a script as the job `snakemake`.

    The rule's log file receives everything, starting with the time of the interpreter's start and
    imports. The terminal receives progress and, on failure, one line: the message of a `UserError`,
    or any other error with the path of the log, which has the traceback. Ctrl-C ends it silently.
    BLAS uses the rule's threads, so that parallel jobs do not compete for the cores.
    Each file that is made gets a record of what it was made from. The job ends if the Snakemake
    that started it is killed.
    """
    path = Path(snakemake.log[0])
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    terminal = logging.StreamHandler(sys.stderr)
    above = CLEAR if os.environ.get(STATUS_LINE) and sys.stderr and sys.stderr.isatty() else ""
    terminal.setFormatter(logging.Formatter(f"{above}{snakemake.rule}: %(message)s"))
    # lines of progress are PROGRESS, which the run shows in one line for all jobs
    terminal.setLevel(logging.INFO if os.environ.get(SHOWN_BY_RUN) else PROGRESS)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.handlers = [handler, terminal]
    logging.captureWarnings(True)
    # warnings of libraries go to the log only
    logging.getLogger().addHandler(handler)
    log.debug("started in %.2f s", _age())
    end_with_head(log)
    earlier = list_earlier_files(snakemake)
    try:
        with threadpool_limits(snakemake.threads), recorded(snakemake):
            yield
    except UserError as error:
        log.error("error: %s", error)
        _say_kept(earlier)
        sys.exit(1)
    except KeyboardInterrupt:
        log.debug("stopped by Ctrl-C")
        sys.exit(130)
    except Exception as error:
        with suppress(OSError):  # the disk may be full
            handler.stream.write(traceback.format_exc())
        summary = " ".join(str(error).split())[:300]
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            log.error(
                "error: CUDA out of memory; spread the model over several GPUs (device_map: auto), "
                "or use a larger one (%s; traceback in %s)",
                summary,
                path,
            )
            sys.exit(1)
        if problem := find_write_problem(error, FULL):
            place = getattr(error, "filename", None) or Path.cwd()
            log.error("error: cannot write to %s: %s; make room and run again", place, problem)
            sys.exit(1)
        log.error("failed: %s: %s (traceback in %s)", type(error).__name__, summary, path)
        _say_kept(earlier)
        sys.exit(1)


def _say_kept(earlier: Sequence[str]) -> None:
    """Name what is still there of an earlier run, after the job that was to replace it failed."""
    if earlier:
        log.error("%s is still the one of the earlier run", earlier[0])


def progress(
    items: Iterable[T],
    unit: str,
    total: int | None = None,
    size: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yield `items`; log at most every five seconds how many are done and the time left.

    total: number of units, by default of items. size: units of one item.
    """
    total = len(items) if total is None else total
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - last >= 5 and done < total:
            last = now
            left = (now - start) / done * (total - done)
            log.log(PROGRESS, format_progress(done, total, unit, left))
    log.info(format_completed(total, unit, time.monotonic() - start))


def _age() -> float:
    """Seconds since the system started this process."""
    try:
        # on Linux psutil would be off by up to a second, as it rounds the time of boot
        stat = Path("/proc/self/stat").read_text()
        ticks = int(stat.rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # another system
        import psutil  # Snakemake brings it

        return time.time() - psutil.Process().create_time()
