# What the rules of provenance.smk take as inputs and params.

import shlex

from snakemake.iocontainers import Wildcards

from llm_figures.workflow.figures import list_figures, list_scores
from llm_figures.workflow.rule_graph import find_lost_files, find_passing_files, find_stages

# Rules of this workflow only, also where it is imported as a module beside others.
OWN_RULES = workflow.modifier.rules
# Files of the report's page.
TEMPLATE = ["report.html.j2", "report.css", "report.js"]


def stages_of_run(wildcards):
    """{rule: the files of one model that it makes for the manifest, relative to its folder}."""
    last = files_of_run(wildcards.model)
    stages = find_stages(last, OWN_RULES, Path("results", wildcards.model))
    # model.json holds a path of this machine
    return stages | {"prepare_model": []}


def passing_files(wildcards):
    """Files of one model, relative to its folder, that `keep_states: false` deletes.

    Those of this run, and of the choices, which are made from the same states.
    """
    folder = Path("results", wildcards.model)
    choices = [f"{folder}/choices.parquet"] if CHOICE_CLAIMS else []
    last = [*files_of_run(wildcards.model), *choices]
    files = map(Path, find_passing_files(last, OWN_RULES))
    return sorted({file.relative_to(folder).as_posix() for file in files if folder in file.parents})


def files_of_run(model):
    """The last files of one model, with which its run is complete."""
    return expand(last_files(Wildcards(fromdict={"model": model})), model=model)


def last_files(wildcards):
    """The files that the manifest waits for: figures, claims, and the page of answers.

    It does not wait for their intermediate files, so that hidden states may be deleted and a figure
    can still be drawn again.
    """
    figures = [file for name in default_figures(wildcards.model) for file in figure_files(name)]
    return [
        *figures,
        "results/{model}/claims.parquet",
        "results/{model}/claims.md",
        "results/{model}/forward/answers.md",
    ]


def lost_files(wildcards):
    """Files of the run that are missing although their job left others, which are still there."""
    last = [file for model in MODELS for file in files_of_run(model)]
    return find_lost_files(last, OWN_RULES)


def earlier_model_info(wildcards):
    """model.json of the checkpoint that metrics of the module map compare with, if any does."""
    updates = of_measure(module_metrics(wildcards.model), "updates")
    return {"earlier": compared_model_info(wildcards)} if updates else {}


def make_figures():
    """The command that makes the figures with the config files and values of this run."""
    given = workflow.config_settings
    words = ["snakemake", "figures"]
    if given.configfiles:
        words.append("--configfile")
    for file in given.configfiles:  # as absolute paths
        near = os.path.relpath(file)
        words.append(str(file) if near.startswith("..") else near)
    if given.config_args:
        words += ["--config", *given.config_args]
    return shlex.join(words)


def template(*files):
    """Files of the report's template, relative to the working directory."""
    return [os.path.relpath(HOME / "workflow" / "report" / file) for file in files]


def further_sections(model):
    """Figures outside the target `figures` that have a section in the report."""
    return [
        name
        for name in further_figures(model)
        if name != "choices" and FIGURE_TABLE[name].beside is None
    ]


def report_figures(wildcards):
    """All files of the figures that the report shows."""
    further = [
        name for target in further_sections(wildcards.model) for name in list_figures(target)
    ]
    choices = ["choices"] if CHOICE_CLAIMS else []
    names = [*default_figures(wildcards.model), *further, *choices]
    return [file for figure in names for file in figure_files(figure)]


def report_choices(wildcards):
    """The table of choices; none where no claim about the attention figures is checked."""
    return f"results/{wildcards.model}/choices.parquet" if CHOICE_CLAIMS else []


def report_scores(wildcards):
    """The files that the report's sections are drawn from, in their order."""
    names = (*FIGURES, *further_sections(wildcards.model))
    return expand(f"results/{wildcards.model}/{{file}}", file=list_scores(names).values())


def report_claims(wildcards):
    """The tables of claims that the report shows."""
    further = further_sections(wildcards.model)
    return [
        "results/{model}/claims.parquet",
        *(claims_of_further(name)[0] for name in further if claims_of_further(name)),
    ]


def report_options(wildcards):
    """{section: the options that the report needs for its title and its table of controls}."""
    read = {figure: ("operation", "over", "components") for figure in ATTENTION_FIGURES}
    read["probe_auc"] = ("metric", "tokens")
    return {
        figure: {key: config["figures"][figure][key] for key in keys}
        for figure, keys in read.items()
    } | {
        "module_map": {"metric": module_metrics(wildcards.model)[0]},
        **{name: {"title": FIGURE_TABLE[name].title} for name in further_sections(wildcards.model)},
    }


def archives(wildcards):
    """The archive of every model of the run."""
    return expand("results/{model}/{model}.bundle.zip", model=MODELS)


def bundled_files(wildcards):
    """The files of a model's archive: tidy scores, figures and claims.

    Figures that `figures` does not draw are included, and brought up to date, if their scores exist.
    """
    start = f"results/{wildcards.model}/"
    further = further_figures(wildcards.model)
    files = [*list_scores((*FIGURES, *further)).values(), CLAIMS_FILE, "claims.md"]
    files += [f"claims/{name}.parquet" for name in further if claims_of_further(name)]
    if "choices" in further:
        files.append("choices.md")
    figures = [*default_figures(wildcards.model), *further]
    drawn = [file for figure in figures for file in figure_files(figure)]
    return [*(start + file for file in files), *expand(drawn, model=wildcards.model)]
