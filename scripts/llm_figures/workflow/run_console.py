"""What a run prints: less of Snakemake's own lines, how far it is, and at its end what was made.

Snakemake says everything through one logger, as records with an `event`. A filter on the handler
of the terminal leaves out its lines about its own work; its log file has a handler of its own and
keeps them all.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from snakemake_interface_logger_plugins.common import LogEvent

from llm_figures.core.progress_lines import CLEAR, SHOWN_BY_RUN, STATUS_LINE
from llm_figures.workflow.run_progress import RunProgress, format_left

# Snakemake's name for the handler that prints to the terminal.
CONSOLE = "DefaultStreamHandler"
UNINTERESTING = {
    LogEvent.WORKFLOW_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.RUN_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_INFO,
    LogEvent.GROUP_INFO,
    LogEvent.JOB_FINISHED,
    LogEvent.PROGRESS,
}
# What is said of a job that ends because the user stops the run.
ENDED = {LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR}
# Beginnings of lines without an event.
UNINTERESTING_LINES = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Using shell: ",
    "Group jobs: inactive",
    "Conda environments: ignored",
    "Select jobs to execute",
    "Complete log(s): ",
    "Elapsed time: ",
)
# Beginnings of warnings, one for every file of a job that failed, which says what is kept.
UNINTERESTING_WARNINGS = ("Restored previous version of ", "Cannot restore ")
NOTHING = "Nothing to be done"
INTERRUPTED = "Terminating processes on user request"

# Seconds between two looks at the run, on a terminal and elsewhere.
LOOKED = {True: 1.0, False: 5.0}
# A further line where none is rewritten: after this share, or these seconds.
NEXT_SHARE, NEXT_LINE, SHORTEST = 0.1, 600, 10


class Uninteresting(logging.Filter):
    """Leaves out Snakemake's lines about its own work; no error and few warnings are among them.

    stopped: whether the user stopped the run; errors of the jobs that this ends are left out, too.
    """

    stopped = False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO:
            if str(record.msg).startswith(UNINTERESTING_WARNINGS):
                return False
            return not (self.stopped and getattr(record, "event", None) in ENDED)
        if event := getattr(record, "event", None):
            return event not in UNINTERESTING
        return not str(record.msg).startswith(UNINTERESTING_LINES)


class StatusStream:
    """A terminal with a status line below all that is written to it.

    The cursor waits at the start of the line, so that what another process writes begins there.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.shown = False

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.clear()
        return self.stream.write(text)

    def clear(self) -> None:
        """Delete the status line."""
        if self.shown:
            self.stream.write(CLEAR)
            self.stream.flush()
            self.shown = False

    def show(self, line: str) -> None:
        """Replace the status line, which is cut where the terminal ends."""
        try:
            columns = os.get_terminal_size(self.stream.fileno()).columns
        except OSError:
            columns = 0
        self.stream.write(f"{CLEAR}{line[: (columns or 80) - 1]}\r")
        self.stream.flush()
        self.shown = True


class RunMonitor(logging.Handler):
    """Follows a run by Snakemake's records, and says how far it is until it ends.

    log: Snakemake's logger. console: its handler of the terminal, None where a user's own options
    say what is printed; then the run says nothing on its way. describe_end: lines for the end of a
    run that had nothing to do.
    """

    def __init__(
        self,
        log: logging.Logger,
        console: logging.StreamHandler | None,
        describe_end: Callable[[], Iterable[str]],
    ):
        super().__init__(logging.INFO)
        self.log, self.console, self.describe_end = log, console, describe_end
        self.began = time.time()
        self.run: RunProgress | None = None
        self.failed: dict[int, tuple[str, str]] = {}
        self._status: StatusStream | None = None
        self._said = 0.0, self.began  # share and time of the last line
        self._ended = threading.Event()
        self._filter = Uninteresting()
        if console:
            console.addFilter(self._filter)

    def emit(self, record: logging.LogRecord) -> None:
        event, now = getattr(record, "event", None), time.time()
        if event is None:
            if str(record.msg).startswith(NOTHING):
                self.end(self.describe_end())
            elif str(record.msg).startswith(INTERRUPTED):
                self._filter.stopped = True
                self._stop_status()
        elif event == LogEvent.JOB_INFO:
            self.failed.pop(record.jobid, None)
            if self.run:
                self.run.start(record.jobid, now)
        elif event == LogEvent.JOB_FINISHED:
            if self.run:
                self.run.finish(record.job_id, now)
        elif event == LogEvent.JOB_ERROR and not self._filter.stopped:
            self.failed[record.jobid] = (record.rule_name, next(iter(record.log), ""))
            if self.run:
                self.run.stop(record.jobid)

    def leave_to_snakemake(self) -> None:
        """Let Snakemake print what it prints by itself."""
        if self.console:
            self.console.removeFilter(self._filter)
            self.console = None

    def begin(self, run: RunProgress) -> None:
        """Jobs are about to start."""
        if self.console is None or not run.tasks:
            return
        self.run = run
        os.environ[SHOWN_BY_RUN] = "1"
        stream = self.console.stream
        if stream.isatty() and os.environ.get("TERM") != "dumb":
            os.environ[STATUS_LINE] = "1"
            self._status = StatusStream(stream)
            self.console.setStream(self._status)
        left = run.estimate({}, time.time()).left
        jobs = f"{len(run.tasks)} job{'s' * (len(run.tasks) > 1)}"
        # Snakemake's formatters know no arguments of records
        self.log.info(f"{jobs} to run, {format_left(left)}")
        threading.Thread(target=self._follow, daemon=True).start()

    def end(self, lines: Iterable[str]) -> None:
        """The run is over; `lines` say what became of it."""
        self._stop_status()
        if block := "\n".join(lines):
            self.log.info(f"\n{block}")

    def _stop_status(self) -> None:
        self._ended.set()
        if self._status:
            with self.console.lock:
                self._status.clear()

    def _follow(self) -> None:
        while not self._ended.wait(LOOKED[self._status is not None]):
            self.look(time.time())

    def look(self, now: float) -> None:
        """Say how far the run is: on a terminal in its last line, elsewhere now and then."""
        with self.lock:
            started = [*self.run.started]
        reports = self.run.read_reports(started)  # without a lock that Snakemake waits for
        with self.lock:
            line = self.run.describe(reports, now)
        if self._status:
            with self.console.lock:
                if not self._ended.is_set():
                    self._status.show(line)
            return
        share, before = self._said
        passed = now - before
        if passed >= SHORTEST and (self.run.share - share >= NEXT_SHARE or passed >= NEXT_LINE):
            self._said = self.run.share, now
            self.log.info(line)
