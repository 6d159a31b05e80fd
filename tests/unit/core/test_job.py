"""What every script of a rule shares."""

import errno
import os
import re
import subprocess
import sys
import time

import pytest

from llm_figures.core.progress_lines import SHOWN_BY_RUN, STATUS_LINE

STARTED = """
import sys, time
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from llm_figures.core.job import job
time.sleep(1)
of_rule = {"log": ["log"], "rule": "score_probes", "threads": 1}
with job(SimpleNamespace(**of_rule, input=[], output=[], params=[])):
    time.sleep(1)
"""


def test_the_log_says_how_long_a_job_took_to_start(root, tmp_path):
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STARTED, str(root / "scripts")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.monotonic() - start
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert 1 <= float(re.search(r"started in ([\d.]+) s$", line)[1]) <= took - 0.99
    assert done.stderr == ""  # it is of no interest on the terminal


REPORTING = """
import itertools, sys, time
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from llm_figures.core.job import job, progress
of_rule = {"log": ["log"], "rule": "score_probes", "threads": 1}
with job(SimpleNamespace(**of_rule, input=[], output=[], params=[])):
    clock = itertools.count(step=6)
    time.monotonic = lambda: next(clock)
    list(progress("abc", "layers"))
"""


@pytest.mark.parametrize("shown", ["", "1"])
def test_progress_is_left_to_the_log_where_the_run_shows_it(root, tmp_path, shown):
    done = subprocess.run(
        [sys.executable, "-c", REPORTING, str(root / "scripts")],
        cwd=tmp_path,
        env=os.environ | {SHOWN_BY_RUN: shown, STATUS_LINE: shown},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ["1 of 3 layers, about 12 s left", "2 of 3 layers, about 6.0 s left"]
    lines.append("3 of 3 layers in 24 s")
    logged = (tmp_path / "log").read_text().splitlines()[1:]
    assert [line.split(" ", 2)[2] for line in logged] == lines
    # what is no terminal gets plain lines
    printed = [f"score_probes: {line}" for line in (lines[2:] if shown else lines)]
    assert done.stderr.splitlines() == printed


FAILING = """
import sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from llm_figures.core.job import job
of_rule = {"log": ["log"], "rule": "score_probes", "threads": 1}
with job(SimpleNamespace(**of_rule, input=[], output=[], params=[])):
    raise OSError(int(sys.argv[2]), "why", sys.argv[3] or None)
"""


@pytest.mark.parametrize("path", ["results/a.parquet", ""])
@pytest.mark.parametrize(("number", "is_full"), [(errno.ENOSPC, True), (errno.EACCES, False)])
def test_a_full_disk_is_no_fault_of_the_job(root, tmp_path, number, is_full, path):
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(root / "scripts"), str(number), path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    if is_full:
        full = "No space left on device; make room and run again"
        assert line == f"score_probes: error: cannot write to {path or tmp_path}: {full}"
    else:
        assert line.startswith("score_probes: failed: PermissionError: ")
    assert "Traceback" in (tmp_path / "log").read_text()


STOPPED = """
import sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from llm_figures.core.job import job
of_rule = {"log": ["log"], "rule": "score_probes", "threads": 1}
with job(SimpleNamespace(**of_rule, input=[], output=[], params=[])):
    raise KeyboardInterrupt
"""


def test_a_job_that_is_stopped_shows_no_traceback(root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(root / "scripts")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert (tmp_path / "log").read_text().endswith(" stopped by Ctrl-C\n")
