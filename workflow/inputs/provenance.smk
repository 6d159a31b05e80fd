# What the rules of provenance.smk take as inputs and params.

from llm_figures.workflow.rule_graph import stages_behind

# Of this workflow alone, also where it is imported as a module beside other rules.
OWN_RULES = workflow.modifier.rules


def stages_of_run(wildcards):
    """{rule: the files of one model that it makes for the manifest, below the model's folder}."""
    last = expand(last_files(wildcards), model=wildcards.model)
    stages = stages_behind(last, OWN_RULES, Path("results", wildcards.model))
    # the model's own file names a folder of this machine
    return stages | {"prepare_model": []}


def last_files(wildcards):
    """What the manifest waits for: figures and claims.

    It does not wait for what lies before them, so that hidden states may be deleted and a figure
    still be drawn anew.
    """
    figures = [file for name in default_figures(wildcards.model) for file in figure_files(name)]
    return [*figures, "results/{model}/claims.parquet", "results/{model}/claims.md"]


def earlier_model_info(wildcards):
    """That of the checkpoint which the module map compares with, where one of its metrics does."""
    asked = of_measure(module_metrics(wildcards.model), "updates")
    return {"earlier": compared_model_info(wildcards)} if asked else {}


def template(*files):
    """Files that the report is made from, relative to the working directory."""
    return [os.path.relpath(HOME / "workflow" / "report" / file) for file in files]


def report_figures(wildcards):
    """All files of the figures that the report shows."""
    names = [*default_figures(wildcards.model), "choices"]
    return [file for figure in names for file in figure_files(figure)]


def report_options(wildcards):
    """What the report reads of the figures' options: their titles' words, the probe's best cell."""
    read = {figure: ("operation", "over", "components") for figure in ATTENTION_FIGURES}
    read["probe_auc"] = ("metric", "tokens")
    return {
        figure: {key: config["figures"][figure][key] for key in keys}
        for figure, keys in read.items()
    } | {"module_map": {"metric": module_metrics(wildcards.model)[0]}}


def archives(wildcards):
    """The archive of every model of the run."""
    return expand("results/{model}/{model}.bundle.zip", model=MODELS)


def bundled_files(wildcards):
    """What goes into a model's archive: the tidy scores, figures, claims, and further ones there.

    A further figure is taken if its scores were ever made, and is brought up to date.
    """
    start = f"results/{wildcards.model}/"
    further = [name for name in FURTHER if Path(start, FIGURE_TABLE[name].scores).is_file()]
    files = [*scores_of_figures((*FIGURES, *further)).values(), CLAIMS_FILE, "claims.md"]
    if "choices" in further:
        files.append("choices.md")
    figures = [*default_figures(wildcards.model), *further]
    drawn = [file for figure in figures for file in figure_files(figure)]
    return [*(start + file for file in files), *expand(drawn, model=wildcards.model)]
