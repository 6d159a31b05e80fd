# What the other rules share: the checked config, and where things lie.

import os
import re
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from llm_figures.config import ATTENTION_FIGURES, FIGURES, check_config
from llm_figures.dependencies import local_imports
from llm_figures.errors import UserError
from llm_figures.protocol import protocols

try:
    checked, MODEL_ENTRY = check_config(
        config,
        Path(workflow.basedir) / "workflow" / "schemas",
        Path(workflow.basedir) / "config" / "models.yaml",
    )
except UserError as error:
    sys.exit(f"\n{error}\n")
config.clear()
config.update(checked)

# What every forward pass depends on beside its model; threads are added by the job.
RUNTIME = {"device": config["device"], "dtype": config["dtype"]}
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
# Options that only the drawing reads; a change of them must not run a score again.
DRAWING_OPTIONS = {"palette", "limits", "highlight"}


wildcard_constraints:
    # one model a run: the entry of models.yaml is this model's
    model=re.escape(config["model"]),
    figure="|".join(FIGURES),
    shard=r"\d+",
    shards=r"\d+",
    part=r"\d+",
    parts=r"\d+",
    site="residual|attention|mlp",
    protocol="|".join(PROTOCOLS),


def code(script):
    """The script and what it imports, relative to the working directory, as inputs of its rule.

    Snakemake compares them by checksum, so an edit runs the rule again and a touch does not.
    """
    path = Path(workflow.basedir) / "scripts" / f"{script}.py"
    return [os.path.relpath(file) for file in local_imports(path)]


def picture(figure):
    """The files of one figure of the configured model."""
    return expand(
        "results/{model}/figures/{figure}.{format}",
        model=config["model"],
        figure=figure,
        format=["pdf", "svg", "png"],
    )


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


def local_weights():
    """A local folder's files, so that new weights in it are noticed; nothing for a download."""
    if MODEL_ENTRY["source"] != "path":
        return []
    folder = Path(MODEL_ENTRY["path"]).expanduser()
    kinds = ["*.json", "*.safetensors", "*.bin", "*.model", "*.jinja"]
    return sorted(str(file) for kind in kinds for file in folder.glob(kind))


def altered_states(wildcards):
    """Further states that a figure's cells need."""
    if wildcards.figure in ALTERED_EVERYWHERE:
        return {"altered": "results/{model}/forward/altered_states/{figure}.parquet"}
    return {}


def template(*files):
    """Files that the report is made from, relative to the working directory, as `code`."""
    folder = Path(workflow.basedir) / "workflow" / "report"
    return [os.path.relpath(folder / file) for file in files]


def report_figures():
    """All files of the figures that the report shows; the curves have no heatmap to point at."""
    kinds = ["pdf", "svg", "png", "caption.txt"]
    return [
        f"results/{{model}}/figures/{figure}.{kind}"
        for figure in [*FIGURES, "probe_curves"]
        for kind in [*kinds, *(["panels.json"] if figure != "probe_curves" else [])]
    ]


def report_options():
    """What the report reads of the figures' options: their titles' words, the probe's best cell."""
    read = {figure: ("operation", "over", "components") for figure in ATTENTION_FIGURES}
    read["probe_auc"] = ("metric", "tokens")
    return {
        figure: {key: config["figures"][figure][key] for key in keys}
        for figure, keys in read.items()
    }


def files_of_choices(wildcards):
    """The comparison of choices, where the config asks for it."""
    if not config.get("choices"):
        return {}
    kinds = ["pdf", "svg", "png", "caption.txt"]
    return {
        "choices": "results/{model}/choices.parquet",
        "choice_figures": [f"results/{{model}}/figures/choices.{kind}" for kind in kinds],
    }
