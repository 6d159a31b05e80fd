"""A process is told from another one of its number, and a job does not outlive its Snakemake."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from llm_figures.core.processes import Process, describe_self, read_process


def test_this_process_is_alive_and_one_that_ended_is_not():
    assert describe_self().alive() is True
    text = subprocess.run(
        [sys.executable, "-c", DESCRIBED], capture_output=True, text=True, check=True
    ).stdout
    process = read_process(text)
    assert process.host == describe_self().host
    assert process.alive() is False


DESCRIBED = f"""
import json, sys
sys.path[:0] = {sys.path!r}
from dataclasses import asdict
from llm_figures.core.processes import describe_self
print(json.dumps(asdict(describe_self())))
"""


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({"begun": "1"}, False),  # its number was given to another one
        ({"boot": "before"}, False),
        ({"host": "elsewhere"}, None),
        ({"namespace": "pid:[1]"}, None),  # in a container of the same name
    ],
)
def test_another_process_of_the_number_is_not_taken_for_it(changes, alive):
    assert replace(describe_self(), **changes).alive() is alive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_damaged_note_is_none(text):
    assert read_process(text) is None


HEAD = f"""
import signal, subprocess, sys
sys.path[:0] = {sys.path!r}
from llm_figures.core.processes import announce_head
announce_head()
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of `nohup snakemake figures &` in a script
job = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
print(job.pid, flush=True)
job.wait()
"""
JOB = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from types import SimpleNamespace
from pathlib import Path
from llm_figures.core.atomic_files import whole_file
from llm_figures.core.job import job
files = dict(input=[], params=[], output=["results/a/x"], log=["results/a/logs/x.log"])
Path("results/a/logs").mkdir(parents=True)
time.sleep(float(sys.argv[1]))
with job(SimpleNamespace(rule="x", threads=1, **files)), whole_file("results/a/x") as partial:
    partial.write_text("half")
    Path("begun").touch()
    for _ in range(600):
        time.sleep(0.1)
"""


@pytest.mark.parametrize("late", [0, 2])
def test_a_job_ends_when_its_snakemake_is_killed(tmp_path, late):
    """late: seconds after which the job begins, before and after the kill."""
    command = [sys.executable, "-c", HEAD, JOB, str(late)]
    head = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    pid = int(head.stdout.readline())
    job = Process(**{**vars(describe_self()), "pid": pid, "begun": begun(pid)})
    while not late and not (tmp_path / "begun").exists():
        time.sleep(0.05)
    assert job.alive()
    head.kill()
    head.wait()
    deadline = time.monotonic() + 60
    while job.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not job.alive()
    assert [path.name for path in (tmp_path / "results/a").iterdir()] == ["logs"]
    assert "was killed, and so this job ends" in (tmp_path / "results/a/logs/x.log").read_text()


def begun(pid):
    text = DESCRIBED.replace("describe_self()", f"_begun({pid})").replace("asdict", "")
    text = text.replace("import describe_self", "import _begun").replace(
        "from dataclasses import", ""
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
