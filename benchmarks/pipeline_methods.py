"""`snakemake figures` in a copy of the project, as a user calls it, and how much was start-up.

Start-up of a job is the time from the start of its process until its script begins: interpreter,
Snakemake's preamble, imports. The script writes it into its log (see `llm_figures.core.job`). Its
share is of the wall time of all jobs' processes, which Snakemake writes into their benchmark files.
What a script imports later, when it is needed, counts as work.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from measuring import measured, note

ROOT = Path(__file__).resolve().parents[1]


class Job(NamedTuple):
    """One job of a run; wall time of its process, and what of it was start-up."""

    rule: str
    seconds: float
    startup: float


class Copy:
    """A copy of the project's files, nothing made yet, in which the workflow is run."""

    def __init__(self, folder: Path, target: str):
        self.folder, self.target = folder, target
        self.config: dict = {}
        self.began = self.peak_mb = 0.0
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            source = ROOT / name
            if source.is_file() and not source.is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name)

    def take_results(self, results: Path) -> None:
        """What was made of this model in the project itself, and what Snakemake knows of it."""
        shutil.copytree(results, self.folder / "results" / results.name)
        known = Path(".snakemake", "metadata")
        if (ROOT / known).is_dir():
            shutil.copytree(ROOT / known, self.folder / known)

    def run(self, change: dict) -> None:
        """One run, with a change laid over the config."""
        files = []
        for name, overlay in (("overlay", self.config), ("change", change)):
            files.append(f"{name}.yaml")
            (self.folder / files[-1]).write_text(json.dumps(overlay))  # JSON is YAML
        # Python keeps bytecode, as it does unless it is told otherwise
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.began = time.time()
        with (self.folder / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", self.target, "--configfile", *files],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            # the peak of this run's processes alone, and not of those before it
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit((self.folder / "output.txt").read_text())
        self.peak_mb = used.ru_maxrss / 1024 ** (2 if sys.platform == "darwin" else 1)  # KiB, bytes

    def jobs(self) -> list[Job]:
        """The jobs of the last run."""
        logs = self.folder.glob("results/*/logs/**/*.log")
        return [_job(log) for log in sorted(logs) if log.stat().st_mtime >= self.began]


def _job(log: Path) -> Job:
    parts = list(log.parts)
    place = len(parts) - 1 - parts[::-1].index("logs")
    parts[place] = "benchmarks"
    header, row = Path(*parts).with_suffix(".tsv").read_text().splitlines()
    seconds = dict(zip(header.split("\t"), row.split("\t"), strict=True))["s"]
    startup = re.search(r"started in ([\d.]+) s$", log.read_text(encoding="utf-8"), re.MULTILINE)[1]
    return Job(Path(parts[place + 1]).stem, float(seconds), float(startup))


def figures(task: dict) -> None:
    """Make the figures: from nothing if `cold`, else with all made but for what `change` asks."""
    with tempfile.TemporaryDirectory(prefix="llm-figures-") as folder:
        copy = Copy(Path(folder), task["target"])
        results = Path(task["results"])
        if task["tiny"]:
            copy.config = _tiny_model(copy.folder)
        else:
            copy.config = {"model": results.name}
            if not task["cold"]:
                copy.take_results(results)

        def work(changes: Sequence[dict]) -> None:
            for change in changes:
                copy.run(change)

        # What is not there or out of date is made before, outside the measured time.
        measured(task, work, [task["change"]], [] if task["cold"] else [{}], 1)
        _write(task, copy.jobs(), copy.peak_mb)


def _tiny_model(folder: Path) -> dict:
    """A tiny model with random weights and questions to it, as the tests have; the config."""
    sys.path += [str(ROOT / "scripts"), str(ROOT / "tests")]
    from project import tiny_project

    return tiny_project(folder, folder).overlay


def _write(task: dict, jobs: Sequence[Job], peak_mb: float) -> None:
    rules = Counter(job.rule for job in jobs)
    Path(task["folder"], "jobs.json").write_text(json.dumps(rules))
    seconds, startup = sum(job.seconds for job in jobs), sum(job.startup for job in jobs)
    note(
        task,
        jobs=len(jobs),
        job_seconds=seconds,
        startup_seconds=startup,
        startup_share=startup / seconds if jobs else 0.0,
        peak_mb=peak_mb,  # of the largest process of the run; this one only waits
    )
