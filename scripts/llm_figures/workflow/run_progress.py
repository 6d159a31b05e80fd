"""How far a run is: the share of its work that is done, the time left, and what its jobs do.

Jobs count by the time that they are expected to take: that of an earlier run where its benchmark is
there, else the estimate of `resources`. What finished jobs took corrects both.
"""

import csv
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from llm_figures.core.formatting import format_duration
from llm_figures.core.progress_lines import Report, read_report
from llm_figures.workflow.resources import START, Need

# Estimates are upper bounds, up to four times what is measured, and most jobs start faster.
TYPICAL, TYPICAL_START = 0.5, 3.0
# Seconds of work after which the times of this run count as much as those that were expected.
TRUSTED = 30
# A job that takes longer than expected needs this share of the time that it took already.
OVERDUE = 0.1
# What jobs of a rule do, where its name says it badly.
WORDS = {"ask_p_true": "ask for P(true)"}


@dataclass(frozen=True)
class Task:
    """A job of the run.

    seconds: expected. measured: whether an earlier run took them. after: ids of the tasks that it
    waits for.
    """

    rule: str
    detail: str = ""
    seconds: float = TYPICAL_START
    measured: bool = False
    threads: int = 1
    local: bool = True
    after: frozenset[int] = frozenset()
    logs: tuple[str, ...] = ()
    benchmark: str | None = None


class Estimate(NamedTuple):
    """share: of the work that is done. left: seconds until the run ends."""

    share: float
    left: float


@dataclass
class RunProgress:
    """The tasks of a run, by Snakemake's ids, and what became of them.

    cores: for local tasks. places: of tasks elsewhere that run or wait in a queue at the same time;
    None if all are local. share: the largest that was estimated. Times are those of the system's
    clock, in seconds.
    """

    tasks: Mapping[int, Task]
    cores: int = 1
    places: int | None = None
    started: dict[int, float] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    share: float = 0.0

    def start(self, key: int, now: float) -> None:
        """A task starts, perhaps again."""
        if key in self.tasks:
            self.started[key] = now

    def finish(self, key: int, now: float) -> None:
        """A task has finished."""
        if key in self.tasks:
            waited = now - self.started.pop(key, now)  # perhaps in a queue, too
            self.took[key] = read_benchmark(self.tasks[key].benchmark) or waited

    def stop(self, key: int) -> None:
        """A task has failed; it may start again."""
        self.started.pop(key, None)

    def read_reports(self, started: Iterable[int]) -> dict[int, Report | None]:
        """{task that runs: what it last reported}; one that waits in a queue has no log yet."""
        tasks = {key: self.tasks[key] for key in started}
        return {
            key: read_report(task.logs)
            for key, task in tasks.items()
            if task.local or any(Path(log).exists() for log in task.logs)
        }

    def estimate(self, reports: Mapping[int, Report | None], now: float) -> Estimate:
        """The share of the work that is done and the time left; reports: of tasks that run."""
        left = {
            key: self._seconds_left(key, reports, now) for key in self.tasks if key not in self.took
        }
        done = sum(self.tasks[key].seconds for key in self.took)
        for key, report in reports.items():
            elapsed = now - self.started[key]
            part = report.done / report.total if report else elapsed / (elapsed + left[key])
            done += part * self.tasks[key].seconds
        whole = sum(task.seconds for task in self.tasks.values())
        # what was shown is not taken back
        self.share = max(self.share, min(done / whole, 0.99) if left else 1.0)
        seconds = schedule(self.tasks, left, self.started, self.cores, self.places)
        return Estimate(self.share, seconds)

    def _seconds_left(self, key: int, reports: Mapping[int, Report | None], now: float) -> float:
        task = self.tasks[key]
        expected = task.seconds * self._correction(task.measured)
        if key not in reports:
            return expected
        report, elapsed = reports[key], now - self.started[key]
        left = report.left - (now - report.time) if report else expected - elapsed
        return max(left, OVERDUE * elapsed, 0.1)

    def _correction(self, measured: bool) -> float:
        """What tasks took by what was expected of them, in this run so far."""
        done = [key for key in self.took if self.tasks[key].measured is measured]
        took = sum(self.took[key] for key in done)
        return (took + TRUSTED) / (sum(self.tasks[key].seconds for key in done) + TRUSTED)

    def describe(self, reports: Mapping[int, Report | None], now: float) -> str:
        """One line: share, time left, and what runs, as `45%, about 3 min left: …`."""
        running = {key: report for key, report in reports.items() if key in self.started}
        share, left = self.estimate(running, now)
        stages = [*describe_stages(self.tasks, running)]
        if waiting := len(self.started) - len(running):
            stages.append(f"{waiting} in the queue")
        ahead = f"{share:.0%}, {format_left(left)} left"
        return ": ".join(filter(None, (ahead, "; ".join(stages))))


def describe_stages(
    tasks: Mapping[int, Task], running: Mapping[int, Report | None]
) -> Iterator[str]:
    """What runs, by rule: `generate answers: 512 of 1,019 questions`."""
    stages: dict[str, list[int]] = {}
    for key in running:
        stages.setdefault(tasks[key].rule, []).append(key)
    for rule, keys in stages.items():
        details = ", ".join(dict.fromkeys(filter(None, (tasks[key].detail for key in keys))))
        count = f"{len(keys)} jobs" if len(keys) > 1 else ""
        reports = [report for key in keys if (report := running[key])]
        done = sum(report.done for report in reports)
        of = sum(report.total for report in reports)
        how_far = f"{done:,} of {of:,} {reports[0].unit}" if reports else ""
        words = " ".join(filter(None, (WORDS.get(rule, rule.replace("_", " ")), details)))
        yield ": ".join(filter(None, (words, ", ".join(filter(None, (count, how_far))))))


def schedule(
    tasks: Mapping[int, Task],
    left: Mapping[int, float],
    started: Iterable[int],
    cores: int,
    places: int | None = None,
) -> float:
    """Seconds until the last task ends, if the one with most to come after it always starts first.

    left: {task that has not finished: its seconds}. A task that needs more threads than there are
    cores gets all of them. See `RunProgress` for the others.
    """
    waits = {key: {earlier for earlier in tasks[key].after if earlier in left} for key in left}
    then: dict[int, list[int]] = {key: [] for key in left}
    for key, before in waits.items():
        for earlier in before:
            then[earlier].append(key)
    path: dict[int, float] = {}  # seconds of a task and of the longest way after it
    for key in reversed([*TopologicalSorter(waits).static_order()]):
        path[key] = left[key] + max((path[later] for later in then[key]), default=0.0)

    # True: on this machine
    here = {key: tasks[key].local or places is None for key in left}
    free = {True: cores, False: places or 0}
    need = {key: min(tasks[key].threads, cores) if here[key] else 1 for key in left}
    ready: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    ends: list[tuple[float, int]] = []
    now = 0.0

    def begin(key: int) -> None:
        free[here[key]] -= need[key]
        heapq.heappush(ends, (now + left[key], key))

    begun = {*started} & left.keys()
    for key in begun:
        begin(key)
    for key in left.keys() - begun:
        if not waits[key]:
            heapq.heappush(ready[here[key]], (-path[key], key))
    while True:
        for pool, queue in ready.items():
            while queue and need[queue[0][1]] <= free[pool]:
                begin(heapq.heappop(queue)[1])
        if not ends:
            return now
        now, key = heapq.heappop(ends)
        free[here[key]] += need[key]
        for later in then[key]:
            waits[later].discard(key)
            if not waits[later] and later not in begun:
                heapq.heappush(ready[here[later]], (-path[later], later))


def expected_seconds(need: Need) -> float:
    """What a job takes as a rule, from the upper bound of `resources.estimate`."""
    return TYPICAL_START + TYPICAL * (need.seconds - START)


def read_benchmark(path: str | None) -> float | None:
    """The seconds that a job took, from its benchmark; None if there is none."""
    try:
        with Path(path or "").open(encoding="utf-8", newline="") as file:
            return float(next(csv.DictReader(file, delimiter="\t"))["s"])
    except (OSError, StopIteration, KeyError, ValueError):
        return None


def format_left(seconds: float) -> str:
    """About 20 s: in steps of 10 s, from two minutes on of 30 s, from ten of a minute."""
    step = 10 if seconds < 120 else 30 if seconds < 600 else 60
    return f"about {format_duration(max(step, step * round(seconds / step)))}"
