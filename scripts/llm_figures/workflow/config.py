"""The config: defaults, checks and the few things computed from it, without heavy imports.

Everything that can be known before a job is checked here, while the Snakefile is read, and
reported in one line that names the key, the value and what is allowed.
"""

import copy
import difflib
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from llm_figures.claims.definitions import read_claims
from llm_figures.core.errors import UserError
from llm_figures.core.figure_names import ATTENTION_FIGURES, FIGURES
from llm_figures.core.result_folders import at_home, folder_path, folder_problems
from llm_figures.core.text_files import own_yaml
from llm_figures.models.gguf import check_gguf, named_gguf
from llm_figures.models.layer_checks import check_choices, check_shape
from llm_figures.models.model_info import check_folder, shape_of, stated
from llm_figures.modules.metrics import of_measure, shown_metrics
from llm_figures.probe.protocol import KEY_TOKENS, TOKENS
from llm_figures.provenance.bundle import portable
from llm_figures.questions.question_files import column_problems, dataset_source, question_files
from llm_figures.questions.spans import check_pattern

# Sizes in which two checkpoints of one architecture agree; vocabularies may differ.
ARCHITECTURE = (
    "layers",
    "hidden_size",
    "heads",
    "key_value_heads",
    "head_dim",
    "intermediate_size",
    "experts",
)
# Options that can be set anew where figures are drawn from an archive: the scores stay as they are.
REDRAWN = (
    r"style\..*|choices\.palette|figures\.(\w+\.(palette|limits|centre|highlight|tick_labels)(\..*)?"
    r"|probe_auc\.metric|probe_curves\.(metric|tokens))"
)


def check_config(
    config: dict, schema_folder: Path, models_file: Path, results: Path = Path("results")
) -> tuple[dict, dict[str, dict]]:
    """Fill in defaults and check everything that is known before a job.

    results: where an earlier run may have left the models' cards, which tell their shapes.

    Returns the whole config and the entries of the run's models by name, in the config's order;
    both with defaults.

    Raises:
        UserError: all problems found, one line each.
    """
    schema = _read_yaml(schema_folder / "config.schema.yaml")
    config = validated(config, schema, "config")
    _resolve(config)
    entries = _entries(config, models_file, _read_yaml(schema_folder / "models.schema.yaml"))
    problems = [
        *_models_problems(config),
        *_device_problems(config),
        *_figure_problems(config),
        *_compare_problems(config),
        *_dataset_problems(config["dataset"]),
        *_exact_answer_problems(config["exact_answer"]),
    ]
    shapes = {
        name: _known_shape(name, entry, results / name / "model.json")
        for name, entry in entries.items()
    }
    if problems:
        raise UserError("\n".join(problems))
    for name, entry in compared_entry(config, schema_folder, models_file).items():
        known = _known_shape(name, entry, results / name / "model.json")
        _check_same_shape(shapes, name, known)
    for name, shape in shapes.items():
        if shape is None:
            continue
        try:
            check_shape(config["figures"], shape)
            check_choices(config["choices"], shape)
        except UserError as error:
            raise UserError(f"{error} (model {name})" if len(shapes) > 1 else f"{error}") from None
    return config, entries


def compared_entry(config: dict, schema_folder: Path, models_file: Path) -> dict[str, dict]:
    """The entry of the checkpoint that the module map compares with, by name; {} without one.

    Raises:
        UserError: it is not among the known models, or its entry is wrong.
    """
    name = config["figures"]["module_map"]["compare_with"]
    if name is None:
        return {}
    schema = _read_yaml(schema_folder / "models.schema.yaml")
    where = {name: "figures.module_map.compare_with"}
    return _entries_of(where, config, models_file, schema)


def check_redraw(
    written: dict, given: dict, schema_folder: Path, archive: str
) -> tuple[dict, list[str]]:
    """The config to draw with from an archive: the archive's own with `given` laid over it.

    Neither model nor questions are there to be checked, and what the scores were made with cannot
    be set otherwise. archive: its path, for messages.

    Returns the whole config and the keys that differ from the archive's.

    Raises:
        UserError: all problems found, one line each.
    """
    schema = _read_yaml(schema_folder / "config.schema.yaml")
    before = validated(written, schema, f"{archive}: config.yaml")
    _resolve(before)
    before = portable(before)
    config = validated(_laid_over(before, given), schema, "config")
    _resolve(config)
    config = portable(config) | {"bundle": None}
    changed = list(_differences(before, config))
    problems = list(_figure_problems(config))
    refused = [key for key in changed if not re.fullmatch(REDRAWN, key)]
    if refused:
        problems.append(
            f"config: {', '.join(refused)}: {archive} was made with another value; drawn from it, "
            "only style, palette, limits, centre, highlight, tick_labels, the probe figures' "
            "metric and the tokens of probe_curves can be set otherwise"
        )
    if problems:
        raise UserError("\n".join(problems))
    return config, changed


def _laid_over(value: Any, over: Any) -> Any:
    """`over` laid over `value`, key by key, as Snakemake does with config files."""
    if not isinstance(value, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    joined = {key: _laid_over(value[key], over[key]) for key in value.keys() & over.keys()}
    return {**value, **over, **joined}


def _differences(value: Any, other: Any, key: str = "") -> Iterator[str]:
    """Keys, with dots between levels, under which two configs differ."""
    if isinstance(value, dict) and isinstance(other, dict):
        for name in sorted(value.keys() | other.keys(), key=str):
            where = f"{key}.{name}".removeprefix(".")
            yield from _differences(value.get(name), other.get(name), where)
    elif value != other:
        yield key


def _entries(config: dict, models_file: Path, schema: dict) -> dict[str, dict]:
    """The entry of every model of the run, by name."""
    several = config["models"] is not None
    names = config["models"] if several else [config["model"]]
    keys = {name: f"models[{place}]" if several else "model" for place, name in enumerate(names, 1)}
    return _entries_of(keys, config, models_file, schema)


def _entries_of(
    keys: dict[str, str], config: dict, models_file: Path, schema: dict
) -> dict[str, dict]:
    """The entries of models, by name. keys: {name: the key of the config that names it}."""
    listed = _read_yaml(models_file) or {}
    sources = {**listed, **config["model_sources"]}
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
        where = "config: model_sources" if name in config["model_sources"] else str(models_file)
        entries[name] = validated({name: sources[name]}, schema, where)[name]
        _add_base(name, entries[name], sources, schema, [name])
    return entries


def _add_base(name: str, entry: dict, sources: dict, schema: dict, seen: list[str]) -> None:
    """Put the base's entry into that of a model that is fine-tuned here, and so on.

    Raises:
        UserError: a base that is unknown, or the model itself.
    """
    if entry["source"] != "finetune":
        return
    base = entry["base"]
    where = f"config: model {name}: base: {base!r}"
    if base in seen:
        chain = " of ".join([*seen, base])
        raise UserError(f"{where}: a model cannot be fine-tuned of itself ({chain})")
    if base not in sources:
        raise UserError(f"{where} is no model; known: {', '.join(sorted(sources))}")
    found = validated({base: sources[base]}, schema, f"config: model {name}: base")[base]
    _add_base(base, found, sources, schema, [*seen, base])
    entry["base_entry"] = found
    entry["trust_remote_code"] = found["trust_remote_code"]
    entry["safetensors_only"] = True


def with_bases(entries: dict[str, dict]) -> dict[str, dict]:
    """The entries and those of the models they are fine-tuned of, by name; bases last."""
    every = dict(entries)
    waiting = list(entries.values())
    while waiting:
        entry = waiting.pop()
        if "base_entry" in entry:
            every.setdefault(entry["base"], entry["base_entry"])
            waiting.append(entry["base_entry"])
    return every


def _models_problems(config: dict) -> Iterator[str]:
    models, folders = config["models"], config["result_folders"]
    if models == [] and not folders:
        yield "config: models: []; name at least one, or null to take model"
    if models and len(models) > 1 and config["dataset"]["label"] is not None:
        yield (
            f"config: dataset.label: {config['dataset']['label']!r} holds judgements of one "
            "model's answers; run the models one at a time, each with its own"
        )
    yield from folder_problems(folders, [config["model"]] if models is None else models)


def _compare_problems(config: dict) -> Iterator[str]:
    other = config["figures"]["module_map"]["compare_with"]
    asked = of_measure(shown_metrics(config["figures"]["module_map"]["metric"]), "updates")
    if asked and other is None:
        yield (
            f"config: figures.module_map.metric: {asked[0]} compares two checkpoints; name the "
            "earlier one, a key of config/models.yaml or model_sources, in "
            "figures.module_map.compare_with"
        )
    models = [config["model"]] if config["models"] is None else config["models"]
    if other is not None and [*models] == [other]:
        yield (
            f"config: figures.module_map.compare_with: {other!r} is the model itself; name the "
            "checkpoint it was made from"
        )


def _check_same_shape(shapes: dict[str, dict | None], other: str, its: dict | None) -> None:
    """Refuse models of another architecture than `other`, as far as their sizes are known."""
    for name, mine in shapes.items():
        for what in ARCHITECTURE if mine and its else ():
            sizes = mine.get(what), its.get(what)
            if None not in sizes and sizes[0] != sizes[1]:
                raise UserError(
                    f"config: figures.module_map.compare_with: {name} and {other} are of different "
                    f"architectures: {what} {sizes[0]} and {sizes[1]}"
                )


def _device_problems(config: dict) -> Iterator[str]:
    if config["device_map"] is not None and config["device"] not in ("auto", "cuda"):
        yield (
            f"config: device_map: {config['device_map']} spreads the model over all GPUs, but "
            f"device is {config['device']}; set device to auto, or device_map to null"
        )


def check_claims(config: dict, schema_folder: Path, built_in: Path) -> list[dict]:
    """All claims of the run, one per figure × claim: the built-in file's and `claims.files`'.

    Raises:
        UserError: all problems of the first file that has any, one line each.
    """
    schema = _read_yaml(schema_folder / "claims.schema.yaml")
    files = [at_home(file) for file in config["claims"]["files"]]
    return read_claims(Path(os.path.relpath(built_in)), files, schema, validated)


def _resolve(config: dict) -> None:
    """Replace what stands for something else: the probe's tokens, where questions come from."""
    config["result_folders"] = [folder_path(folder) for folder in config["result_folders"]]
    dataset = config["dataset"]
    dataset["source"] = dataset_source(dataset)
    if dataset["source"] == "path":
        for key in ("path", "hold_out"):
            if dataset[key] is not None:
                dataset[key] = at_home(dataset[key])
    probe_auc = config["figures"]["probe_auc"]
    if probe_auc["tokens"] is None:
        probe_auc["tokens"] = list(TOKENS[config["probe"]["preset"]])
    curves, tokens = config["figures"]["probe_curves"], probe_auc["tokens"]
    if curves["tokens"] is None:
        key = [token for token in KEY_TOKENS if token in tokens]
        curves["tokens"] = key or tokens[: len(KEY_TOKENS)]


def validated(values: dict, schema: dict, where: str) -> dict:
    """`values` with the schema's defaults, numbers given as text made numbers.

    Raises:
        UserError: one line per problem, each naming the key and what is allowed.
    """
    values = _filled(copy.deepcopy(values), schema, schema)
    errors = sorted(
        Draft202012Validator(schema).iter_errors(values), key=lambda error: list(error.path)
    )
    problems = [_explained(error) for error in errors] + list(_not_finite(values))
    if problems:
        raise UserError("\n".join(f"{where}: {problem}" for problem in dict.fromkeys(problems)))
    return values


def _known_shape(name: str, entry: dict, card: Path) -> dict | None:
    """The model's shape where it can be read without a download; checks a local folder."""
    if entry["source"] == "finetune":
        base = card.parent.parent / entry["base"] / "model.json"
        return _card_of(entry, card) or _known_shape(entry["base"], entry["base_entry"], base)
    if entry["source"] != "path":
        # not prepared yet: without a stated shape the job that first meets the model checks
        return _card_of(entry, card) or entry.get("shape")
    where = f"config: model {name}: path: {entry['path']}"
    if (gguf := named_gguf({**entry, "path": at_home(entry["path"])})) is not None:
        check_gguf(gguf, where)
        return _card_of(entry, card) or entry.get("shape")
    folder = Path(at_home(entry["path"]))
    check_folder(folder, where)
    config_file = folder / "config.json"
    try:
        model_config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"config: model {name}: {config_file} is not JSON: {error}") from None
    return shape_of(model_config.get("text_config", model_config))


def _card_of(entry: dict, card: Path) -> dict | None:
    """The model's card, if an earlier run left one of this entry."""
    try:
        known = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if known.get("entry") == stated(entry) else None


def _figure_problems(config: dict):
    count = len(config["inputs"])
    for name in ATTENTION_FIGURES:
        options = config["figures"][name]
        # The choices scale the input of scale_qkv, whatever that figure itself does.
        used = options["operation"] == "scale" or name == "scale_qkv"
        if used and options["input"] > count:
            yield f"config: figures.{name}.input: {options['input']}; there are {count} inputs"
    probe = config["figures"]["probe_auc"]
    if probe["highlight"]:
        missing = [token for token in probe["highlight"]["tokens"] if token not in probe["tokens"]]
        if missing:
            yield (
                f"config: figures.probe_auc.highlight.tokens: {missing[0]!r} is not among the "
                f"figure's tokens: {', '.join(probe['tokens'])}"
            )
    for token in config["figures"]["probe_curves"]["tokens"]:
        if token not in probe["tokens"]:
            yield (
                f"config: figures.probe_curves.tokens: {token!r} is not among the tokens of "
                f"probe_auc: {', '.join(probe['tokens'])}"
            )
    for name in FIGURES:
        given = config["figures"][name].get("limits")
        for key, limits in given.items() if isinstance(given, dict) else [("", given)]:
            if isinstance(limits, list) and not limits[0] < limits[1]:
                where = f"figures.{name}.limits.{key}".removesuffix(".")
                yield f"config: {where}: {limits}: the first must be below the second"


def _exact_answer_problems(options: dict) -> Iterator[str]:
    if options["method"] == "regex":
        try:
            check_pattern(options["pattern"])
        except UserError as error:
            yield str(error)


def _dataset_problems(dataset: dict) -> Iterator[str]:
    source = dataset["source"]
    if dataset["answer"] is None and dataset["label"] is None:
        yield (
            "config: dataset.answer: null without dataset.label; name the column of right answers, "
            "or that of labels"
        )
    if source == "facts":
        for key in ("id", "group", "frame", "label", "hold_out", "revision", "file"):
            if dataset[key] is not None:
                yield (
                    f"config: dataset.{key}: {dataset[key]!r}; only for questions of your own "
                    "(dataset.path, or dataset.repo)"
                )
        return
    needed = ("path",) if source == "path" else ("repo", "revision", "file")
    missing = [key for key in needed if dataset[key] is None]
    for key in missing:
        yield f"config: dataset.{key}: missing; source: {source} needs {', '.join(needed)}"
    if source == "path" and not missing:
        held_out = () if dataset["hold_out"] is None else question_files(dataset, held_out=True)
        for file in (*question_files(dataset), *held_out):
            yield from column_problems(dataset, file)


def _read_yaml(path: Path) -> Any:
    try:
        return own_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())[:200]}") from None


def _filled(value: Any, schema: Any, root: dict) -> Any:
    """`value` with defaults of missing keys; 1e-3, text to YAML 1.1, becomes a number."""
    if not isinstance(schema, dict):
        return value
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **schema}
    for branch in schema.get("allOf", []):
        condition = {"$defs": root.get("$defs", {}), **branch.get("if", {})}
        if isinstance(value, dict) and Draft202012Validator(condition).is_valid(value):
            value = _filled(value, branch.get("then", {}), root)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for key, part in known.items():
            if key not in value and isinstance(part, dict) and "default" in part:
                value[key] = copy.deepcopy(part["default"])
        for key in value:
            value[key] = _filled(
                value[key], known.get(key, schema.get("additionalProperties", {})), root
            )
    elif isinstance(value, list):
        value = [_filled(item, schema.get("items", {}), root) for item in value]
    elif isinstance(value, str) and "number" in _types(schema):
        with suppress(ValueError):
            value = float(value)
    elif isinstance(value, float) and value.is_integer() and "integer" in _types(schema):
        value = int(value)  # 5.0 is an integer to the schema
    return value


def _not_finite(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _not_finite(part, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for index, part in enumerate(value, start=1):
            yield from _not_finite(part, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key}: {value} is not a finite number"
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        yield f"{key}: an integer of {len(str(value))} digits is too large"


def _types(schema: dict) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else kind


def _explained(error: ValidationError) -> str:
    """One line for one error of the schema."""
    key = ""
    for part in error.absolute_path:
        key += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    key = key.removeprefix(".")
    value, rule = error.instance, error.validator_value
    at = f"{key}: " if key else ""
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "…"
    match error.validator:
        case "additionalProperties":
            allowed = sorted(error.schema.get("properties", {}))
            unknown = next(name for name in value if name not in allowed)
            near = difflib.get_close_matches(str(unknown), allowed, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            return f"{at}unknown key {unknown!r}; {hint}allowed: {', '.join(allowed)}"
        case "required":
            missing = [name for name in rule if name not in value]
            return f"{at}missing key(s): {', '.join(missing)}"
        case "type":
            kinds = " or ".join(_types(error.schema))
            return f"{at}{shown} is not of type {kinds}{_also(error.schema)}"
        case "enum":
            allowed = ", ".join("null" if item is None else str(item) for item in rule)
            return f"{at}{shown}; allowed: {allowed}"
        case "const":
            return f"{at}{shown}; allowed: {json.dumps(rule)}"
        case "minimum" | "exclusiveMinimum":
            bound = "at least" if error.validator == "minimum" else "more than"
            return f"{at}{shown}; must be {bound} {rule}"
        case "maximum":
            return f"{at}{shown}; must be at most {rule}"
        case "minItems" | "minLength":
            return f"{at}{shown} has {len(value)} entries or characters; at least {rule}"
        case "maxItems":
            return f"{at}{len(value)} entries; at most {rule}"
        case "uniqueItems":
            twice = next(item for item in value if value.count(item) > 1)
            return f"{at}{twice!r} stands there more than once"
        case "pattern" if rule == r"\S":
            return f"{at}{shown} is an empty text"
        case "pattern":
            return f"{at}{shown}; {_allowed(error.schema)}"
    return f"{at}{error.message}"


def _also(schema: dict) -> str:
    return f" ({schema['description']})" if "description" in schema else ""


def _allowed(schema: dict) -> str:
    if "description" in schema:
        return f"allowed: {schema['description'].rstrip('.')}"
    kinds = [kind for kind in _types(schema) if kind != "string"]
    alternative = f"{' or '.join(kinds)}, or text" if kinds else "text"
    return f"allowed: {alternative} of the form {schema['pattern']}"
