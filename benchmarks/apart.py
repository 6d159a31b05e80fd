"""One method run in a process of its own, and what else the machine did meanwhile."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import psutil  # Snakemake brings it

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from peers import python_of

from llm_figures.core.environment import JOB_ENVIRONMENT

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LARGEST_LOAD = 0.15  # of other programs, in cores
PATIENCE = 3  # runs at most, until one has the machine to itself


class StoppedError(Exception):
    """A measured process that failed; its own words are on the terminal."""


def cores() -> int:
    """The pipeline's rules take no more than eight."""
    return min(8, len(psutil.Process().cpu_affinity()))


def run_alone(task: dict, environment: str) -> dict:
    """`run_apart`, again while other programs kept the cores busy, `PATIENCE` times at most."""
    for _ in range(PATIENCE):
        row = run_apart(task, environment)
        if row["other_load"] <= LARGEST_LOAD:
            break
        print(f"  other programs kept {row['other_load']:.1f} cores busy meanwhile", flush=True)
    return row


def run_apart(task: dict, environment: str) -> dict:
    """The cost of one method; its results stay in task["folder"].

    other_load: how many of the cores that it may use other programs kept busy meanwhile. Beside one
    busy program the small steps of a model can take ten times as long, so costs under load are
    void.

    Raises:
        StoppedError: the process failed.
    """
    python_of(environment)  # installed before it counts
    start, others = time.time(), _others_seconds()
    call_apart(task, environment)
    load = (_others_seconds() - others) / (time.time() - start)
    return _cost(task) | {"other_load": max(0.0, load - (psutil.cpu_count() - cores()))}


def call_apart(task: dict, environment: str = "own") -> None:
    """The task's function in a process of its own, and in a new folder.

    Raises:
        StoppedError: the process failed.
    """
    _new_folder(task)
    python, path = sys.executable, {"PYTHONPATH": str(ROOT / "scripts")}
    if environment != "own":
        python, path = python_of(environment), {"PYTHONPATH": ""}
    code = subprocess.run(
        [python, str(HERE / "run_method.py"), json.dumps(task | {"started": time.time()})],
        env=os.environ | JOB_ENVIRONMENT | path,  # peers have what ours have
        check=False,
    ).returncode
    if code:
        why = "killed; out of memory?" if code == -9 else "failed, see above"
        raise StoppedError(f"{task['work']}, {task['method']}: {why}")


def run_here(task: dict, environment: str) -> dict:
    """The same in this process, to see that it works: imports are shared, peaks are not told apart.

    Raises:
        StoppedError: the method is one of another environment.
    """
    if environment != "own":
        raise StoppedError(
            f"{task['work']}, {task['method']}: only of this environment, see --without"
        )
    call_here(task)
    return _cost(task) | {"other_load": 0.0}


def call_here(task: dict) -> None:
    _new_folder(task)
    module, _, name = task["function"].partition(":")
    getattr(import_module(module), name)(task | {"started": time.time()})


def _new_folder(task: dict) -> None:
    shutil.rmtree(task["folder"], ignore_errors=True)
    Path(task["folder"]).mkdir(parents=True)


def _cost(task: dict) -> dict:
    return json.loads(Path(task["folder"], "cost.json").read_text())


def _others_seconds() -> float:
    """CPU seconds that this machine has spent on other programs than this one and those it ran."""
    spent = psutil.cpu_times()._asdict()
    # Linux counts a guest's time as user's, too.
    idle = sum(spent.get(name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
    return sum(spent.values()) - idle - sum(os.times()[:4])


def machine() -> str:
    """One line on what the times were taken on."""
    memory = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", "scikit-learn")
    )
    parts = [_processor(), f"{cores()} cores", f"{memory:.0f} GiB", *gpus()]
    return ", ".join([*parts, f"Python {platform.python_version()}", libraries])


@cache
def gpus() -> list[str]:
    """The names of CUDA's GPUs, asked of the driver, without torch's seconds of import."""
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
