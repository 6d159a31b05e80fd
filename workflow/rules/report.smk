# The page of one model: figures, claims and provenance, in one file that needs no network.


rule build_report:
    input:
        unpack(files_of_choices),
        figures=report_figures(),
        attention=expand("results/{{model}}/attention/{figure}.parquet", figure=ATTENTION_FIGURES),
        probe="results/{model}/probe/scores.parquet",
        modules="results/{model}/modules/scores.parquet",
        claims="results/{model}/claims.parquet",
        manifest="results/{model}/manifest.json",
        template=template("report.html.j2", "report.css", "report.js"),
        code=code("build_report"),
    output:
        report="results/{model}/report.html",
    log:
        "results/{model}/logs/build_report.log",
    benchmark:
        "results/{model}/benchmarks/build_report.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        options=report_options(),
    script:
        "../../scripts/build_report.py"
