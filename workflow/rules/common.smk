# What all rules share: the checked config, the run's models, digests of the code, resources.

import os
import re
import sys
from pathlib import Path

# The clone, also where this workflow is imported as a module from another folder.
HOME = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
SCRIPTS = HOME / "scripts"
sys.path.insert(0, str(SCRIPTS))

from llm_figures.claims.claims_file import find_guarded
from llm_figures.core.environment import JOB_ENVIRONMENT
from llm_figures.core.errors import UserError
from llm_figures.core.result_folders import CLAIMS as CLAIMS_FILE
from llm_figures.core.result_folders import compared, comparison_problem, folder_name
from llm_figures.models.gguf import find_gguf
from llm_figures.models.model_info import drop_shape
from llm_figures.modules.metrics import (
    METRICS,
    drawing_options,
    metrics_of_model,
    name_maps,
    of_measure,
    shown_metrics,
)
from llm_figures.probe.options import list_protocols
from llm_figures.provenance.bundle import read_bundle
from llm_figures.workflow.code_digests import code_versions, drawing_versions
from llm_figures.workflow.config import (
    ATTENTION_FIGURES,
    check_claims,
    check_config,
    check_redraw,
    compared_entry,
    with_bases,
)
from llm_figures.workflow.figures import (
    FIGURE_TABLE,
    FIGURES,
    FURTHER,
    figures_of_target,
    find_source,
    scores_of_figures,
)
from llm_figures.workflow.model_size import find_model_size
from llm_figures.workflow.resources import estimate, request, threads_needed
from llm_figures.workflow.workload import describe_workload

# Jobs inherit these; what the user has set stays.
os.environ.update(JOB_ENVIRONMENT | os.environ)
# Jobs run this clone's library, whatever else is installed.
SEARCHED = [str(SCRIPTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys(filter(None, SEARCHED))))

MODELS_FILE = HOME / "config" / "models.yaml"
try:
    # The archive that figures are drawn from, if they are, and options set otherwise than in it.
    BUNDLE, CHANGED = None, []
    if config.get("bundle"):
        BUNDLE = read_bundle(str(config["bundle"]), scores_of_figures().values())
        # Its config takes the place of the default one; the command line's is laid over it.
        given = workflow.config_settings.overwrite_config
        checked, CHANGED = check_redraw(BUNDLE.config, given, BUNDLE.path)
        MODELS, CLAIMS, GUARDED = {BUNDLE.folder: {"source": "bundle"}}, [], []
        PREPARED = MODELS
    else:
        # the entries of the run's models, by name
        checked, MODELS = check_config(config, MODELS_FILE)
        # and of those whose weights theirs are compared with or trained from: nothing else is made
        PREPARED = with_bases({**MODELS, **compared_entry(checked, MODELS_FILE)})
        CLAIMS = check_claims(checked, HOME / "config" / "claims.yaml")
        GUARDED = find_guarded(CLAIMS, checked["claims"]["fail_on"])
except UserError as error:
    sys.exit(f"\n{error}\n")
config.clear()
config.update(checked)

# What every forward pass depends on beside its model; threads are added by the job. The batch size
# is no param: scripts read it from the config, for a smaller one must not lose finished shards.
RUNTIME = {key: config[key] for key in ("device", "dtype", "device_map")}
# The probe as configured, and the presets as they are, by the name of their file of scores.
PROTOCOLS = list_protocols(config)
# Cores of a node, where the run has none of its own, as on a cluster.
PLANNED_CORES = 64
# What jobs will need follows from it; filled when the first job asks.
ESTIMATED = {}


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


def code(script, *modules):
    """Digests of a script, of library modules that it imports by name, and of all they import.

    They are params of the script's rule. Snakemake compares each by itself, and its reason for a
    job names the file that changed.
    """
    return code_versions(SCRIPTS / f"{script}.py", *modules)


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


def some_model(wildcards):
    """No file; ends a run that asks for models' files without having a model."""
    if not MODELS:
        sys.exit("config: models: []: no model to work on; only compare takes folders alone")
    return []


def needs_model(what):
    """A target's input where the archive that figures are drawn from does not hold `what`."""

    def stop(wildcards):
        sys.exit(f"{what} is not in {BUNDLE.path} and needs the model; run it without bundle")

    return stop


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
    return name_maps(module_metrics(model))


def figures_of_model(target, model):
    """The names of the figures that a figure's target draws of one model."""
    if target == "module_map":  # one of each metric
        return list(maps_of_model(model))
    return list(figures_of_target(target))


def default_figures(model):
    """The names of all figures that `figures` draws of one model."""
    return [name for target in FIGURES for name in figures_of_model(target, model)]


def figure_files(figure):
    """The files of one figure, with the model left open."""
    kinds = ["pdf", "svg", "png", "caption.txt", "panels.json"]
    return [f"results/{{model}}/figures/{figure}.{kind}" for kind in kinds]


def drawn(target):
    """The files that a figure's target asks for, of every model of the run."""
    scores = FIGURE_TABLE[target].scores
    if BUNDLE and scores not in BUNDLE.files:
        return needs_model(target)
    return [
        file
        for model in MODELS
        for name in figures_of_model(target, model)
        for file in expand(figure_files(name)[:3], model=model)
    ]
