# Provenance: what was made, of what and on what, written last.

SITE = PROTOCOLS["scores"]["protocol"]["site"]
# Every rule that the manifest waits for and the files it makes; a new one is added here. The
# manifest sorts files, times and devices by it. A file of a rule not named here may be of an
# earlier setting, or of another target: it is listed without a maker. Lists, or functions of a model.
STAGES = {
    "prepare_model": [],
    "finetune_model": lambda model: (
        list(rules.finetune_model.output) if MODELS[model]["source"] == "finetune" else []
    ),
    "extract_attention_states": ["results/{model}/forward/attention_states.parquet"],
    "extract_altered_states": [
        f"results/{{model}}/forward/altered_states/{figure}.parquet"
        for figure in ALTERED_EVERYWHERE
    ],
    "build_questions": [
        "results/{model}/forward/questions.parquet",
        "results/{model}/forward/questions_left_out.parquet",
    ],
    "generate_answers": shard_files("generations"),
    "quote_answers": shard_files("quotes") if config["exact_answer"]["method"] == "model" else [],
    "judge_answers": [
        "results/{model}/forward/answers.parquet",
        "results/{model}/forward/answers.md",
    ],
    "extract_hidden_states": shard_files(f"hidden_states/{SITE}"),
    "ask_p_true": shard_files("p_true") if config["probe"]["p_true"] else [],
    "measure_modules": files_of_measure("activity"),
    "ablate_modules": files_of_measure("ablation"),
    "extract_module_states": lambda model: (
        shard_files("module_states") if files_of_measure("probe")(model) else []
    ),
    "measure_updates": files_of_measure("updates"),
    "measure_quantization": files_of_measure("quantization"),
    "score_attention": [
        f"results/{{model}}/attention/{figure}.parquet" for figure in ATTENTION_FIGURES
    ],
    "score_probes": expand(
        "results/{{model}}/probe/predictions/scores/{part}-of-{parts}.parquet",
        part=range(config["probe"]["jobs"]),
        parts=config["probe"]["jobs"],
    ),
    "collect_probe_scores": ["results/{model}/probe/scores.parquet"],
    "score_module_probes": files_of_measure("probe"),
    "score_modules": ["results/{model}/modules/scores.parquet"],
    "render_attention": [file for figure in ATTENTION_FIGURES for file in files_of_figure(figure)],
    "render_probe": files_of_figure("probe_auc"),
    "render_probe_curves": files_of_figure("probe_curves"),
    "render_modules": lambda model: [
        file for name in maps_of_model(model) for file in files_of_figure(name)
    ],
    "check_attention_claims": [
        f"results/{{model}}/claims/{figure}.parquet" for figure in ATTENTION_FIGURES
    ],
    "check_probe_claims": ["results/{model}/claims/probe_auc.parquet"],
    "check_module_claims": ["results/{model}/claims/module_map.parquet"],
    "collect_claims": ["results/{model}/claims.parquet", "results/{model}/claims.md"],
}
# What is made last of all: the manifest waits for the files of these rules. It does not wait for
# what lies before them, so that hidden states may be deleted and a figure still be drawn anew.
LAST = [
    "render_attention",
    "render_probe",
    "render_probe_curves",
    "render_modules",
    "collect_claims",
]


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
        unpack(files_of_choices),
        figures=report_figures,
        attention=expand("results/{{model}}/attention/{figure}.parquet", figure=ATTENTION_FIGURES),
        probe="results/{model}/probe/scores.parquet",
        modules="results/{model}/modules/scores.parquet",
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
        options=report_options,
    script:
        "../../scripts/build_report.py"
