# What was made, of what and on what: manifest, verification, report, archive.

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


def earlier_card(wildcards):
    """The card of the checkpoint that the module map compares with, where one of its metrics does."""
    asked = of_measure(module_metrics(wildcards.model), "updates")
    return {"earlier": compared_card(wildcards)} if asked else {}


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


rule write_manifest:
    input:
        unpack(earlier_card),
        card="results/{model}/model.json",
        last=last_files,
    output:
        manifest="results/{model}/manifest.json",
    log:
        "results/{model}/logs/write_manifest.log",
    benchmark:
        "results/{model}/benchmarks/write_manifest.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("write_manifest")
    resources:
        **needs("write_manifest"),
    params:
        *code("write_manifest"),
        config=config,
        stages=stages_of_run,
    script:
        "../../scripts/write_manifest.py"


# Makes nothing and asks for nothing: whatever is missing or stale stays so, and is named.
rule verify:
    input:
        some_model,
    log:
        "results/_models/logs/verify.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("verify")
    resources:
        **needs("verify"),
    params:
        manifests=of_models("manifest.json"),
    script:
        "../../scripts/verify.py"


# The page of one model: figures, claims and provenance, in one file that needs no network.
rule build_report:
    input:
        figures=report_figures,
        scores=expand("results/{{model}}/{file}", file=scores_of_figures().values()),
        choices="results/{model}/choices.parquet",
        claims="results/{model}/claims.parquet",
        manifest="results/{model}/manifest.json",
        template=template("report.html.j2", "report.css", "report.js"),
    output:
        report="results/{model}/report.html",
    log:
        "results/{model}/logs/build_report.log",
    benchmark:
        "results/{model}/benchmarks/build_report.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("build_report")
    resources:
        **needs("build_report"),
    params:
        *code("build_report"),
        shown={figure: list(figures_of_target(figure)) for figure in FIGURES},
        options=report_options,
    script:
        "../../scripts/build_report.py"


rule bundle_results:
    input:
        card="results/{model}/model.json",
        manifest="results/{model}/manifest.json",
        files=bundled_files,
    output:
        bundle="results/{model}/{model}.bundle.zip",
    log:
        "results/{model}/logs/bundle_results.log",
    benchmark:
        "results/{model}/benchmarks/bundle_results.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("bundle_results")
    resources:
        **needs("bundle_results"),
    params:
        *code("bundle_results"),
        config=config,
        libraries=LIBRARIES,
    script:
        "../../scripts/bundle_results.py"
