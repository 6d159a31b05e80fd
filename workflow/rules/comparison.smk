# The run's models and the result folders side by side. The models' files are made; the folders' are
# taken as they lie there, and one that is missing leaves its model out.


def compared_maps():
    """{name of a comparison: metric} of the metrics that at least two models have."""
    asked = [module_metrics(model) for model in MODELS]
    if len(asked) < 2:  # beside folders, or folders alone
        return module_maps(shown_metrics(config["figures"]["module_map"]["metric"])[:1])
    every = dict.fromkeys(name for metrics in asked for name in metrics)
    return module_maps([name for name in every if sum(name in one for one in asked) > 1])


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


rule compare_claims:
    input:
        tables=lambda wildcards: compared_files(CLAIMS_FILE, "results/_models/claims.md"),
    output:
        claims="results/_models/claims.parquet",
        table="results/_models/claims.md",
    log:
        "results/_models/logs/compare_claims.log",
    benchmark:
        "results/_models/benchmarks/compare_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("compare_claims")
    resources:
        **needs("compare_claims"),
    params:
        *code("compare_claims"),
        names=lambda wildcards: compared_models(CLAIMS_FILE),
        missing=lambda wildcards: compared_missing(CLAIMS_FILE),
    script:
        "../../scripts/compare_claims.py"


rule render_comparison:
    input:
        tables=lambda wildcards: compared_files(
            COMPARED[wildcards.figure], f"results/_models/figures/{wildcards.figure}"
        ),
    output:
        pictures=multiext("results/_models/figures/{figure}", ".pdf", ".svg", ".png"),
        caption="results/_models/figures/{figure}.caption.txt",
    log:
        "results/_models/logs/render_comparison/{figure}.log",
    benchmark:
        "results/_models/benchmarks/render_comparison/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(COMPARED),
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("render_comparison")
    resources:
        **needs("render_comparison"),
    params:
        *code("render_comparison"),
        names=lambda wildcards: compared_models(COMPARED[wildcards.figure]),
        missing=lambda wildcards: compared_missing(COMPARED[wildcards.figure]),
        folders=lambda wildcards: [folder_name(folder) for folder in config["result_folders"]],
        options=lambda wildcards: compared_options(wildcards.figure),
        style=config["style"],
    script:
        "../../scripts/render_comparison.py"


# A fine-tuned model's answers beside those of its base, where the run has both.
rule compare_training:
    input:
        questions="results/{model}/finetuned/questions.parquet",
        before=lambda wildcards: (
            f"results/{PREPARED[wildcards.model]['base']}/forward/answers.parquet"
        ),
        after="results/{model}/forward/answers.parquet",
    output:
        page="results/{model}/finetuned/answers.md",
    log:
        "results/{model}/logs/compare_training.log",
    benchmark:
        "results/{model}/benchmarks/compare_training.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("compare_training")
    resources:
        **needs("compare_training"),
    params:
        *code("compare_training"),
        base=lambda wildcards: PREPARED[wildcards.model]["base"],
    script:
        "../../scripts/compare_training.py"
