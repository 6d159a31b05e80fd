"""Verify that a model's results are those that its manifest lists."""

import json
from pathlib import Path

from llm_figures.core.checksums import describe_files, result_files
from llm_figures.core.differences import list_differences
from llm_figures.core.errors import UserError

# Files and keys of the config that a message names; more are counted.
NAMED, NAMED_KEYS = 20, 6


def verify(
    path: str | Path, config: dict | None = None, command: str = "snakemake figures"
) -> tuple[int, dict[str, str]]:
    """Compare the files beside the manifest `path` with it.

    A file without a maker is not part of the manifest's run: another target, or a later setting,
    may add, change or remove it without a new manifest.

    config: the whole config of this run, resolved; None if it is not known. command: makes the
    figures with that config.

    Returns the number of files that agree with the manifest, and {file: "added", "changed" or
    "removed"} of the files that are not part of the run.

    Raises:
        UserError: the manifest is missing or cannot be read, or files of the run changed or are
            missing, one line each.
    """
    path = Path(path)
    listed, passing = read_listed_files(path, command), read_passing_files(path)
    folder = path.parent
    here = {name for name in listed if (folder / name).is_file()}
    # only files of the same size need hashing
    same_size = [n for n in here if (folder / n).stat().st_size == listed[n]["bytes"]]
    hashed = describe_files(folder, same_size)
    changed = {
        name for name in here if hashed.get(name, {}).get("sha256") != listed[name]["sha256"]
    }
    problems = sorted(
        [
            *((name, "changed") for name in changed),
            *((name, "missing") for name in listed.keys() - here),
        ]
    )
    others = {name: problem for name, problem in problems if not listed[name].get("made_by")}
    problems = [(name, problem) for name, problem in problems if name not in others]
    if not problems:
        words = {"changed": "changed", "missing": "removed"}
        since = {name: words[problem] for name, problem in others.items()}
        since |= dict.fromkeys(result_files(folder) - listed.keys() - passing, "added")
        return len(listed) - len(others), dict(sorted(since.items()))
    lines = [
        f"  {name}: {problem} (made by {listed[name]['made_by']})"
        for name, problem in problems[:NAMED]
    ]
    if len(problems) > NAMED:
        lines.append(f"  and {len(problems) - NAMED} more")
    advice = (
        f"; to make a file again: {command} --forcerun RULE; if the change is intended, remove the "
        f"manifest and run: {command}"
    )
    if keys := find_changed_options(path, config):
        advice = (
            f", and so do options of this run ({', '.join(keys)}); to make files and manifest with "
            f"these: {command}; to keep the manifest's, give verify the config of its run"
        )
    raise UserError(
        f"{len(problems)} of {len(listed)} files differ from {path}{advice}\n" + "\n".join(lines)
    )


def find_changed_options(path: str | Path, config: dict | None) -> list[str]:
    """Dotted keys in which the config of this run differs from a manifest's; many are counted.

    config: see `verify`.
    """
    written = json.loads(Path(path).read_text(encoding="utf-8")).get("config")
    if config is None or not isinstance(written, dict):
        return []
    keys = list(list_differences(written, json.loads(json.dumps(config))))
    more = [f"and {len(keys) - NAMED_KEYS} more"] if len(keys) > NAMED_KEYS else []
    return keys[:NAMED_KEYS] + more


def read_passing_files(path: Path) -> set[str]:
    """The files of a manifest's run that are deleted once all that reads them is made."""
    names = json.loads(path.read_text(encoding="utf-8")).get("not_kept", [])
    return {name for name in names if isinstance(name, str)}


def read_listed_files(path: Path, command: str = "snakemake figures") -> dict[str, dict]:
    """{file: {bytes, sha256, made_by}} of a manifest; command: makes it again.

    Raises:
        UserError: the manifest is missing or cannot be read.
    """
    again = f"run: {command}"
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {again}") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} cannot be read ({reason}); remove it and {again}") from None
    files = written.get("files") if isinstance(written, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(facts, dict) and {"bytes", "sha256"} <= facts.keys() for facts in files.values()
    ):
        raise UserError(f"{path} lists no files; remove it and {again}")
    return files
