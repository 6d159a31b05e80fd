# Scores of the module map.


rule score_modules:
    input:
        activity="results/{model}/forward/module_activity.parquet",
    output:
        scores="results/{model}/modules/scores.parquet",
    log:
        "results/{model}/logs/score_modules.log",
    benchmark:
        "results/{model}/benchmarks/score_modules.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("score_modules")
    resources:
        **needs("score_modules"),
    params:
        *code("score_modules"),
    script:
        "../../scripts/score_modules.py"
