"""Whether a model's results are what its manifest says."""

import json
from pathlib import Path

from llm_figures.core.checksums import described, result_files
from llm_figures.core.errors import UserError

# So many files are named; more are counted.
NAMED = 20


def verify(path: str | Path) -> tuple[int, dict[str, str]]:
    """Check the files beside the manifest `path` against it.

    A file without a maker is not of the manifest's run: another target, or a later setting, may
    make it anew or remove it without a new manifest.

    Returns the number of files that are as listed, and what became of others that are not of the
    run: {file: "made since", "made anew since" or "removed since"}.

    Raises:
        UserError: no manifest, none that can be read, or a line for every file of the run that
            changed or is missing.
    """
    path = Path(path)
    listed = listed_files(path)
    folder = path.parent
    here = {name for name in listed if (folder / name).is_file()}
    # A file of another size needs no hashing.
    same_size = [n for n in here if (folder / n).stat().st_size == listed[n]["bytes"]]
    found = described(folder, same_size)
    changed = {name for name in here if found.get(name, {}).get("sha256") != listed[name]["sha256"]}
    problems = sorted(
        [
            *((name, "changed") for name in changed),
            *((name, "missing") for name in listed.keys() - here),
        ]
    )
    others = {name: problem for name, problem in problems if not listed[name].get("made_by")}
    problems = [(name, problem) for name, problem in problems if name not in others]
    if not problems:
        words = {"changed": "made anew since", "missing": "removed since"}
        since = {name: words[problem] for name, problem in others.items()}
        since |= dict.fromkeys(result_files(folder) - listed.keys(), "made since")
        return len(listed) - len(others), dict(sorted(since.items()))
    lines = [
        f"  {name}: {problem} (made by {listed[name]['made_by']})"
        for name, problem in problems[:NAMED]
    ]
    if len(problems) > NAMED:
        lines.append(f"  and {len(problems) - NAMED} more")
    raise UserError(
        f"{len(problems)} file(s) are not as {path} says ({len(listed)} listed); to make one "
        "again: snakemake figures --forcerun RULE; where a change is meant, remove the manifest "
        "and run: snakemake figures\n" + "\n".join(lines)
    )


def listed_files(path: Path) -> dict[str, dict]:
    """{file: {bytes, sha256, made_by}} as the manifest says.

    Raises:
        UserError: no manifest, or none that can be read.
    """
    again = "run: snakemake figures"
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
