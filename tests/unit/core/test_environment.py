"""The environment of jobs does to their process what it is there for."""

import os
import subprocess
import sys

from llm_figures.core.environment import JOB_ENVIRONMENT

STEPS = """
import resource
import numpy as np
for _ in range(10):
    states = [np.ones(2**22, np.float32) for _ in range(3)]  # as those of 2,048 tokens, 16 MiB each
    del states
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(environment: dict[str, str]) -> int:
    """Pages that a process was given while it made and freed large arrays in turn."""
    others = {name: value for name, value in os.environ.items() if name not in JOB_ENVIRONMENT}
    others["NUMPY_MADVISE_HUGEPAGE"] = "0"  # small pages, which can be counted
    run = subprocess.run(
        [sys.executable, "-c", STEPS], env=others | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_jobs_keep_the_memory_that_they_will_need_again():
    assert faults(JOB_ENVIRONMENT) < faults({}) / 2
