"""Locks of killed runs are removed; those of others are named."""

import json
import logging
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from llm_figures.core.processes import describe_self
from llm_figures.provenance import locks
from llm_figures.provenance.locks import NameHolder, describe_holder, main, remove_stale_locks

HOLDS = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from llm_figures.provenance.locks import hold_folder
hold_folder()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def locked(tmp_path, monkeypatch):
    """A working directory with Snakemake's locks."""
    monkeypatch.chdir(tmp_path)
    locks.LOCKS.mkdir(parents=True)
    (locks.LOCKS / "0.output.lock").write_text("results/a\n")


@pytest.fixture
def holder():
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def elsewhere():
    away = replace(describe_self(), host="node7", pid=12)
    locks.HOLDERS.mkdir(exist_ok=True)
    (locks.HOLDERS / "node7-12.json").write_text(json.dumps(asdict(away)))


def test_the_lock_of_a_killed_process_is_removed(holder):
    holder.kill()
    holder.wait()
    assert f"process {holder.pid} on {describe_self().host} held this folder" in describe_holder()
    line = remove_stale_locks()
    host = describe_self().host
    assert line == (
        f"removed the lock of process {holder.pid} on {host} on this machine, which was killed"
    )
    assert not locks.LOCKS.exists()
    assert not list(locks.HOLDERS.iterdir())
    assert remove_stale_locks() is None


def test_the_lock_of_a_living_process_stays(holder, capsys):
    assert remove_stale_locks() is None
    assert main() == 1
    host = describe_self().host
    line = (
        f"process {holder.pid} on {host} makes files in this folder; wait for it, or end it: kill "
        f"{holder.pid}"
    )
    assert describe_holder() == line
    assert capsys.readouterr().err == f"error: {line}\n"
    assert locks.LOCKS.exists()


def test_the_lock_of_another_machine_is_removed_on_demand_alone(capsys):
    elsewhere()
    assert remove_stale_locks() is None
    assert describe_holder().startswith("process 12 on node7 holds this folder, unless it was")
    assert main() == 0
    assert capsys.readouterr().out == "removed the lock of process 12 on node7\n"
    assert not locks.LOCKS.exists()


def test_a_killed_process_beside_one_elsewhere_takes_no_lock_with_it(holder):
    elsewhere()
    holder.kill()
    holder.wait()
    assert remove_stale_locks() is None
    assert locks.LOCKS.exists()


def test_an_unknown_lock_is_removed_on_demand_alone(capsys):
    assert remove_stale_locks() is None
    assert describe_holder().startswith("an unknown process locked this folder")
    assert main() == 0
    assert main() == 0
    assert capsys.readouterr().out == (
        "removed the lock of an unknown process\nthis folder is not locked\n"
    )


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("LockException:\nError: Directory cannot be locked. Please make sure that …", True),
        ("Error: Directory cannot be locked. Another Snakemake instance is running.", True),
        ("Nothing to be done %s", False),
    ],
)
def test_the_holder_is_named_in_place_of_a_guess(text, replaced):
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, text, ("now",), None)
    assert NameHolder().filter(record)
    assert record.getMessage() == (describe_holder() if replaced else "Nothing to be done now")
