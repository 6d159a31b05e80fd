"""Lines of a job's progress, which the job logs and the run that started it reads."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from llm_figures.core.formatting import format_duration

# Set by a run that shows the progress of its jobs itself; they then leave it to their logs.
SHOWN_BY_RUN = "LLM_FIGURES_PROGRESS_SHOWN"
# Set by a run that rewrites the last line of a terminal.
STATUS_LINE = "LLM_FIGURES_STATUS_LINE"
# Deletes a status line, whose cursor is at its start.
CLEAR = "\r\x1b[K"

LINE = re.compile(r" (\d+) of (\d+) (.+?)(?:, about (.+) left| in .+ (?:s|min|h))$", re.MULTILINE)
SECONDS = {"s": 1, "min": 60, "h": 3600}
TAIL = 4096  # bytes at the end of a log in which the last line is looked for


class Report(NamedTuple):
    """How far a job was: units done, of how many, seconds left, and when it said so."""

    done: int
    total: int
    unit: str
    left: float
    time: float


def format_progress(done: int, total: int, unit: str, left: float) -> str:
    """512 of 1019 questions, about 2 min 5 s left."""
    return f"{done} of {total} {unit}, about {format_duration(left)} left"


def format_completed(total: int, unit: str, seconds: float) -> str:
    """1019 of 1019 questions in 4 min 10 s."""
    return f"{total} of {total} {unit} in {format_duration(seconds)}"


def read_report(logs: Iterable[str]) -> Report | None:
    """The last progress in a job's log; None if there is none, or if that loop is done."""
    for log in logs:
        try:
            with Path(log).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL))
                tail = file.read().decode("utf-8", "replace")
            time = Path(log).stat().st_mtime
        except OSError:  # not yet begun
            continue
        *_, last = [None, *LINE.finditer(tail)]
        if last is not None and last[4] is not None:
            return Report(int(last[1]), int(last[2]), last[3], _seconds(last[4]), time)
    return None


def _seconds(duration: str) -> float:
    """What `format_duration` wrote, in seconds."""
    numbers, units = duration.split()[::2], duration.split()[1::2]
    return sum(float(number) * SECONDS[unit] for number, unit in zip(numbers, units, strict=True))
