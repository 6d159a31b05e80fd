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
from llm_figures.core.records import read_record, record_path
from llm_figures.core.versions import find_installed_versions

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
    passing: Sequence[str] = (),
) -> dict:
    """The manifest of the results in `folder`.

    model_info: content of model.json. config: the whole config, resolved. earlier: content of
    model.json of the checkpoint that the model's weights are compared with.
    stages: {rule: its files in this run, relative to `folder`}; of a rule without files only the
    time is reported. passing: those of them that are deleted once all that reads them is made.

    Returns a table without paths of the machine, except those in the config:
        format: FORMAT.
        model: the model info without the location of the weights.
        compared_with: that of the earlier checkpoint, if there is one.
        config: as given.
        project: see `describe_project`.
        written_with: Python, platform and packages of the process that wrote the manifest; `stages`
            has what the model ran on, and the versions that made the files.
        versions: see `compare_versions`.
        stages: {rule: see `describe_stage`}. Repeated on the same machine, a run differs only in
            its times and memory.
        files: {path: bytes, sha256, made_by}; made_by is null for a file that exists but is not
            part of this run: of an earlier setting, or of another target.
        not_kept: the files `passing`, if there are any, which are not among the files.

    Raises:
        UserError: a Parquet file that cannot be read.
    """
    makers = {name: rule for rule, names in stages.items() for name in names}
    present = result_files(folder) | {name for name in makers if (folder / name).is_file()}
    files = describe_files(folder, present - {*passing})
    known = {rule: describe_stage(folder, rule, names, passing) for rule, names in stages.items()}
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
        "versions": compare_versions(known),
        "stages": {rule: stage for rule, stage in known.items() if stage["jobs"] or stages[rule]},
        "files": {name: {**facts, "made_by": makers.get(name)} for name, facts in files.items()},
        **({"not_kept": sorted(passing)} if passing else {}),
    }


def _without_places(model_info: Mapping) -> dict:
    return {key: value for key, value in model_info.items() if key not in ("folder", "gguf")}


def describe_stage(
    folder: Path, rule: str, names: Sequence[str], passing: Sequence[str] = ()
) -> dict:
    """The jobs of one rule that made the files `names`, which may have been deleted since.

    passing: files that are deleted on purpose; what they were made on, their records say.

    Returns {jobs: number that were measured, seconds: their sum, max_memory_mb: highest resident
    memory of a job, null where none ran long enough to be measured, ran_on: for a rule that runs
    the model, device, precision and so on (see `runtime_facts`) with the files made there,
    made_with: versions of Python and of the packages that were used, with the files made so}.
    """
    jobs = _benchmarks(folder, rule, names)
    memory = [job["max_rss"] for job in jobs if job["max_rss"] is not None]
    deleted = {*passing}
    there = sorted(name for name in names if name in deleted or (folder / name).is_file())
    records = {name: read_record(record_path(folder / name, folder)) for name in there}
    ran_on = {
        name: (records[name] and records[name].facts)
        if name in deleted
        else read_facts(folder / name)
        for name in there
        if name.endswith(".parquet")
    }
    made_with = {name: record.versions for name, record in records.items() if record}
    return {
        "jobs": len(jobs),
        "seconds": round(sum(job["s"] or 0 for job in jobs), 2),
        "max_memory_mb": max(memory, default=None),
        **_by_kind("ran_on", ran_on),
        **_by_kind("made_with", made_with),
    }


def compare_versions(stages: Mapping[str, Mapping]) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Where versions are not the same for all files, or not those that are installed now.

    stages: {rule: as from `describe_stage`}.

    Returns {mixed, other_than_installed: {package: {version: the rules whose files it made}}}, both
    empty where one installation made everything and is still there.
    """
    used: dict[str, dict[str, list[str]]] = {}
    for rule, stage in sorted(stages.items()):
        for kind in stage.get("made_with", ()):
            for package, version_used in kind.items():
                if package == "files":
                    continue
                rules = used.setdefault(package, {}).setdefault(version_used, [])
                rules += [rule] if rule not in rules else []
    now = find_installed_versions(used)
    return {
        "mixed": {package: versions for package, versions in used.items() if len(versions) > 1},
        "other_than_installed": {
            package: others
            for package, versions in used.items()
            if (
                others := {key: rules for key, rules in versions.items() if key != now.get(package)}
            )
        },
    }


def describe_versions(versions: Mapping) -> list[str]:
    """What `compare_versions` found, one line each."""
    words = {"mixed": "mixed", "other_than_installed": "not installed now"}
    return [
        f"{words[key]}: "
        + "; ".join(f"{package} {found} ({', '.join(rules)})" for found, rules in made.items())
        for key in words
        for package, made in versions.get(key, {}).items()
    ]


def _by_kind(key: str, facts: Mapping[str, dict | None]) -> dict[str, list[dict]]:
    """{key: the different facts, each with the files of which they are true}; {} without any."""
    kinds: list[dict] = []
    for name, own in facts.items():
        if own is None:
            continue
        known = next((kind for kind in kinds if kind == {**own, "files": kind["files"]}), None)
        if known:
            known["files"].append(name)
        else:
            kinds.append({**own, "files": [name]})
    return {key: kinds} if kinds else {}


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
