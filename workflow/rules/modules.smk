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


# Metrics of weights, in files of their own: neither texts nor a model in memory.
rule measure_updates:
    input:
        card="results/{model}/model.json",
        other=compared_card,
    output:
        updates="results/{model}/modules/metrics/updates.parquet",
    log:
        "results/{model}/logs/measure_updates.log",
    benchmark:
        "results/{model}/benchmarks/measure_updates.tsv"
    conda:
        "../../environment.yml"
    threads: cores("measure_updates")
    resources:
        **needs("measure_updates"),
    params:
        *code("measure_updates"),
        metrics=weight_metrics("updates"),
        options=config["figures"]["module_map"]["update"],
    script:
        "../../scripts/measure_updates.py"


rule measure_quantization:
    input:
        card="results/{model}/model.json",
    output:
        errors="results/{model}/modules/metrics/quantization.parquet",
    log:
        "results/{model}/logs/measure_quantization.log",
    benchmark:
        "results/{model}/benchmarks/measure_quantization.tsv"
    conda:
        "../../environment.yml"
    threads: cores("measure_quantization")
    resources:
        **needs("measure_quantization"),
    params:
        *code("measure_quantization"),
        metrics=weight_metrics("quantization"),
        options=config["figures"]["module_map"]["quantization"],
    script:
        "../../scripts/measure_quantization.py"
