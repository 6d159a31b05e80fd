# What the rules of plotting.smk take as inputs and params, and which figures a run has.

from snakemake_interface_executor_plugins.settings import ExecMode

from llm_figures.modules.metrics import name_maps
from llm_figures.modules.options import ModuleMap
from llm_figures.plotting.look import check_look
from llm_figures.workflow.code_digests import find_drawing_versions
from llm_figures.workflow.config import Config
from llm_figures.workflow.figures import (
    FIGURE_TABLE,
    FURTHER,
    FURTHER_TARGETS,
    find_source,
    list_figures,
)

# Only in the process that a user starts: those of its jobs read the Snakefile as well.
if workflow.exec_mode == ExecMode.DEFAULT:
    with user_errors():
        check_look(Config.model_validate(config))

# Figures may look different when drawn with other versions of the libraries.
LIBRARIES = find_drawing_versions()
MODULE_MAP = ModuleMap.model_validate(config["figures"]["module_map"])
# {figure: function of its options}, where they are not just its own section of the config
DRAWING_OPTIONS = {
    **dict.fromkeys(
        ("probe_auc", "probe_curves", "probe_transfer"),
        lambda figure, model: config["figures"][figure]
        | {"protocol": PROTOCOLS["scores"]["protocol"]},
    ),
    "probe_heads": lambda figure, model: config["figures"][figure] | {"protocol": HEADS_PROTOCOL},
    "probe_presets": lambda figure, model: {
        **{key: config["figures"]["probe_auc"][key] for key in ("metric", "palette", "limits")},
        "protocols": {
            name: entry["protocol"] for name, entry in PROTOCOLS.items() if name != "scores"
        },
    },
    **dict.fromkeys(
        ("error_kinds", "answer_choice"),
        lambda figure, model: config["figures"][figure]
        | {"protocol": PROTOCOLS["scores"]["protocol"], "resamples": config["resamples"]},
    ),
    "choices": lambda figure, model: {"palette": config["choices"]["palette"]},
}


def options_of_figure(wildcards):
    """The options that the drawing of one figure reads."""
    figure, model = wildcards.figure, wildcards.model
    if figure.startswith("module_map"):
        return options_of_map(figure, model)
    own = DRAWING_OPTIONS.get(figure, lambda figure, model: config["figures"][figure])
    return own(figure, model)


def options_of_map(figure, model):
    """The options that the drawing of one module map reads."""
    maps = maps_of_model(model)
    if figure not in maps:
        sys.exit(
            f"{figure}: not among the metrics of config: figures.module_map.metric; there is "
            f"{', '.join(maps)}"
        )
    return MODULE_MAP.of_metric(maps[figure]).plain()


def code_of_drawing(wildcards):
    """Digests of the code that draws a figure, without those that all figures share."""
    shared = code("render_figure")
    every = code("render_figure", find_source(wildcards.figure).module)
    return [digest for digest in every if digest not in shared]


def shown_name(wildcards):
    """The model's name in captions; the folder of an archive is named after its file."""
    return BUNDLE.model if BUNDLE else wildcards.model


def module_metrics(model):
    """The metrics of one model's module map, the figure's own first."""
    name = BUNDLE.model if BUNDLE else model_of(model)
    metrics = MODULE_MAP.metrics_of(name)
    if not metrics:
        sys.exit(
            f"config: figures.module_map.metric: every metric compares {name} with itself; add "
            "operation_strength or another metric, or leave the model out"
        )
    return metrics


def maps_of_model(model):
    """{figure: metric} of one model's module maps."""
    return name_maps(module_metrics(model))


def figures_of_model(target, model):
    """The names of the figures that a figure's target draws of one model."""
    if target == "module_map":  # one of each metric
        return list(maps_of_model(model))
    return list(list_figures(target))


def default_figures(model):
    """The names of all figures that the target `figures` draws of one model."""
    return [name for target in FIGURES for name in figures_of_model(target, model)]


def further_figures(model):
    """Figures outside the target `figures` that this run asks for, or whose scores are there.

    Choices are left out where no claim about the attention figures is checked.
    """
    asked = {target for target in workflow.dag_settings.targets if target in FURTHER}
    return [
        name
        for name in FURTHER
        if (name != "choices" or BUNDLE or CHOICE_CLAIMS)
        and (
            {name, FIGURE_TABLE[name].beside} & asked
            or Path("results", model, FIGURE_TABLE[name].scores).is_file()
        )
    ]


def figure_files(figure):
    """The files of one figure, with the model left open."""
    kinds = ["pdf", "svg", "png", "caption.txt", "panels.json", "numbers.json"]
    return [f"results/{{model}}/figures/{figure}.{kind}" for kind in kinds]


def drawn(target):
    """The files of a figure's target, of every model of the run."""
    scores = FIGURE_TABLE[target].scores
    if BUNDLE and scores not in BUNDLE.files:
        return needs_model(target)
    # a probe is not to be trusted before its answers were looked at
    pages = ["results/{model}/forward/answers.md"] if scores.startswith("probe/") else []
    if target == "probe_transfer":
        pages += [f"results/{{model}}/datasets/{name}/forward/answers.md" for name in SETS]
    verdicts = claims_of_further(target)
    return [
        file
        for model in MODELS
        for name in figures_of_model(target, model)
        for file in expand(
            [*figure_files(name), *([] if BUNDLE else pages + verdicts)], model=model
        )
    ]


def claims_of_further(figure):
    """The table and the page of claims about a figure outside the target `figures`, if any."""
    if BUNDLE or figure not in FURTHER_TARGETS or not claims_of(figure):
        return []
    return [f"results/{{model}}/claims/{figure}.{kind}" for kind in ("parquet", "md")]
