# What the rules of comparison.smk take as inputs and params.


def compared_maps():
    """{name of a comparison: metric} of the metrics that at least two models have."""
    asked = [module_metrics(model) for model in MODELS]
    if len(asked) < 2:  # beside folders, or folders alone
        return name_maps(shown_metrics(config["figures"]["module_map"]["metric"])[:1])
    every = dict.fromkeys(name for metrics in asked for name in metrics)
    return name_maps([name for name in every if sum(name in one for one in asked) > 1])


MAPS_COMPARED = compared_maps()
# {figure: the file it is compared by}
COMPARED = {
    figure: source.scores
    for figure, source in FIGURE_TABLE.items()
    if source.compared and figure != "module_map"
} | dict.fromkeys(MAPS_COMPARED, FIGURE_TABLE["module_map"].scores)


def compared_options(figure):
    """The options of a figure that is drawn for several models."""
    options = config["figures"]
    if figure in MAPS_COMPARED:
        return drawing_options(options["module_map"], MAPS_COMPARED[figure])
    return options[figure]


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
        *drawn("module_map"),
        *drawn("probe_auc"),
    ]
