"""The config as one object, and the checks that involve several of its options.

The Snakefile checks here all that can be known before a job; each problem is one line with the key,
the value and what is allowed. Nothing heavy is imported.
"""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.claims_file import read_claims
from llm_figures.claims.figures import ATTENTION_FIGURES, KINDS, Figures
from llm_figures.claims.options import Choices, Claims
from llm_figures.comparison.options import Checkpoints
from llm_figures.core.differences import list_differences
from llm_figures.core.errors import UserError
from llm_figures.core.options import Items, Options, Text, drawn_keys
from llm_figures.core.options_reader import read_options
from llm_figures.core.result_folders import (
    at_home,
    case_problems,
    folder_path,
    folder_problems,
    name_folder,
    portable,
)
from llm_figures.core.text_checks import PathText
from llm_figures.inference.options import Prompt
from llm_figures.models.folder_checks import check_folder
from llm_figures.models.gguf import find_gguf
from llm_figures.models.gguf_header import check_gguf, check_gguf_header, sizes_of
from llm_figures.models.layer_checks import check_choices, check_same_shape, check_shape
from llm_figures.models.model_files import read_json_object
from llm_figures.models.model_info import drop_shape, shape_of, text_part
from llm_figures.models.options import (
    ModelEntry,
    ModelName,
    Resources,
    RunName,
    Runtime,
    StoredStates,
)
from llm_figures.modules.metrics import of_measure
from llm_figures.paper.options import Paper
from llm_figures.plotting.style import Style
from llm_figures.probe.options import Probe
from llm_figures.probe.protocol import BY_GROUP, KEY_TOKENS, TOKENS, Protocol
from llm_figures.provenance.options import Reuse
from llm_figures.questions.option_checks import (
    dataset_problems,
    exact_answer_problems,
    further_problems,
    judge_problems,
)
from llm_figures.questions.options import FURTHER_SETS, Dataset, Datasets, ExactAnswer, Judge
from llm_figures.questions.resampling_options import Resamples
from llm_figures.workflow.model_entries import (
    add_bases,
    find_checkpoints,
    find_entries,
    find_run_problem,
)


class Subject(Options):
    """Which models are examined, and on which texts."""

    model: ModelName = "smollm2-135m"
    """A key of config/models.yaml

    The model: a key of config/models.yaml, or of model_sources."""

    model_sources: dict[ModelName, ModelEntry] = Field(default={})
    """More models, for a config file of your own

    More models, in the form of config/models.yaml."""

    models: Annotated[tuple[ModelName, ...], Items(distinct=True)] | None = None
    """Several, [a, b], in place of model; `snakemake compare` draws them side by side

    Several models in one run, in place of model. null takes model."""

    run: RunName | None = None
    """A name for this variant of the options, which goes to results/{model}@{run}

    A name for this variant of the options: its results go to results/{model}@{run}, beside those
    of other runs. Intermediate results that another run of the model has made in the same way are
    taken from there. null writes to results/{model}."""

    result_folders: Annotated[tuple[PathText, ...], Items(distinct=True)] = ()
    """Folders results/<model> made elsewhere or earlier, to compare with the models

    Folders results/<model> made elsewhere or earlier, to be compared with the run's models. Each
    is named after the folder."""

    bundle: PathText | None = None
    """An archive of `snakemake bundle` to draw the figures from, in place of a model

    An archive of `snakemake bundle`. Figures are then drawn from it, without a model, and only
    what drawing reads (style, palettes, limits) may differ from the archive."""

    inputs: Annotated[tuple[Text, ...], Items(1)] = (
        "The old lighthouse keeper climbed the stairs every evening to light the lamp.",
        "A small team of scientists measured the temperature of the lake last winter.",
        "My neighbour planted three apple trees behind the house when she was young.",
    )
    """The texts of the attention figures, one row of panels each."""


class Config(Reuse, Resources, StoredStates, Runtime, Subject):
    """Every option. Unknown keys are refused at every level."""

    dataset: Dataset = Dataset()
    """The questions of the probe figure: the built-in facts, or questions of your own."""

    datasets: Datasets = Field(default=FURTHER_SETS)
    """Further sets of questions, which only probe_transfer asks; null leaves one out

    Further sets of questions by name, each with the keys of dataset, which only probe_transfer
    asks. null leaves out one that is there by default."""

    prompt: Prompt = Prompt()
    """How the model is asked. Questions that occur in the preamble are left out of the probe."""

    exact_answer: ExactAnswer = ExactAnswer()
    """How the exact answer is located within an answer, without using the gold answer."""

    judge: Judge = Judge()
    """How an exact answer is judged once it is located."""

    resamples: Resamples = Resamples()
    """Sampled answers to every question, for error_kinds and answer_choice."""

    probe: Probe = Probe()
    """The probe. A key left null takes the preset's value: strict | published."""

    figures: Figures = Figures()
    """Options of every figure."""

    claims: Claims = Claims()
    """Published statements about the figures, checked against them: config/claims.yaml."""

    choices: Choices = Choices()
    """Choices that the published attention figures leave open; `snakemake choices` checks every
    combination."""

    style: Style = Style()
    """How every figure is drawn."""

    checkpoints: Checkpoints = Checkpoints()
    """Checkpoints of one training run, or models of growing size, in place of model and models;
    `snakemake over_checkpoints` draws the figures' key numbers over them."""

    paper: Paper = Paper()
    """What `snakemake paper` writes for LaTeX."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """The run's models, in their order."""
        return (self.model,) if self.models is None else self.models

    @property
    def protocol(self) -> Protocol:
        """The probe's protocol with nothing left open."""
        return self.probe.resolve(self.dataset.hold_out is not None)


def read_config(values: Any, where: str = "config") -> Config:
    """The config with its defaults, and with values resolved that stand for others.

    It checks each option by itself; `check_config` checks options against each other and against
    the files that they name.

    Raises:
        UserError: wrong types, values out of range and unknown keys, one line each.
    """
    return _resolve(read_options(Config, values, where))


def check_config(
    config: dict, models_file: Path, results: Path = Path("results")
) -> tuple[dict, dict[str, dict]]:
    """Fill in defaults and check all that is known before a job.

    results: where an earlier run may have left model.json files, which hold the models' shapes.

    Returns the whole config, and the entries of the run's models by the names of their folders,
    in the config's order; both as plain tables with defaults.

    Raises:
        UserError: all problems found, one line each.
    """
    options = _with_checkpoints(read_config(config), models_file)
    entries = _read_entries(options, models_file)
    other = options.figures.module_map.compare_with
    sources = options.plain()["model_sources"]
    run_problem = find_run_problem(options.model_names, options.run, sources, models_file)
    problems = [
        *([run_problem] if run_problem else []),
        *_models_problems(options),
        *case_problems([*add_bases(entries), other, options.judge.model]),
        *_device_problems(options),
        *_figure_problems(options),
        *_probe_problems(options),
        *_export_problems(options),
        *_compare_problems(options),
        *dataset_problems(options.dataset),
        *further_problems(options.datasets),
        *exact_answer_problems(options.exact_answer),
        *judge_problems(options.judge),
    ]
    shapes = {
        name: _find_shape(name, entry, results / name / "model.json")
        for name, entry in entries.items()
    }
    if problems:
        raise UserError("\n".join(problems))
    checked = options.plain()
    for name, entry in find_compared_entry(checked, models_file).items():
        known = _find_shape(name, entry, results / name / "model.json")
        check_same_shape(shapes, name, known)
    for name, shape in shapes.items():
        if shape is None:
            continue
        try:
            # its layers are those of states, which begin with the embeddings
            of_blocks = {
                name: one for name, one in checked["figures"].items() if name != "probe_transfer"
            }
            check_shape(of_blocks, shape)
            check_choices(checked["choices"], shape)
            _check_probed_layers(options, shape)
        except UserError as error:
            raise UserError(f"{error} (model {name})" if len(shapes) > 1 else f"{error}") from None
    return checked, {name_folder(name, options.run): entry for name, entry in entries.items()}


def find_compared_entry(config: dict, models_file: Path) -> dict[str, dict]:
    """The entry of the checkpoint that the module map compares with, by name; {} without one.

    config: as from `check_config`.

    Raises:
        UserError: it is not among the known models, or its entry is wrong.
    """
    name = config["figures"]["module_map"]["compare_with"]
    if name is None:
        return {}
    where = {name: "figures.module_map.compare_with"}
    return find_entries(where, config["model_sources"], models_file)


def find_judge_entry(config: dict, models_file: Path) -> dict[str, dict]:
    """The entry of the model that judges answers, by name; {} without one.

    config: as from `check_config`.

    Raises:
        UserError: it is not among the known models, or its entry is wrong.
    """
    judge = config["judge"]
    if judge["method"] != "model" or judge["model"] is None:
        return {}
    return find_entries({judge["model"]: "judge.model"}, config["model_sources"], models_file)


def check_redraw(written: dict, given: dict, archive: str) -> tuple[dict, list[str]]:
    """The config for drawing from an archive: the archive's own, overlaid with `given`.

    There are no model and no questions to check, and options that scores depend on must not differ.

    written: the archive's config. given: the user's. archive: its path, for messages.

    Returns the whole config and the keys whose values differ from the archive's.

    Raises:
        UserError: all problems found, one line each.
    """
    before = portable(read_config(written, f"{archive}: config.yaml").plain())
    options = read_config(_overlay(before, given))
    config = portable(options.plain()) | {"bundle": None}
    changed = list(list_differences(before, config))
    problems = list(_figure_problems(options))
    free = tuple(drawn_keys(Config))
    refused = [key for key in changed if not f"{key}.".startswith(tuple(f"{k}." for k in free))]
    if refused:
        problems.append(
            f"config: {', '.join(refused)}: {archive} was made with another value; drawn from it, "
            "only style, palette, limits, centre, highlight, mark_best, tick_labels, titles, "
            "masked, the probe figures' metric and the tokens of probe_curves may be changed"
        )
    if problems:
        raise UserError("\n".join(problems))
    return config, changed


def check_claims(config: dict, built_in: Path) -> list[FigureClaim]:
    """All claims of the run, one per figure × claim: of the built-in file and of `claims.files`.

    Raises:
        UserError: all problems of the first file that has any, one line each.
    """
    options = read_options(Claims, config["claims"], "config: claims")
    sources = {"all": ("*",), "none": ()}.get(options.built_in, options.built_in)
    return read_claims(Path(os.path.relpath(built_in)), list(map(at_home, options.files)), sources)


def _overlay(value: Any, over: Any) -> Any:
    """`value` overlaid with `over`, key by key, as Snakemake overlays config files."""
    if not isinstance(value, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    joined = {key: _overlay(value[key], over[key]) for key in value.keys() & over.keys()}
    return {**value, **over, **joined}


def _resolve(config: Config) -> Config:
    """Resolve the source of the questions, the probe's tokens, stop strings and paths."""
    auc, curves = config.figures.probe_auc, config.figures.probe_curves
    if auc.tokens is None:
        auc = auc.changed(tokens=tuple(TOKENS[config.probe.preset]))
    if curves.tokens is None:
        key = tuple(token for token in KEY_TOKENS if token in auc.tokens)
        curves = curves.changed(tokens=key or auc.tokens[: len(KEY_TOKENS)])
    return config.changed(
        result_folders=tuple(map(folder_path, config.result_folders)),
        dataset=config.dataset.resolved(),
        datasets={name: one and one.resolved() for name, one in config.datasets.items()},
        prompt=config.prompt.changed(stop=config.prompt.stop_strings()),
        figures=config.figures.changed(probe_auc=auc, probe_curves=curves),
    )


def _with_checkpoints(config: Config, models_file: Path) -> Config:
    """The same config with the checkpoints as its models."""
    sources = config.plain()["model_sources"]
    made = find_checkpoints(config.checkpoints, sources, models_file)
    if not made:
        return config
    names = tuple(made)
    if config.models not in (None, names):
        raise UserError("config: models and checkpoints are both given; leave out one")
    own = {name: entry for name, entry in made.items() if entry is not None}
    return config.changed(models=names, model_sources={**config.model_sources, **own})


def _read_entries(config: Config, models_file: Path) -> dict[str, dict]:
    """The entry of every model of the run, by name."""
    several, names = config.models is not None, config.model_names
    keys = {name: f"models[{place}]" if several else "model" for place, name in enumerate(names, 1)}
    return find_entries(keys, config.plain()["model_sources"], models_file)


def _models_problems(config: Config) -> Iterator[str]:
    if config.models == () and not config.result_folders:
        yield "config: models: []; name at least one, or null to take model"
    further = {f"datasets.{name}": one for name, one in config.datasets.items() if one}
    for key, dataset in {"dataset": config.dataset, **further}.items():
        if len(config.model_names) > 1 and dataset.response is not None:
            yield (
                f"config: {key}.response: {dataset.response!r} holds one model's answers; run the "
                "models one at a time, each with its own"
            )
    files = {kind.source.scores for kind in KINDS.values()}
    names = [name_folder(name, config.run) for name in config.model_names]
    yield from folder_problems(config.result_folders, names, sorted(files))


def _compare_problems(config: Config) -> Iterator[str]:
    options = config.figures.module_map
    other = options.compare_with
    updates = of_measure(options.metrics, "updates")
    if updates and other is None:
        yield (
            f"config: figures.module_map.metric: {updates[0]} compares two checkpoints; name the "
            "earlier one, a key of config/models.yaml or model_sources, in "
            "figures.module_map.compare_with"
        )
    if other is not None and config.model_names == (other,):
        yield (
            f"config: figures.module_map.compare_with: {other!r} is the model itself; name the "
            "checkpoint that it was trained from"
        )


def _device_problems(config: Config) -> Iterator[str]:
    if config.device_map is not None and config.device not in ("auto", "cuda"):
        yield (
            f"config: device_map: {config.device_map} spreads the model over all GPUs, but "
            f"device is {config.device}; set device to auto, or device_map to null"
        )


def _find_shape(name: str, entry: dict, model_info: Path) -> dict | None:
    """The model's shape if it can be read without a download; checks a local folder."""
    if entry["source"] == "finetune":
        base = model_info.parent.parent / entry["base"] / "model.json"
        own = _read_model_info(entry, model_info)
        return own or _find_shape(entry["base"], entry["base_entry"], base)
    if entry["source"] != "path":
        # a model that is neither prepared nor has a shape is checked by the first job that loads it
        return _read_model_info(entry, model_info) or entry.get("shape")
    where = f"config: model {name}: path: {entry['path']}"
    if (gguf := find_gguf({**entry, "path": at_home(entry["path"])})) is not None:
        check_gguf(gguf, where)
        known = _read_model_info(entry, model_info) or entry.get("shape")
        return known or sizes_of(check_gguf_header(gguf, where))
    folder = Path(at_home(entry["path"]))
    check_folder(folder, where)
    return shape_of(text_part(read_json_object(folder / "config.json", where)))


def _read_model_info(entry: dict, model_info: Path) -> dict | None:
    """The content of model.json, if an earlier run made it from this entry."""
    try:
        known = json.loads(model_info.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if known.get("entry") == drop_shape(entry) else None


def _figure_problems(config: Config) -> Iterator[str]:
    count = len(config.inputs)
    for name in ATTENTION_FIGURES:
        options = getattr(config.figures, name)
        # the choices scale the input of scale_qkv, whatever its own operation
        used = options.operation == "scale" or name == "scale_qkv"
        if used and options.input > count:
            yield f"config: figures.{name}.input: {options.input}; there are {count} inputs"
    probe = config.figures.probe_auc
    # The default rectangle is drawn around what of it is shown.
    if probe.highlight and not probe.highlight.is_default():
        missing = [token for token in probe.highlight.tokens if token not in probe.tokens]
        if missing:
            yield (
                f"config: figures.probe_auc.highlight.tokens: {missing[0]!r} is not among the "
                f"figure's tokens: {', '.join(probe.tokens)}"
            )
    yield from (f"config: {problem}" for problem in config.figures.module_map.problems())
    for token in config.figures.probe_curves.tokens:
        if token not in probe.tokens:
            yield (
                f"config: figures.probe_curves.tokens: {token!r} is not among the tokens of "
                f"probe_auc: {', '.join(probe.tokens)}"
            )


def _probe_problems(config: Config) -> Iterator[str]:
    yield from (f"config: {problem}" for problem in config.probe.problems())
    dataset = config.dataset
    groups = dataset.source == "facts" or dataset.group is not None
    split = config.protocol.split
    if split in BY_GROUP and not groups:
        yield (
            f"config: probe.split: {split}: the questions have no groups; name their column in "
            "dataset.group, or take another split"
        )


def _export_problems(config: Config) -> Iterator[str]:
    cells, tokens = config.probe.export.cells, config.figures.probe_auc.tokens
    for number, cell in enumerate(() if isinstance(cells, str) else cells, start=1):
        if cell.token not in tokens:
            yield (
                f"config: probe.export.cells[{number}].token: {cell.token!r} is not among the "
                f"tokens of probe_auc: {', '.join(tokens)}"
            )


def _check_probed_layers(config: Config, shape: dict) -> None:
    cells = config.probe.export.cells
    layers = {
        f"probe.export.cells[{number}].layer": cell.layer
        for number, cell in enumerate(() if isinstance(cells, str) else cells, start=1)
    }
    layers["figures.probe_transfer.layer"] = config.figures.probe_transfer.layer
    for key, layer in layers.items():
        if isinstance(layer, int) and shape["layers"] is not None and layer > shape["layers"]:
            raise UserError(
                f"config: {key}: {layer} is outside the model, whose probes are of layers 0 "
                f"(embeddings) to {shape['layers']}"
            )
