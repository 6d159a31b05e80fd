# Scores of the module map: what its metrics are made from is measured apart, so that another metric
# runs nothing again.


rule score_module_probes:
    input:
        answers="results/{model}/forward/answers.parquet",
        states=shard_files("module_states"),
    output:
        scores="results/{model}/modules/metrics/probe.parquet",
    log:
        "results/{model}/logs/score_module_probes.log",
    benchmark:
        "results/{model}/benchmarks/score_module_probes.tsv"
    conda:
        "../../environment.yml"
    threads: cores("score_module_probes")
    resources:
        **needs("score_module_probes"),
    params:
        *code("score_module_probes"),
        token=config["figures"]["module_map"]["probe_token"],
        # no control is fitted, so none of them matters
        protocol=PROTOCOLS["scores"]["protocol"] | {"controls": []},
    script:
        "../../scripts/score_module_probes.py"


rule score_modules:
    input:
        unpack(measured_modules),
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
        metrics=lambda wildcards: module_metrics(wildcards.model),
    script:
        "../../scripts/score_modules.py"
