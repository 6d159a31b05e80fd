"""The models of a comparison and the paths of their files, while the Snakefile is parsed.

Files of a model of the run are in results/<model> and are made when needed. A result folder is such
a folder made elsewhere or earlier, whose files are used as they are.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# The folder of the run's models, in the working directory.
RESULTS = Path("results")
CLAIMS = "claims.parquet"
# Keys of the config and of model infos that have paths.
PATHS = {"path", "hold_out", "files", "result_folders"}


def at_home(path: str) -> str:
    """The path with a leading ~ expanded; that of an unknown user stays and is reported missing."""
    return os.path.expanduser(path)  # noqa: PTH111 (Path.expanduser raises RuntimeError)


def folder_path(folder: str) -> str:
    """The folder in Snakemake's form of paths: no ~, no ./ and no / at the end."""
    return os.path.normpath(at_home(folder))


def name_folder(model: str, run: str | None) -> str:
    """The name of a model's folder of results in a named run, or in the run without a name."""
    return model if run is None else f"{model}@{run}"


def name_model(folder: str, run: str | None) -> str:
    """The model's name, from that of its folder."""
    return folder if run is None else folder.removesuffix(f"@{run}")


def folder_name(folder: str) -> str:
    """The name of a result folder's model: the folder's own name."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100 (a link keeps its own name)


def portable(value: Any, under: str = "") -> Any:
    """A config, model info or manifest with absolute paths reduced to their last part.

    under: the key of `value`.
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

    scores: the files of scores that are compared, relative to a model's folder.
    """
    known = ("model.json", CLAIMS, *scores)
    taken = dict.fromkeys(models, "a model of this run")
    for number, folder in enumerate(folders, start=1):
        where, name = f"config: result_folders[{number}]: {folder}", folder_name(folder)
        if not Path(folder).is_dir():
            yield f"{where}: no such folder"
        elif not any((Path(folder) / file).is_file() for file in known):
            yield f"{where}: has none of {', '.join(known)}; it must be a folder results/<model>"
        elif name in taken:
            yield f"{where}: {name} is also the name of {taken[name]}; rename the folder"
        else:
            taken[name] = folder


def case_problems(names: Iterable[str | None]) -> Iterator[str]:
    """One line for every model whose name differs from another's in case alone."""
    folded: dict[str, str] = {}
    for name in filter(None, names):
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            yield (
                f"config: models {other!r} and {name!r} differ in case alone and would share a "
                "folder of results on some file systems; rename one"
            )


def compared(
    models: Sequence[str], folders: Sequence[str], file: str
) -> tuple[dict[str, str], list[str]]:
    """The paths of `file` (relative to a model's folder) by model: the run's, then the folders'.

    Returns them, and the paths that are missing in folders.
    """
    paths = {name: str(RESULTS / name / file) for name in models}
    missing = []
    for folder in folders:
        path = Path(folder) / file
        if path.is_file():
            paths[folder_name(folder)] = str(path)
        else:
            missing.append(str(path))
    return paths, missing


def comparison_problem(found: Sequence[str], missing: Sequence[str], what: str) -> str | None:
    """One line if there are fewer than two models to compare.

    found, missing: as from `compared`. what: the target or file.
    """
    if len(found) > 1:
        return None
    lacking = f" (missing: {', '.join(missing)})" if missing else ""
    return (
        f"{what} needs at least two models: {', '.join(found) or 'none'}{lacking}; list more in "
        "models, or folders made earlier in result_folders"
    )
