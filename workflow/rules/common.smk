# What the other rules share: the checked config, and where things lie.

import os
import re
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from llm_figures.provenance.bundle import FURTHER, read_bundle
from llm_figures.claims.definitions import guarded
from llm_figures.workflow.config import (
    ATTENTION_FIGURES,
    FIGURES,
    check_claims,
    check_config,
    check_redraw,
    compared_entry,
    with_bases,
)
from llm_figures.workflow.code_digests import code_versions, drawing_versions
from llm_figures.core.errors import UserError
from llm_figures.models.gguf import named_gguf
from llm_figures.core.environment import JOB_ENVIRONMENT
from llm_figures.modules.metrics import (
    METRICS,
    drawing_options,
    metrics_of_model,
    module_maps,
    of_measure,
    shown_metrics,
)
from llm_figures.probe.protocol import protocols
from llm_figures.workflow.model_size import find_model_size
from llm_figures.workflow.resources import estimate, request, threads_needed
from llm_figures.workflow.workload import describe_workload
from llm_figures.core.result_folders import CLAIMS as CLAIMS_FILE
from llm_figures.core.result_folders import SCORES, compared, comparison_problem, folder_name
from llm_figures.models.model_info import stated

os.environ.update(JOB_ENVIRONMENT | os.environ)  # jobs inherit it; what the user has set stays

SCHEMAS = Path(workflow.basedir) / "workflow" / "schemas"
try:
    # The archive that figures are drawn from, if they are, and options set otherwise than in it.
    BUNDLE, CHANGED = read_bundle(str(config["bundle"])) if config.get("bundle") else None, []
    if BUNDLE:
        # Its config takes the place of the default one; the command line's is laid over it.
        given = workflow.config_settings.overwrite_config
        checked, CHANGED = check_redraw(BUNDLE.config, given, SCHEMAS, BUNDLE.path)
        MODELS, CLAIMS, GUARDED = {BUNDLE.folder: {"source": "bundle"}}, [], []
        PREPARED = MODELS
    else:
        # the entries of the run's models, by name
        models_file = Path(workflow.basedir) / "config" / "models.yaml"
        checked, MODELS = check_config(config, SCHEMAS, models_file)
        # and of those whose weights theirs are compared with or trained from: nothing else is made
        PREPARED = with_bases({**MODELS, **compared_entry(checked, SCHEMAS, models_file)})
        CLAIMS = check_claims(checked, SCHEMAS, Path(workflow.basedir) / "config" / "claims.yaml")
        GUARDED = guarded(CLAIMS, checked["claims"]["fail_on"])
except UserError as error:
    sys.exit(f"\n{error}\n")
config.clear()
config.update(checked)

# What pictures are drawn with: {library: version}.
LIBRARIES = drawing_versions()
# What every forward pass depends on beside its model; threads are added by the job. The batch size
# is no param: scripts read it from the config, for a smaller one must not lose finished shards.
RUNTIME = {key: config[key] for key in ("device", "dtype", "device_map")}
ALTERED_EVERYWHERE = [
    figure for figure in ATTENTION_FIGURES if config["figures"][figure]["scope"] == "model"
]
# What the model is asked; the texts of another style are not.
UNUSED_TEXTS = {
    "few_shot": {"system", "user"},
    "completion": {"preamble", "system", "user"},
    "chat": {"preamble", "template"},
}
UNUSED_SAMPLING = set() if config["prompt"]["temperature"] else {"top_p", "seed"}
PROMPT = {
    key: value
    for key, value in config["prompt"].items()
    if key not in UNUSED_TEXTS[config["prompt"]["style"]] | UNUSED_SAMPLING
}
# The probe as configured, and the presets as they are, by the name of their file of scores.
PROTOCOLS = protocols(config)
# Cores of a node, where the run has none of its own, as on a cluster.
PLANNED_CORES = 64
# What facts are taught by: how a question is asked, and where its answer stops.
TAUGHT_PROMPT = {
    key: PROMPT[key]
    for key in ("style", "preamble", "template", "system", "user", "stop")
    if key in PROMPT
}
# What jobs will need follows from it; filled when the first job asks.
ESTIMATED = {}
# Options that only the drawing reads; a change of them must not run a score again.
DRAWING_OPTIONS = {"palette", "limits", "highlight", "tick_labels"}
# What the metrics of the module map are made from, by measure (see module_metrics.py).
MEASURED = {
    "activity": "results/{model}/forward/module_activity.parquet",
    "ablation": "results/{model}/forward/module_ablation.parquet",
    "probe": "results/{model}/modules/metrics/probe.parquet",
    "updates": "results/{model}/modules/metrics/updates.parquet",
    "quantization": "results/{model}/modules/metrics/quantization.parquet",
}
# What the choices are made of: combinations of them, and the options they share with the figures.
CHOICES = {key: value for key, value in config["choices"].items() if key != "palette"}
# What the module map's passes go over, and the key that says so. As in all params, texts of the
# user's are given by functions: Snakemake would take braces in a text itself for wildcards.
MAP_TEXTS = {
    "texts": lambda wildcards: config["figures"]["module_map"]["texts"] or config["inputs"],
    "key": "figures.module_map.texts" if config["figures"]["module_map"]["texts"] else "inputs",
}
CHOICE_FIGURES = {
    figure: {key: config["figures"][figure][key] for key in ("components", "epsilon", "input")}
    for figure in ("mean_qkv", "scale_qkv")
}


wildcard_constraints:
    # the run's models alone: another's files are not made from their weights; (?!) matches nothing
    model="|".join(map(re.escape, MODELS)) or "(?!)",
    figure="|".join(FIGURES),
    shard=r"\d+",
    shards=r"\d+",
    part=r"\d+",
    parts=r"\d+",
    site="residual|attention|mlp",
    protocol="|".join(PROTOCOLS),


def code(script):
    """Digests of the script and of what it imports, as params of its rule.

    Snakemake compares each by itself, and its reason for a job names the file that changed.
    """
    return code_versions(Path(workflow.basedir) / "scripts" / f"{script}.py")


def shown_name(wildcards):
    """What captions call the model; the folder of an archive's is named after its file."""
    return BUNDLE.model if BUNDLE else wildcards.model


def needs_model(what):
    """A target's input where the archive that figures are drawn from does not hold `what`."""

    def stop(wildcards):
        sys.exit(f"{what} is not in {BUNDLE.path} and needs the model; run it without bundle")

    return stop


def sizes(wildcards):
    """The model's size and what the run asks of it, looked up once."""
    name = wildcards.get("model", next(iter(MODELS), None))
    if "work" not in ESTIMATED:
        ESTIMATED["work"] = describe_workload(config, PROTOCOLS)
    if name not in ESTIMATED:
        ESTIMATED[name] = find_model_size(name, PREPARED.get(name, {"source": "path", "path": ""}))
    return ESTIMATED[name], ESTIMATED["work"]


def cores(rule):
    """The threads of a rule, as a function of its job."""
    return lambda wildcards: threads_needed(rule, sizes(wildcards)[0])


def needs(rule):
    """The resources of a rule, as functions of its job, the model's size and the attempt.

    Nothing runs again because of them; a local run is bounded by its cores alone.
    """

    def function_of(resource):
        def asked(wildcards, attempt, threads):
            protocol = wildcards.get("protocol", "scores")
            need = estimate(rule, *sizes(wildcards), threads, protocol)
            return request(need, attempt)[resource]

        return asked

    return {resource: function_of(resource) for resource in ("mem_mb", "disk_mb", "runtime", "gpu")}


def this_run(wildcards):
    """This run's Snakefile, config and settings, for a dry run with the same."""
    return {
        "snakefile": workflow.main_snakefile,
        "config": workflow.config_settings,
        "dag": workflow.dag_settings,
        "cores": workflow.resource_settings.cores or PLANNED_CORES,
    }


def some_model(wildcards):
    """No file; ends a run that asks for models' files without having a model."""
    if not MODELS:
        sys.exit("config: models: []: no model to work on; only compare takes folders alone")
    return []


def picture(figure):
    """The files of one figure of every model of the run; of the module map one of each metric."""
    if BUNDLE and figure in FURTHER and figure not in BUNDLE.further:
        return needs_model(figure)
    return [
        file
        for model in MODELS
        for name in (maps_of_model(model) if figure == "module_map" else [figure])
        for file in expand(
            "results/{model}/figures/{name}.{format}",
            model=model,
            name=name,
            format=["pdf", "svg", "png"],
        )
    ]


def module_metrics(model):
    """The metrics of one model's module map, the figure's own first."""
    name = BUNDLE.model if BUNDLE else model
    metrics = metrics_of_model(config["figures"]["module_map"], name)
    if not metrics:
        sys.exit(
            f"config: figures.module_map.metric: all of it compares with {name} itself; add "
            "operation_strength or another metric, or leave the model out"
        )
    return metrics


def maps_of_model(model):
    """{name of its files: metric} of one model's module maps."""
    return module_maps(module_metrics(model))


def map_options(wildcards):
    """What the drawing of one module map reads."""
    maps = maps_of_model(wildcards.model)
    if wildcards.map not in maps:
        asked = ", ".join(maps)
        sys.exit(
            f"{wildcards.map}: config: figures.module_map.metric does not ask for it; there is "
            f"{asked}"
        )
    return drawing_options(config["figures"]["module_map"], maps[wildcards.map])


def measured_modules(wildcards):
    """{measure: its file} that the metrics of a model are made from."""
    measures = dict.fromkeys(METRICS[name].measure for name in module_metrics(wildcards.model))
    return {measure: MEASURED[measure] for measure in measures}


def measured_on_texts(wildcards):
    """What the module map's first metric is made from, where that is measured text by text."""
    measure = METRICS[module_metrics(wildcards.model)[0]].measure
    return {"measured": MEASURED[measure]} if measure in ("activity", "ablation") else {}


def compared_maps():
    """{name of a comparison: metric} of the metrics that at least two models have."""
    asked = [module_metrics(model) for model in MODELS]
    if len(asked) < 2:  # beside folders, or folders alone
        return module_maps(shown_metrics(config["figures"]["module_map"]["metric"])[:1])
    every = dict.fromkeys(name for metrics in asked for name in metrics)
    return module_maps([name for name in every if sum(name in one for one in asked) > 1])


def compared_options(figure):
    """The options of a figure that is drawn for several models."""
    options = config["figures"]
    if figure in MAPS_COMPARED:
        return drawing_options(options["module_map"], MAPS_COMPARED[figure])
    return options[figure]


def of_models(*files):
    """Files of every model of the run, relative to its folder."""
    if BUNDLE and (lacking := {*files} - {*BUNDLE.others, "redraw.json"}):
        return needs_model(" and ".join(sorted(lacking)))
    return expand("results/{model}/{file}", model=MODELS, file=files)


def shard_files(folder):
    """All shards of a stage of the forward pass, with the model left open."""
    shards = config["shards"]
    return expand(
        f"results/{{{{model}}}}/forward/{folder}/{{shard}}-of-{{shards}}.parquet",
        shard=range(shards),
        shards=shards,
    )


def states_of_protocol(wildcards):
    """All shards of the hidden states that a protocol probes."""
    site = PROTOCOLS[wildcards.protocol]["protocol"]["site"]
    return expand(shard_files(f"hidden_states/{site}"), model=wildcards.model)


def predictions_of(protocol):
    """All parts of a protocol's predictions, with the model left open."""
    parts = config["probe"]["jobs"]
    return expand(
        f"results/{{{{model}}}}/probe/predictions/{protocol}/{{part}}-of-{{parts}}.parquet",
        part=range(parts),
        parts=parts,
    )


def scores_of_preset(preset):
    """A preset's scores; the configured ones where they are the same."""
    name = next(name for name in PROTOCOLS if PROTOCOLS[name] == PROTOCOLS[preset])
    return f"results/{{model}}/probe/{name}.parquet"


def question_files():
    """The user's own files of questions; nothing for the built-in ones and the hub's."""
    files = [config["dataset"]["path"], config["dataset"]["hold_out"]]
    return [file for file in files if file and config["dataset"]["source"] == "path"]


def score_options(figure):
    """The options of a figure that its scores depend on."""
    options = config["figures"][figure]
    unused = {"mean": {"epsilon", "input"}, "scale": {"over"}}.get(options.get("operation"), set())
    return {
        key: value
        for key, value in sorted(options.items())
        if key not in DRAWING_OPTIONS and key not in unused
    }


def claims_of(figure):
    """The claims about one figure."""
    return [claim for claim in CLAIMS if claim["figure"] == figure]


def local_weights(wildcards):
    """A local folder's files, so that new weights in it are noticed; nothing for a download."""
    entry = PREPARED[wildcards.model]
    if entry["source"] == "finetune":
        return expand(list(rules.finetune_model.output), model=wildcards.model)
    if entry["source"] != "path":
        return []
    if (gguf := named_gguf(entry)) is not None:
        return [str(gguf)]
    folder = Path(entry["path"]).expanduser()
    kinds = ["*.json", "*.safetensors", "*.bin", "*.model", "*.jinja"]
    return sorted(str(file) for kind in kinds for file in folder.glob(kind))


def training_options(wildcards):
    """What a fine-tuned model is made by, without its base, which is an input."""
    entry = PREPARED[wildcards.model]
    keys = ("groups", "share", "steps", "batch_size", "learning_rate", "train", "seed")
    return {key: entry[key] for key in keys}


def compared_card(wildcards):
    """The card of the checkpoint that the model's weights are compared with."""
    other = config["figures"]["module_map"]["compare_with"]
    if other in (None, wildcards.model):
        is_it = "is null" if other is None else f"is {other!r}, the model itself"
        sys.exit(f"config: figures.module_map.compare_with {is_it}; name an earlier checkpoint")
    return f"results/{other}/model.json"


def earlier_card(wildcards):
    """That card for the manifest, where a metric of the model's module map compares with it."""
    asked = of_measure(module_metrics(wildcards.model), "updates")
    return {"earlier": compared_card(wildcards)} if asked else {}


def weight_metrics(measure):
    """The metrics of a file of scores of weights; where none is asked, those that need no more."""
    default = {
        "updates": of_measure(METRICS, "updates"),
        "quantization": ["quantization_error"],
    }
    asked = shown_metrics(config["figures"]["module_map"]["metric"])
    return of_measure(asked, measure) or default[measure]


def training_shown(wildcards):
    """Before and after a fine-tuning, side by side, for every model of the run that had one."""
    trained = [name for name in MODELS if PREPARED[name].get("base") in MODELS]
    if not trained:
        sys.exit(
            "finetune_demo: no model of the run is fine-tuned of another one of it; add: "
            "--configfile config/finetune-demo.yaml"
        )
    beside = [*(name for name in MAPS_COMPARED if name == "module_map"), "probe_auc"]
    return [
        *expand("results/{model}/finetuned/answers.md", model=trained),
        *expand("results/_models/figures/{figure}.pdf", figure=beside),
        *picture("module_map"),
        *picture("probe_auc"),
    ]


def altered_states(wildcards):
    """Further states that a figure's cells need."""
    if wildcards.figure in ALTERED_EVERYWHERE:
        return {"altered": "results/{model}/forward/altered_states/{figure}.parquet"}
    return {}


def choice_states(wildcards):
    """Further states that the choices need."""
    if "model" in CHOICES["scope"]:
        return {"altered": "results/{model}/forward/altered_states/choices.parquet"}
    return {}


def files_of_figure(figure):
    """The files of one figure, with the model left open; the curves have no panels of cells."""
    kinds = ["pdf", "svg", "png", "caption.txt"]
    if figure not in ("probe_curves", "choices"):  # these have no heatmap to point at
        kinds.append("panels.json")
    return [f"results/{{model}}/figures/{figure}.{kind}" for kind in kinds]


def files_of_stage(name, wildcards):
    """The files of one entry of STAGES, with the model left open."""
    files = STAGES[name]
    return files(wildcards.model) if callable(files) else files


def stages_of_run(wildcards):
    """{rule: its files, relative to the model's folder}, as the config asks for them."""
    start = "results/{model}/"
    return {
        name: [file.removeprefix(start) for file in files_of_stage(name, wildcards)]
        for name in STAGES
    }


def last_files(wildcards):
    """What the manifest waits for."""
    return [file for name in LAST for file in files_of_stage(name, wildcards)]


def files_of_measure(*measures):
    """The files of what the module map is made from, as an entry of STAGES."""
    return lambda model: [
        MEASURED[measure]
        for measure in measures
        if any(METRICS[name].measure == measure for name in module_metrics(model))
    ]


def compared_files(file, target):
    """A file of every model that is compared, for an output that needs two of them."""
    found, missing = compared(list(MODELS), config["result_folders"], file)
    if problem := comparison_problem(found, missing, target):
        sys.exit(problem)
    return list(found.values())


def compared_models(file):
    """The names of the models that have a file, in the order of their files."""
    return list(compared(list(MODELS), config["result_folders"], file)[0])


def compared_missing(file):
    """The files that folders lack."""
    return compared(list(MODELS), config["result_folders"], file)[1]


def comparisons(wildcards):
    """The comparisons for which there are two models; a line for each of the others."""
    files = {f"results/_models/{CLAIMS_FILE}": CLAIMS_FILE} | {
        f"results/_models/figures/{figure}.pdf": file for figure, file in COMPARED.items()
    }
    made, problems, found_in, lacking = [], [], {}, []
    for target, file in files.items():
        found, missing = compared(list(MODELS), config["result_folders"], file)
        if problem := comparison_problem(found, missing, target):
            problems.append(problem)
            found_in |= found
            lacking += missing
        else:
            made.append(target)
    if not made:
        some = list(found_in)
        if len(some) > 1:  # each has something, but nothing is in two of them
            sys.exit(f"compare: no file is there of two models: {', '.join(lacking)} missing")
        sys.exit(comparison_problem(some, lacking, "compare"))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return made


def template(*files):
    """Files that the report is made from, relative to the working directory."""
    folder = Path(workflow.basedir) / "workflow" / "report"
    return [os.path.relpath(folder / file) for file in files]


def figures_of_model(model):
    """The names of all figures of one model that `figures` makes."""
    others = [figure for figure in FIGURES if figure != "module_map"]
    return [*others, "probe_curves", *maps_of_model(model)]


def report_figures(wildcards):
    """All files of the figures that the report shows."""
    names = figures_of_model(wildcards.model)
    return [file for figure in names for file in files_of_figure(figure)]


def report_options(wildcards):
    """What the report reads of the figures' options: their titles' words, the probe's best cell."""
    read = {figure: ("operation", "over", "components") for figure in ATTENTION_FIGURES}
    read["probe_auc"] = ("metric", "tokens")
    return {
        figure: {key: config["figures"][figure][key] for key in keys}
        for figure, keys in read.items()
    } | {"module_map": {"metric": module_metrics(wildcards.model)[0]}}


def files_of_choices(wildcards):
    """The comparison of choices, table and picture."""
    kinds = ["pdf", "svg", "png", "caption.txt"]
    return {
        "choices": "results/{model}/choices.parquet",
        "choice_figures": [f"results/{{model}}/figures/choices.{kind}" for kind in kinds],
    }


def archives():
    """The archive of every model of the run."""
    if BUNDLE:
        return needs_model("another archive")
    return expand("results/{model}/{model}.bundle.zip", model=MODELS)


def bundled_files(wildcards):
    """What goes into a model's archive: the tidy scores, figures, claims, and further ones there.

    A further figure is taken if its scores were ever made, and is brought up to date.
    """
    start = f"results/{wildcards.model}/"
    figures = figures_of_model(wildcards.model)
    files = [*SCORES.values(), CLAIMS_FILE, "claims.md"]
    for figure, scores in FURTHER.items():
        if Path(start, scores).is_file():
            figures.append(figure)
            files.append(scores)
    if "choices" in figures:
        files.append("choices.md")
    drawn = [file.format(model=wildcards.model) for f in figures for file in files_of_figure(f)]
    return [*(start + file for file in files), *drawn]
