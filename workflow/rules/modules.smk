# Scores of the module map.


rule score_modules:
    input:
        activity="results/{model}/forward/module_activity.parquet",
        code=code("score_modules"),
    output:
        scores="results/{model}/modules/scores.parquet",
    log:
        "results/{model}/logs/score_modules.log",
    benchmark:
        "results/{model}/benchmarks/score_modules.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    script:
        "../../scripts/score_modules.py"
