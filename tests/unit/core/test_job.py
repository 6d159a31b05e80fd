"""What every script of a rule shares."""

import re
import subprocess
import sys
import time

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
