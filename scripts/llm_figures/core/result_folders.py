"""Which models a comparison has, and where their files lie; read while the Snakefile is parsed.

A model of the run lies in results/<model> and its files are made when asked for. A result folder is
such a folder made elsewhere or earlier, whose files are taken as they lie there.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Of the models of the run, in the working directory.
RESULTS = Path("results")
CLAIMS = "claims.parquet"
# Keys of the config and of a model's info under which paths stand.
PATHS = {"path", "hold_out", "files", "result_folders"}


def at_home(path: str) -> str:
    """The path with a leading ~ replaced; that of an unknown user stays, and is then missing."""
    return os.path.expanduser(path)  # noqa: PTH111 (Path.expanduser raises RuntimeError)


def folder_path(folder: str) -> str:
    """The folder as Snakemake likes paths: no ~, no ./ and no / at the end."""
    return os.path.normpath(at_home(folder))


def folder_name(folder: str) -> str:
    """What the model of a result folder is called: the folder's own name."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100 (a link keeps its own name)


def portable(value: Any, under: str = "") -> Any:
    """A config, model info or manifest in which absolute paths are reduced to their last name.

    under: the key that `value` stands under.
    """
    if isinstance(value, Mapping):
        return {key: portable(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [portable(part, under) for part in value]
    if isinstance(value, str) and under in PATHS and value.startswith(("/", "~")):
        return Path(value).name
    return value


def folder_problems(
    folders: Sequence[str], models: Sequence[str], scores: Iterable[str]
) -> Iterator[str]:
    """One line for every folder that cannot be compared with the run's models or another folder.

    scores: the files that figures are compared by, below a model's folder.
    """
    known = ("model.json", CLAIMS, *scores)
    taken = dict.fromkeys(models, "a model of this run")
    for place, folder in enumerate(folders, start=1):
        where, name = f"config: result_folders[{place}]: {folder}", folder_name(folder)
        if not Path(folder).is_dir():
            yield f"{where}: no such folder"
        elif not any((Path(folder) / file).is_file() for file in known):
            yield (
                f"{where}: none of {', '.join(known)} there; it must be a folder results/<model>"
            )
        elif name in taken:
            yield f"{where}: {name} is the name of {taken[name]}, too; rename the folder"
        else:
            taken[name] = folder


def compared(
    models: Sequence[str], folders: Sequence[str], file: str
) -> tuple[dict[str, str], list[str]]:
    """Where `file` lies (below a model's folder), by model: the run's, then the folders'.

    Returns the paths, and the missing files of the folders that lack it.
    """
    found = {name: str(RESULTS / name / file) for name in models}
    missing = []
    for folder in folders:
        path = Path(folder) / file
        if path.is_file():
            found[folder_name(folder)] = str(path)
        else:
            missing.append(str(path))
    return found, missing


def comparison_problem(found: Sequence[str], missing: Sequence[str], what: str) -> str | None:
    """One line where there are less than two models to compare.

    found, missing: as from `compared`. what: the target or file that is asked for.
    """
    if len(found) > 1:
        return None
    lacking = f" (missing: {', '.join(missing)})" if missing else ""
    return (
        f"{what} needs at least two models: {', '.join(found) or 'none'}{lacking}; list more in "
        "models, or folders made earlier in result_folders"
    )
