"""The manifest of a run: what its files are, and what made them."""

import csv
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llm_figures.core.checksums import described, result_files
from llm_figures.core.parquet_tensors import read_facts

# Raised when a reader of the former format would misread this one.
FORMAT = 1
# The clone that the workflow runs from.
PROJECT = Path(__file__).resolve().parents[3]


def manifest(
    folder: Path,
    model_info: dict,
    config: dict,
    stages: Mapping[str, Sequence[str]],
    earlier: dict | None = None,
) -> dict:
    """The manifest of the results in `folder`.

    model_info: the model's (model.json). config: the whole config, resolved. earlier: that of
    the checkpoint that the model's weights are compared with.
    stages: {rule: its files, relative to `folder`}, those of this run; a rule without files counts
    by its time alone.

    Returns, with nothing of the machine's paths but what the config itself holds:
        format: FORMAT.
        model: the model info, but for where the weights lie.
        compared_with: that of the earlier checkpoint likewise, where there is one.
        config: as given.
        project: see `project`.
        written_with: Python, platform and packages of the process that wrote the manifest. What the
            model ran on stands in `stages`.
        stages: {rule: see `stage`}. Of a repeat on the same machine, only its times and memory
            differ.
        files: {path: bytes, sha256, made_by}; made_by is null for a file that is there but not of
            this run: an earlier setting's, or another target's.

    Raises:
        UserError: a Parquet file that cannot be read.
    """
    makers = {name: rule for rule, names in stages.items() for name in names}
    present = result_files(folder) | {name for name in makers if (folder / name).is_file()}
    files = described(folder, present)
    known = {rule: stage(folder, rule, names) for rule, names in stages.items()}
    return {
        "format": FORMAT,
        "model": _without_places(model_info),
        **({"compared_with": _without_places(earlier)} if earlier else {}),
        "config": config,
        "project": project(PROJECT),
        "written_with": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": packages(PROJECT),
        },
        "stages": {rule: found for rule, found in known.items() if found["jobs"] or stages[rule]},
        "files": {name: {**facts, "made_by": makers.get(name)} for name, facts in files.items()},
    }


def _without_places(model_info: Mapping) -> dict:
    return {key: value for key, value in model_info.items() if key not in ("folder", "gguf")}


def stage(folder: Path, rule: str, names: Sequence[str]) -> dict:
    """What is known of the jobs of one rule that made the files `names`, be they deleted since.

    jobs: how many were measured; seconds: their sum; max_memory_mb: resident memory (MB) of the
    largest, null where no job ran long enough to be measured. ran_on: where the rule runs the
    model, what on (see `runtime_facts`), once for each kind, with the files made on it.
    """
    jobs = _benchmarks(folder, rule, names)
    memory = [job["max_rss"] for job in jobs if job["max_rss"] is not None]
    kinds: list[dict] = []
    for name in sorted(name for name in names if (folder / name).is_file()):
        facts = read_facts(folder / name) if name.endswith(".parquet") else None
        if facts is None:
            continue
        known = next((kind for kind in kinds if kind == {**facts, "files": kind["files"]}), None)
        if known:
            known["files"].append(name)
        else:
            kinds.append({**facts, "files": [name]})
    return {
        "jobs": len(jobs),
        "seconds": round(sum(job["s"] or 0 for job in jobs), 2),
        "max_memory_mb": max(memory, default=None),
        **({"ran_on": kinds} if kinds else {}),
    }


def project(folder: Path) -> dict:
    """Name, version and git commit of the project in `folder`.

    uncommitted_changes: whether a tracked file differs from the commit. Both are null without git,
    or where the folder is no part of the repository around it.
    """
    named = _pyproject(folder)
    commit = changes = None
    if _git(folder, "ls-files", "--error-unmatch", "Snakefile") is not None:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {
        "name": named["name"],
        "version": named["version"],
        "commit": commit,
        "uncommitted_changes": None if commit is None or changes is None else bool(changes),
    }


def packages(folder: Path) -> dict[str, str | None]:
    """Installed versions of the project's direct dependencies; null for one that is not there."""
    found: dict[str, str | None] = {}
    for requirement in _pyproject(folder)["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _pyproject(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says about the folder, stripped; None where it fails or is not installed."""
    # A hook's GIT_DIR would answer for another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _benchmarks(folder: Path, rule: str, names: Sequence[str]) -> list[dict]:
    """Snakemake's measurements of the jobs that made `names`: seconds `s`, `max_rss` in MB.

    A job's benchmark is benchmarks/{rule}.tsv or benchmarks/{rule}/{tail}.tsv, where the tail ends
    the job's files too; those of former shards are passed over.
    """
    home = folder / "benchmarks"
    whole = ["/" + name.rsplit(".", 1)[0] for name in names]
    paths = [home / f"{rule}.tsv"]
    for path in sorted((home / rule).rglob("*.tsv")):
        tail = "/" + path.relative_to(home / rule).with_suffix("").as_posix()
        if any(name.endswith(tail) for name in whole):
            paths.append(path)
    jobs = []
    for path in filter(Path.is_file, paths):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                jobs.append({key: _number(row.get(key)) for key in ("s", "max_rss")})
    return jobs


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:  # "-" or "NA": the job was too short to be measured
        return None
