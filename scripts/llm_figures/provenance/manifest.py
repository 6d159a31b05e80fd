"""Build the manifest of a run: its files, and the model, config, code and jobs that made them."""

import csv
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llm_figures.core.checksums import describe_files, result_files
from llm_figures.core.parquet_tensors import read_facts

# Increased when a reader of the previous format would misread this one.
FORMAT = 1
# The clone that the workflow runs from.
PROJECT = Path(__file__).resolve().parents[3]


def build_manifest(
    folder: Path,
    model_info: dict,
    config: dict,
    stages: Mapping[str, Sequence[str]],
    earlier: dict | None = None,
) -> dict:
    """The manifest of the results in `folder`.

    model_info: content of model.json. config: the whole config, resolved. earlier: content of
    model.json of the checkpoint that the model's weights are compared with.
    stages: {rule: its files in this run, relative to `folder`}; of a rule without files only the
    time is reported.

    Returns a table without paths of the machine, except those in the config:
        format: FORMAT.
        model: the model info without the location of the weights.
        compared_with: that of the earlier checkpoint, if there is one.
        config: as given.
        project: see `describe_project`.
        written_with: Python, platform and packages of the process that wrote the manifest; `stages`
            has what the model ran on.
        stages: {rule: see `describe_stage`}. Repeated on the same machine, a run differs only in
            its times and memory.
        files: {path: bytes, sha256, made_by}; made_by is null for a file that exists but is not
            part of this run: of an earlier setting, or of another target.

    Raises:
        UserError: a Parquet file that cannot be read.
    """
    makers = {name: rule for rule, names in stages.items() for name in names}
    present = result_files(folder) | {name for name in makers if (folder / name).is_file()}
    files = describe_files(folder, present)
    known = {rule: describe_stage(folder, rule, names) for rule, names in stages.items()}
    return {
        "format": FORMAT,
        "model": _without_places(model_info),
        **({"compared_with": _without_places(earlier)} if earlier else {}),
        "config": config,
        "project": describe_project(PROJECT),
        "written_with": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": find_versions(PROJECT),
        },
        "stages": {rule: stage for rule, stage in known.items() if stage["jobs"] or stages[rule]},
        "files": {name: {**facts, "made_by": makers.get(name)} for name, facts in files.items()},
    }


def _without_places(model_info: Mapping) -> dict:
    return {key: value for key, value in model_info.items() if key not in ("folder", "gguf")}


def describe_stage(folder: Path, rule: str, names: Sequence[str]) -> dict:
    """The jobs of one rule that made the files `names`, which may have been deleted since.

    Returns {jobs: number that were measured, seconds: their sum, max_memory_mb: highest resident
    memory of a job, null where none ran long enough to be measured, ran_on: for a rule that runs
    the model, device, precision and so on (see `runtime_facts`) with the files made there}.
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


def describe_project(folder: Path) -> dict:
    """Name, version, git commit and uncommitted_changes of the project in `folder`.

    uncommitted_changes: whether a tracked file differs from the commit. It and the commit are null
    without git, and where the repository around the folder does not track it.
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


def find_versions(folder: Path) -> dict[str, str | None]:
    """{package: installed version} of the project's direct dependencies; None if not installed."""
    versions: dict[str, str | None] = {}
    for requirement in _pyproject(folder)["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def _pyproject(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of git in the folder, stripped; None if it fails or is not installed."""
    # the GIT_DIR of a hook would refer to another repository
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

    The benchmark of a job is benchmarks/{rule}.tsv or benchmarks/{rule}/{tail}.tsv, where its
    files end in the tail too; benchmarks of an earlier number of shards are left out.
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
    except ValueError:  # "-" or "NA" for a job too short to be measured
        return None
