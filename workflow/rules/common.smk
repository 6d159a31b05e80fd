# What all rules share: the checked config, the run's models, digests of the code, and resources.

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from shutil import which

# The clone, also where this workflow is imported as a module from another folder.
HOME = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
SCRIPTS = HOME / "scripts"
sys.path.insert(0, str(SCRIPTS))

from llm_figures.core.content_digests import digest_contents
from llm_figures.core.environment import JOB_ENVIRONMENT
from llm_figures.core.errors import UserError
from llm_figures.core.processes import announce_head
from llm_figures.core.result_folders import name_folder, name_model
from llm_figures.probe.options import list_protocols
from llm_figures.provenance.bundle import read_bundle
from llm_figures.questions.options import find_part
from llm_figures.workflow.code_digests import digest_code
from llm_figures.workflow.config import (
    add_bases,
    check_config,
    check_redraw,
    find_compared_entry,
    find_judge_entry,
)
from llm_figures.workflow.figures import FIGURES, FURTHER_TARGETS, list_scores
from llm_figures.workflow.model_size import find_model_size
from llm_figures.workflow.resources import estimate, request, run_side_by_side, threads_needed
from llm_figures.workflow.workload import describe_workload

# Jobs inherit these; what the user has set stays.
os.environ.update(JOB_ENVIRONMENT | os.environ)
# Jobs run this clone's library, whatever else is installed.
SEARCHED = [str(SCRIPTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys(filter(None, SEARCHED))))

# Jobs end when this process is killed.
announce_head()

MODELS_FILE = HOME / "config" / "models.yaml"


@contextmanager
def user_errors():
    """Stop with the message alone where a file or an option of the user's is wrong."""
    try:
        yield
    except UserError as error:
        sys.exit(f"\n{error}\n")


with user_errors():
    if config.get("bundle"):
        # Figures are drawn from an archive. Its config replaces the default one; that of the command
        # line is laid over it.
        BUNDLE = read_bundle(str(config["bundle"]), list_scores().values())
        given = workflow.config_settings.overwrite_config
        checked, CHANGED = check_redraw(BUNDLE.config, given, BUNDLE.path)
        MODELS = PREPARED = {BUNDLE.folder: {"source": "bundle"}}
    else:
        BUNDLE = None
        # {model of the run: its entry}, and the same with the models that these are compared with or
        # fine-tuned from, of which only the weights are prepared
        checked, MODELS = check_config(config, MODELS_FILE)
        others = find_compared_entry(checked, MODELS_FILE) | find_judge_entry(checked, MODELS_FILE)
        # fine-tuned once for all runs, in the folder without a run's name
        trained = {
            name_model(folder, checked["run"]): entry
            for folder, entry in MODELS.items()
            if entry["source"] == "finetune"
        }
        PREPARED = add_bases(others | trained | MODELS)
config.clear()
config.update(checked)
# It decides what is made again and changes no file, so the manifest does not depend on it.
STRICT = config.pop("strict_versions")

# What every forward pass depends on besides its model; the job adds its threads. The batch size is
# no param: scripts read it from the config, so that a smaller one keeps finished shards.
RUNTIME = {key: config[key] for key in ("device", "dtype", "device_map")}
# {name of a file of scores: its protocol}, the configured one and all presets.
PROTOCOLS = list_protocols(config)
# {name: options} of the further sets of questions, each in a folder of its own.
SETS = {name: one for name, one in config["datasets"].items() if one is not None}
# {name: value of the wildcard `set`}; both are empty for the run's own questions
PARTS = {name: find_part(name) for name in ("", *SETS)}
# Of single attention heads: the configured protocol at another site.
HEADS_PROTOCOL = PROTOCOLS["scores"]["protocol"] | {"site": "head"}
# Sizes of models and the workload, from which resources follow; filled when the first job asks.
ESTIMATED = {}


wildcard_constraints:
    # only models of the run, from whose weights files are made; (?!) matches nothing
    model="|".join(map(re.escape, MODELS)) or "(?!)",
    figure="|".join([*FIGURES, *FURTHER_TARGETS]),
    shard=r"\d+",
    shards=r"\d+",
    part=r"\d+",
    parts=r"\d+",
    site="residual|attention|mlp|mlp_input|head",
    set=f"(?:{'|'.join(map(re.escape, PARTS.values()))})",
    protocol="|".join(PROTOCOLS),


def folder_of(model):
    """The name of the folder of a model's results in this run, or of its weights alone."""
    folder = name_folder(model, config["run"])
    return folder if folder in MODELS else model


def base_of(folder):
    """The folder of the model that another is fine-tuned from."""
    return folder_of(PREPARED[folder]["base"])


def model_of(folder):
    """The name of the model whose results are in a folder."""
    return name_model(folder, config["run"])


def states(file):
    """A large file of states; `keep_states: false` deletes it once all that reads it is made."""
    return file if config["keep_states"] else temp(file)


def code(script, *modules):
    """Digests of a script, of library modules that it imports by name, and of all their imports.

    They are params of the script's rule. Snakemake compares each by itself and names the file that
    changed as its reason for a job.
    """
    return digest_code(SCRIPTS / f"{script}.py", *modules)


def sizes(rule, wildcards):
    """The size of a job's model and the workload of the run, found once."""
    judging = {"ask_judge": config.get("judge", {}).get("model")}
    name = judging.get(rule) or wildcards.get("model", next(iter(MODELS), ""))
    questions = "work", Path(wildcards.get("set", "")).name
    if questions not in ESTIMATED:
        ESTIMATED[questions] = describe_workload(config, PROTOCOLS, questions[1])
    if name not in ESTIMATED:
        ESTIMATED[name] = find_model_size(name, PREPARED.get(name, {"source": "path", "path": ""}))
    return ESTIMATED[name], ESTIMATED[questions]


def cores(rule):
    """The threads of a rule, as a function of its job.

    On one machine without a GPU, jobs with a small model that can run side by side have half of the
    cores each: together they take four fifths of the time that they take in turn.
    """
    on_cpu = config["device"] == "cpu" or (config["device"] == "auto" and not which("nvidia-smi"))

    def threads(wildcards):
        size = sizes(rule, wildcards)[0]
        count = threads_needed(rule, size)
        here = on_cpu and workflow.local_exec and not workflow.remote_exec
        if here and run_side_by_side(rule, size):
            return max(1, min(count, workflow.cores // 2))
        return count

    return threads


def needs(rule):
    """The resources of a rule, as functions of its job, the model's size and the attempt.

    A change of them runs no job again; a local run is limited by its cores only.
    """

    def function_of(resource):
        def amount(wildcards, attempt, threads):
            protocol = wildcards.get("protocol", "scores")
            need = estimate(rule, *sizes(rule, wildcards), threads, protocol)
            return request(need, attempt)[resource]

        return amount

    return {resource: function_of(resource) for resource in ("mem_mb", "disk_mb", "runtime", "gpu")}


def some_model(wildcards):
    """No file; stops a run that needs a model and has none."""
    if not MODELS:
        sys.exit("config: models: []: no model to work on; only compare works with folders alone")
    return []


def needs_model(what):
    """The input of a target for which the archive lacks `what`; stops the run."""

    def stop(wildcards):
        sys.exit(f"{BUNDLE.path} is not enough for {what}: run without bundle, with the model")

    return stop


def of_models(*files):
    """Files of every model of the run, relative to its folder."""
    if BUNDLE and (missing := {*files} - {*BUNDLE.others, "redraw.json"}):
        return needs_model(", ".join(sorted(missing)))
    return expand("results/{model}/{file}", model=MODELS, file=files)
