"""What is printed of a run, from planted records of Snakemake's."""

import io
import logging
import os
import time

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from llm_figures.core.progress_lines import SHOWN_BY_RUN, STATUS_LINE
from llm_figures.workflow.run_console import LOOKED, RunMonitor, StatusStream, Uninteresting
from llm_figures.workflow.run_progress import RunProgress, Task


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """What a reader sees: \\r goes back, and \\x1b[K deletes the rest of the line."""
        lines, column = [""], 0
        for text in self.getvalue().replace("\x1b[K", "\0"):
            if text == "\n":
                lines.append("")
                column = 0
            elif text == "\r":
                column = 0
            elif text == "\0":
                lines[-1] = lines[-1][:column]
            else:
                lines[-1] = lines[-1][:column] + text + lines[-1][column + 1 :]
                column += 1
        return lines


@pytest.fixture
def follow(monkeypatch):
    """follow(stream, tasks): a logger like Snakemake's and a monitor of its run."""
    for name in (SHOWN_BY_RUN, STATUS_LINE):
        monkeypatch.setenv(name, "")  # and so restored
    monkeypatch.setenv("TERM", "xterm")
    # the tests look themselves
    monkeypatch.setitem(LOOKED, True, 3600)
    monkeypatch.setitem(LOOKED, False, 3600)
    monitors = []

    def start(stream, tasks):
        log = logging.Logger("snakemake", logging.INFO)
        console = logging.StreamHandler(stream)
        log.addHandler(console)
        monitor = RunMonitor(log, console, lambda: ["There already:", "  a.pdf"])
        log.addHandler(monitor)
        monitors.append(monitor)
        if tasks:
            monitor.begin(RunProgress(tasks))
        return log, monitor

    yield start
    for monitor in monitors:
        monitor.end([])


def event(log, kind, /, **fields):
    level = logging.ERROR if kind in (LogEvent.JOB_ERROR, LogEvent.ERROR) else logging.INFO
    log.log(level, str(kind), extra={"event": kind, **fields})


def test_lines_about_snakemakes_own_work_are_left_out_and_no_other():
    def passes(message, level=logging.INFO, **fields):
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__.update(fields)
        return Uninteresting().filter(record)

    for kind in (LogEvent.JOB_INFO, LogEvent.RUN_INFO, LogEvent.WORKFLOW_STARTED,
                 LogEvent.PROGRESS, LogEvent.RESOURCES_INFO, LogEvent.JOB_FINISHED):  # fmt: skip
        assert not passes("anything", event=kind)
        assert passes("anything", logging.WARNING, event=kind)
    for kind in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR):
        assert passes("anything", logging.ERROR, event=kind)
    # of every file of a job that failed, which says itself what is kept
    assert not passes("Restored previous version of a.pdf (updating job failed).", logging.WARNING)
    assert not passes("Cannot restore a.pdf: no backup found.", logging.WARNING)
    assert passes("make it", event=LogEvent.SHELLCMD)  # --printshellcmds, or it is not here
    assert not passes("Select jobs to execute...")
    assert not passes("Building DAG of jobs...")
    assert passes("Nothing to be done (all requested files are present and up to date).")
    assert passes("Job 3 has been submitted with SLURM jobid 12 (log: a.log).")
    assert passes("Congratulations, your workflow is in a good condition!")
    assert passes(None)


def test_a_line_is_rewritten_below_all_others(follow):
    terminal = Terminal()
    log, monitor = follow(terminal, {7: Task("score_probes", "scores", 100)})
    assert os.environ[STATUS_LINE]
    assert os.environ[SHOWN_BY_RUN]
    event(log, LogEvent.JOB_INFO, jobid=7)
    for seconds in (10, 50):
        monitor.look(time.time() + seconds)
    *above, status = terminal.screen()
    assert above == ["1 job to run, about 1 min 40 s"]
    assert status == "50%, about 50 s left: score probes scores"
    log.warning("a warning")
    monitor.look(time.time() + 60)
    assert terminal.screen()[1:] == ["a warning", "60%, about 40 s left: score probes scores"]
    event(log, LogEvent.JOB_FINISHED, job_id=7)
    monitor.end(["Made:", "  a.pdf"])
    monitor.look(time.time() + 70)
    assert terminal.screen()[1:] == ["a warning", "", "Made:", "  a.pdf", ""]


def test_a_line_is_cut_where_the_terminal_ends(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(terminal, "fileno", lambda: 1)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((20, 5)))
    status = StatusStream(terminal)
    status.show("x" * 50)
    assert terminal.screen() == ["x" * 19]  # one less, so that the cursor stays in the line


def test_elsewhere_lines_are_few(follow):
    file = io.StringIO()
    log, monitor = follow(file, {1: Task("score_probes", seconds=1000)})
    assert not os.environ[STATUS_LINE]
    event(log, LogEvent.JOB_INFO, jobid=1)
    now = time.time()
    for seconds in range(0, 3000, 5):
        monitor.look(now + seconds)
    lines = file.getvalue().splitlines()[1:]
    assert "\x1b" not in file.getvalue()
    assert 8 <= len(lines) <= 16
    shares = [int(line.split("%")[0]) for line in lines]
    assert shares == sorted(shares)
    assert shares[0] == 10
    assert all(line.endswith("left: score probes") for line in lines)


def test_it_knows_which_jobs_failed_in_the_end(follow):
    log, monitor = follow(io.StringIO(), {1: Task("score_probes"), 2: Task("render_figure")})
    for job, rule in ((1, "score_probes"), (2, "render_figure")):
        event(log, LogEvent.JOB_INFO, jobid=job)
        event(log, LogEvent.JOB_ERROR, jobid=job, rule_name=rule, log=[f"{rule}.log"])
    event(log, LogEvent.JOB_INFO, jobid=1)  # it is tried again
    event(log, LogEvent.JOB_FINISHED, job_id=1)
    assert [*monitor.failed.values()] == [("render_figure", "render_figure.log")]


def test_jobs_that_end_because_the_user_stops_the_run_did_not_fail(follow):
    file = io.StringIO()
    log, monitor = follow(file, {1: Task("score_probes")})
    event(log, LogEvent.JOB_INFO, jobid=1)
    log.info("Terminating processes on user request, this might take some time.")
    event(log, LogEvent.JOB_ERROR, jobid=1, rule_name="score_probes", log=["a.log"])
    event(log, LogEvent.ERROR)
    log.warning("a warning")
    assert monitor.failed == {}
    assert file.getvalue().splitlines()[-1] == "a warning"
    assert "rror" not in file.getvalue()


def test_a_run_with_nothing_to_do_says_where_things_are(follow):
    file = io.StringIO()
    log, _ = follow(file, {})
    log.info("Nothing to be done (all requested files are present and up to date).")
    assert file.getvalue().splitlines()[1:] == ["", "There already:", "  a.pdf"]
