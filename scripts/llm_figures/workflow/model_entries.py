"""The entries of models in models.yaml and model_sources, with those that they are made from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from llm_figures.comparison.options import Checkpoints
from llm_figures.core.errors import UserError
from llm_figures.core.options_reader import read_options
from llm_figures.core.result_folders import name_folder
from llm_figures.core.text_files import describe_yaml_error, read_project_yaml
from llm_figures.models.options import ModelEntry, ModelName
from llm_figures.workflow.checkpoints import WHERE, make_entries


def find_checkpoints(options: Checkpoints, own: dict, models_file: Path) -> dict[str, Any]:
    """{name: entry} of the models that the checkpoints are; None for a model that has an entry.

    own: the config's model_sources.

    Raises:
        UserError: see `make_entries`; a name that another model has.
    """
    needed = options.model is not None and options.folders is None
    known = {**(_read_yaml(models_file) or {}), **own}
    entry = None
    if options.model in known or needed:
        entry = find_entries({options.model: "checkpoints.model"}, own, models_file)[options.model]
        entry = {key: value for key, value in entry.items() if key != "base_entry"}
    made = make_entries(options, entry)
    kept = {name: values for name, values in made.items() if values is not None}
    entries = read_options(dict[ModelName, ModelEntry], kept, WHERE)
    for name, values in entries.items():
        if name in known and _entry(name, known, WHERE) != values.plain():
            raise UserError(f"{WHERE}: {name} is also the name of another model; rename one")
    return {name: entries.get(name) for name in made}


def find_entries(keys: dict[str, str], own: dict, models_file: Path) -> dict[str, dict]:
    """The entries of models, by name.

    keys: {name: the key of the config that names it}. own: the config's model_sources.
    """
    sources = {**(_read_yaml(models_file) or {}), **own}
    unknown = [
        f"config: {key}: {name!r} is neither in {models_file} nor in model_sources; known: "
        f"{', '.join(sorted(sources))}"
        for name, key in keys.items()
        if name not in sources
    ]
    if unknown:
        raise UserError("\n".join(unknown))
    entries = {}
    for name in keys:
        where = "config: model_sources" if name in own else str(models_file)
        entries[name] = _entry(name, sources, where)
        _add_base(name, entries[name], sources, [name])
    return entries


def find_run_problem(
    names: Iterable[str], run: str | None, own: dict, models_file: Path
) -> str | None:
    """One line if a run's folder would be that of another model; None if not."""
    known = {**(_read_yaml(models_file) or {}), **own}
    for name in names:
        folder = name_folder(name, run)
        if run is not None and folder in known:
            return (
                f"config: run: {run!r}: {folder} is the name of a model; take another for the run"
            )
    return None


def _entry(name: str, sources: dict, where: str) -> dict:
    """One entry with its defaults."""
    return read_options(dict[str, ModelEntry], {name: sources[name]}, where)[name].plain()


def _add_base(name: str, entry: dict, sources: dict, seen: list[str]) -> None:
    """Add the entry of its base to the entry of a model that is fine-tuned here, recursively.

    seen: the models on the way here.

    Raises:
        UserError: a base is unknown, or the model itself.
    """
    if entry["source"] != "finetune":
        return
    base = entry["base"]
    where = f"config: model {name}: base: {base!r}"
    if base in seen:
        chain = " from ".join([*seen, base])
        raise UserError(f"{where}: a model cannot be fine-tuned from itself ({chain})")
    if base not in sources:
        raise UserError(f"{where} is no model; known: {', '.join(sorted(sources))}")
    base_entry = _entry(base, sources, f"config: model {name}: base")
    _add_base(base, base_entry, sources, [*seen, base])
    entry["base_entry"] = base_entry
    entry["trust_remote_code"] = base_entry["trust_remote_code"]
    entry["safetensors_only"] = True


def add_bases(entries: dict[str, dict]) -> dict[str, dict]:
    """The entries and those of the models that theirs are fine-tuned from, by name; bases last."""
    every = dict(entries)
    waiting = list(entries.values())
    while waiting:
        entry = waiting.pop()
        if "base_entry" in entry:
            every.setdefault(entry["base"], entry["base_entry"])
            waiting.append(entry["base_entry"])
    return every


def _read_yaml(path: Path) -> Any:
    try:
        return read_project_yaml(path)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {describe_yaml_error(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
