# Manifest, verification, report and archive of a model's results.


include: "../inputs/provenance.smk"


rule write_manifest:
    input:
        unpack(earlier_model_info),
        model_info="results/{model}/model.json",
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
        passing=passing_files,
    script:
        "../../scripts/write_manifest.py"


# Makes no file and has none as input, so that files that are missing or out of date are only named.
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
        command=make_figures(),
    script:
        "../../scripts/verify.py"


# Figures, claims and provenance of one model in one HTML file that needs no network.
rule build_report:
    input:
        figures=report_figures,
        scores=report_scores,
        choices=report_choices,
        claims=report_claims,
        manifest="results/{model}/manifest.json",
        template=template(*TEMPLATE),
    output:
        report=report(
            "results/{model}/report.html",
            caption="../report/report.rst",
            category="Report",
            subcategory="{model}",
            labels={"table": "all on one page"},
        ),
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
        contents=digest_contents(template(*TEMPLATE)),
        shown=lambda wildcards: {
            figure: list(list_figures(figure))
            for figure in [*FIGURES, *further_sections(wildcards.model)]
        },
        options=report_options,
    script:
        "../../scripts/build_report.py"


rule bundle_results:
    input:
        model_info="results/{model}/model.json",
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
