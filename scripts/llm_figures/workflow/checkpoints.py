"""Checkpoints of a training run as models of their own.

`checkpoints` of the config names them in one of four ways. Here each becomes a model with an entry
and a folder of results, results/{model}@{label}/, so that the rules know nothing of checkpoints.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from llm_figures.comparison.options import Checkpoints
from llm_figures.core.errors import UserError
from llm_figures.core.result_folders import folder_name, folder_path
from llm_figures.models.options import FinetunedModel

WAYS = ("revisions", "folders", "steps", "models")
WHERE = "config: checkpoints"


class Place(NamedTuple):
    """One checkpoint: the model that it is, its label, and its place on the axis, if known."""

    model: str
    label: str
    x: float | None


def find_way(options: Checkpoints) -> str | None:
    """By which key the checkpoints are named; None if there are none.

    Raises:
        UserError: by more than one, or by none although a model is given.
    """
    ways = [way for way in WAYS if getattr(options, way) is not None]
    if len(ways) > 1:
        raise UserError(f"{WHERE}: {' and '.join(ways)} are given; name the checkpoints in one way")
    if not ways and (options.model or options.x):
        given = "model" if options.model else "x"
        raise UserError(
            f"{WHERE}.{given} is given, but no checkpoints; name them in one of: {', '.join(WAYS)}"
        )
    return ways[0] if ways else None


def list_places(options: Checkpoints, base: str | None = None) -> list[Place]:
    """The checkpoints in their order; none if the config names none.

    base: the model that a model which is fine-tuned here begins with.

    Raises:
        UserError: fewer than two; two of the same label; a label without a number where `x` is not
            given; an `x` of another length; steps, or places, that do not rise.
    """
    way = find_way(options)
    if way is None:
        return []
    pairs = list(_list_names(options, way, base))
    if len(pairs) < 2:
        raise UserError(f"{WHERE}.{way}: fewer than two checkpoints; name at least two")
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{WHERE}.{way}: two checkpoints would be called {twice}; rename one")
    if options.x is not None and len(options.x) != len(pairs):
        raise UserError(
            f"{WHERE}.x: {len(options.x)} places for {len(pairs)} checkpoints; give one for each"
        )
    places = options.x or [None if way == "models" else _read_number(label) for _, label in pairs]
    found = [Place(name, label, x) for (name, label), x in zip(pairs, places, strict=True)]
    unknown = next((place for place in found if place.x is None and way != "models"), None)
    if unknown:
        raise UserError(
            f"{WHERE}.{way}: the label {unknown.label!r} has no number; give the place of every "
            "checkpoint in checkpoints.x"
        )
    for one, other in pairwise(found):
        if one.x is not None and one.x >= other.x:
            raise UserError(
                f"{WHERE}.{way}: {other.label!r} has the place {other.x:g}, not after "
                f"{one.label!r} with {one.x:g}; name them in rising order, or give checkpoints.x"
            )
    for one, other in pairwise(options.steps or ()):
        if one >= other:
            raise UserError(f"{WHERE}.steps: {other} is not after {one}; name them in rising order")
    return found


def _list_names(options: Checkpoints, way: str, base: str | None) -> Iterator[tuple[str, str]]:
    """(name of the model, label) of every checkpoint."""
    start = f"{options.model}@" if options.model else ""
    if way == "models":
        yield from ((name, name) for name in options.models)
    elif way == "folders":
        for folder in options.folders:
            label = Path(folder_path(folder)).name
            yield f"{start}{label}", label
    elif not options.model:
        raise UserError(f"{WHERE}.model: missing; name the model that the {way} are of")
    elif way == "revisions":
        yield from ((f"{start}{label}", label) for label in options.revisions)
    else:
        for step in options.steps:
            yield (base if base and step == 0 else f"{start}step{step}"), f"step{step}"


def place_folder(options: Checkpoints, folder: str) -> Place:
    """The checkpoint that a folder of earlier results is; its name holds its place.

    Raises:
        UserError: the name holds no number; the others' places are given in `x`, which may be of
            another unit.
    """
    name = folder_name(folder)
    label = name.rpartition("@")[2]
    if options.x is not None:
        raise UserError(
            f"config: result_folders: {folder}: checkpoints.x gives places, but none of a result "
            "folder; name the checkpoints so that labels hold their places, and leave out x"
        )
    x = None if options.models is not None else _read_number(label)
    if x is None and options.models is None:
        raise UserError(
            f"config: result_folders: {folder}: its name has no number, so its place among the "
            "checkpoints is not known; rename it after its step"
        )
    return Place(name, label, x)


def _read_number(label: str) -> float | None:
    """The last number in a label: 1000 of step-1000."""
    numbers = re.findall(r"\d+(?:\.\d+)?", label)
    return float(numbers[-1]) if numbers else None


def make_entries(options: Checkpoints, entry: Mapping | None) -> dict[str, dict | None]:
    """{name of a model of the run: its entry, None for one that has one already}.

    entry: of the model that the checkpoints are of, in models.yaml; None without one.

    Raises:
        UserError: checkpoints that such a model does not have.
    """
    way = find_way(options)
    places = list_places(options, (entry or {}).get("base"))
    if way in (None, "models"):
        return dict.fromkeys(place.model for place in places)
    if way == "folders":
        own = (
            {key: entry[key] for key in ("trust_remote_code", "safetensors_only")} if entry else {}
        )
        return {
            place.model: {"source": "path", "path": folder, **own}
            for place, folder in zip(places, options.folders, strict=True)
        }
    needed = {"revisions": "hub", "steps": "finetune"}[way]
    if entry["source"] != needed:
        raise UserError(
            f"{WHERE}.{way}: {options.model} has source {entry['source']}, but {way} are of a "
            f"model of source {needed}; name its folders in checkpoints.folders"
        )
    if way == "revisions":
        commits = options.revisions.values()
        return {
            place.model: {**entry, "revision": commit}
            for place, commit in zip(places, commits, strict=True)
        }
    return _divide_training(options, entry)


def _divide_training(options: Checkpoints, entry: Mapping) -> dict[str, dict | None]:
    """The parts of a training, each from one checkpoint to the next; step 0 is the base."""
    last = options.steps[-1]
    if last > entry["steps"]:
        raise UserError(
            f"{WHERE}.steps: {last} is beyond the {entry['steps']} steps of {options.model}"
        )
    own = {key: entry[key] for key in FinetunedModel.model_fields if key in entry}
    entries: dict[str, dict | None] = {}
    after, done = entry["base"], 0
    for step in options.steps:
        if step == 0:
            entries[entry["base"]] = None
            continue
        name = f"{options.model}@step{step}"
        entries[name] = {**own, "part": {"after": after, "done": done, "until": step}}
        after, done = name, step
    return entries
