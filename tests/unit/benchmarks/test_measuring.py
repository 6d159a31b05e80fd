"""The cost of one measured process is its own."""

import json
import subprocess
import sys
from pathlib import Path

import measuring


def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it():
    child = "import measuring; print(measuring.peak_mb())"
    parent = (
        "import subprocess, sys; held = b'x' * 300_000_000; "
        "sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent, child],
        env={"PYTHONPATH": str(Path(measuring.__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert 1 < float(done.stdout) < 100


def test_the_first_go_is_set_up_and_the_second_is_timed(tmp_path):
    done = []
    task = {"folder": str(tmp_path), "started": 0.0}
    assert measuring.measured(task, lambda items: done.append(items) or len(items), "abc", "a", 3)
    assert done == ["a", "abc"]
    measuring.note(task, operations=7.0)
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost.keys() == {"seconds", "setup_seconds", "peak_mb", "count", "operations"}
    assert 0 <= cost["seconds"] < 10
    assert cost["peak_mb"] > 1
