# What the rules of comparison.smk take as inputs and params.

from llm_figures.core.result_folders import CLAIMS as CLAIMS_FILE
from llm_figures.core.result_folders import compared, comparison_problem, folder_name
from llm_figures.modules.metrics import name_maps
from llm_figures.comparison.options import Checkpoints
from llm_figures.workflow.checkpoints import list_places, place_folder


def compared_maps():
    """{figure: metric} of the module maps that at least two models have."""
    metrics = [module_metrics(model) for model in MODELS]
    if len(metrics) < 2:  # with folders, or folders alone
        return name_maps(MODULE_MAP.metrics[:1])
    every = dict.fromkeys(name for names in metrics for name in names)
    return name_maps([name for name in every if sum(name in names for names in metrics) > 1])


MAPS_COMPARED = compared_maps()
# {figure: the file of scores by which it is compared}
COMPARED = {
    figure: source.scores
    for figure, source in FIGURE_TABLE.items()
    if source.compared and figure != "module_map"
} | dict.fromkeys(MAPS_COMPARED, FIGURE_TABLE["module_map"].scores)

COMPARISON_KINDS = ["pdf", "svg", "png", "caption.txt"]


def compared_options(figure):
    """The options of a figure that is drawn for several models."""
    if figure in MAPS_COMPARED:
        return MODULE_MAP.of_metric(MAPS_COMPARED[figure]).plain()
    return config["figures"][figure]


def compared_files(file, target):
    """A file of every model that is compared; stops the run if there are fewer than two.

    target: the output, for the message.
    """
    paths, missing = compared(list(MODELS), config["result_folders"], file)
    if problem := comparison_problem(paths, missing, target):
        sys.exit(problem)
    return list(paths.values())


def folder_digests(file):
    """Digests of a file in the result folders, which may be replaced by older ones."""
    paths = compared([], config["result_folders"], file)[0]
    return digest_contents(list(paths.values()))


def comparison_files(figure):
    """The files of one figure of a comparison."""
    return [f"results/_models/figures/{figure}.{kind}" for kind in COMPARISON_KINDS]


def compared_models(file):
    """The names of the models that have a file, in the order of `compared_files`."""
    return list(compared(list(MODELS), config["result_folders"], file)[0])


def compared_missing(file):
    """The paths that are missing in result folders."""
    return compared(list(MODELS), config["result_folders"], file)[1]


def comparisons(wildcards):
    """The comparisons for which there are two models; prints a line for each of the others."""
    claims = [f"results/_models/{CLAIMS_FILE}", "results/_models/claims.md"]
    made = [(claims, CLAIMS_FILE)] if CLAIMS else []
    made += [(comparison_files(figure), file) for figure, file in COMPARED.items()]
    targets, problems, partial, missing = [], [], {}, []
    for files, file in made:
        paths, lacking = compared(list(MODELS), config["result_folders"], file)
        if problem := comparison_problem(paths, lacking, files[0]):
            problems.append(problem)
            partial |= paths
            missing += lacking
        else:
            targets += files
    if not targets:
        if len(partial) > 1:  # each model has some file, but no file is there of two
            sys.exit(f"compare: two models have no file in common: {', '.join(missing)} missing")
        sys.exit(comparison_problem(list(partial), missing, "compare"))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return targets


def training_shown(wildcards):
    """Answers and figures before and after fine-tuning, for every fine-tuned model of the run."""
    trained = [name for name in MODELS if "base" in MODELS[name] and base_of(name) in MODELS]
    if not trained:
        sys.exit(
            "finetune_demo: no model of the run is fine-tuned from another one; add: "
            "--configfile config/finetune-demo.yaml"
        )
    beside = [*(name for name in MAPS_COMPARED if name == "module_map"), "probe_auc"]
    return [
        *expand("results/{model}/finetuned/answers.md", model=trained),
        *(file for figure in beside for file in comparison_files(figure)),
        *drawn("module_map"),
        *drawn("probe_auc"),
    ]


# Figures whose stated numbers are drawn over checkpoints; the module map's come from its scores.
OVER_CHECKPOINTS = [
    name
    for name in ("sink_map", "mean_qkv", "mean_qkv_tokens", "scale_qkv", "probe_auc")
    if name in FIGURE_TABLE
]
CHECKPOINT_FILES = [
    *(f"figures/{figure}.numbers.json" for figure in OVER_CHECKPOINTS),
    "model.json",
    "modules/scores.parquet",
    "forward/answers.parquet",
]
CHECKPOINTS = Checkpoints.model_validate(config["checkpoints"])


def checkpoint_folders(wildcards):
    """{model, label, x, folder} of every checkpoint: the run's, then the result folders."""
    with user_errors():
        places = [
            place._asdict() | {"model": model, "folder": f"results/{model}"}
            for model, place in zip(MODELS, list_places(CHECKPOINTS))
        ]
        for folder in config["result_folders"]:
            places.append(place_folder(CHECKPOINTS, folder)._asdict() | {"folder": folder})
    return places


def checkpoint_files(folders):
    """What the curves are drawn from, of checkpoints with results in these folders."""
    files = [folder / name for folder in folders for name in CHECKPOINT_FILES]
    return [str(file) for file in files if file.is_file()]


def checkpoint_inputs(wildcards):
    """What the curves are drawn from: files of the run's models are made."""
    if not list_places(CHECKPOINTS):
        sys.exit("over_checkpoints: there are no checkpoints; name them in config: checkpoints")
    checkpoint_folders(wildcards)  # refuses a folder without a place before any job
    made = [f"results/{model}/{name}" for model in MODELS for name in CHECKPOINT_FILES]
    return [*made, *checkpoint_files(map(Path, config["result_folders"]))]


def checkpoint_curves(wildcards):
    """The files of the figure over checkpoints, and the page of answers of each."""
    kinds = [*COMPARISON_KINDS, "panels.json", "numbers.json"]
    curves = [f"results/_models/figures/over_checkpoints.{kind}" for kind in kinds]
    return curves + of_models("forward/answers.md")
