# The module map. Its measures have files of their own, so that another metric of the same measure
# runs no model again.


include: "../inputs/modules.smk"


rule measure_modules:
    input:
        model_info="results/{model}/model.json",
    output:
        activity="results/{model}/forward/module_activity.parquet",
    log:
        "results/{model}/logs/measure_modules.log",
    benchmark:
        "results/{model}/benchmarks/measure_modules.tsv"
    conda:
        "../../environment.yml"
    threads: cores("measure_modules")
    resources:
        **needs("measure_modules"),
    params:
        *code("measure_modules"),
        **MAP_TEXTS,
        runtime=RUNTIME,
    script:
        "../../scripts/measure_modules.py"


rule ablate_modules:
    input:
        model_info="results/{model}/model.json",
    output:
        ablation="results/{model}/forward/module_ablation.parquet",
    log:
        "results/{model}/logs/ablate_modules.log",
    benchmark:
        "results/{model}/benchmarks/ablate_modules.tsv"
    conda:
        "../../environment.yml"
    threads: cores("ablate_modules")
    resources:
        **needs("ablate_modules"),
    params:
        *code("ablate_modules"),
        **MAP_TEXTS,
        runtime=RUNTIME,
    script:
        "../../scripts/ablate_modules.py"


rule extract_module_states:
    input:
        model_info="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
    output:
        states=states("results/{model}/forward/module_states/{shard}-of-{shards}.parquet"),
    log:
        "results/{model}/logs/extract_module_states/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/extract_module_states/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_module_states")
    resources:
        **needs("extract_module_states"),
    params:
        *code("extract_module_states"),
        token=MODULE_MAP.probe_token,
        runtime=RUNTIME,
        states_dtype=config["states_dtype"],
    script:
        "../../scripts/extract_module_states.py"


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
        token=MODULE_MAP.probe_token,
        protocol=MAP_PROTOCOL,
    script:
        "../../scripts/score_module_probes.py"


# Metrics of weights need neither texts nor a model in memory.
rule measure_updates:
    input:
        model_info="results/{model}/model.json",
        other=compared_model_info,
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
        options=MODULE_MAP.update.plain(),
    script:
        "../../scripts/measure_updates.py"


rule measure_quantization:
    input:
        model_info="results/{model}/model.json",
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
        options=MODULE_MAP.quantization.plain(),
    script:
        "../../scripts/measure_quantization.py"


rule score_modules:
    input:
        unpack(measured_modules),
        model_info="results/{model}/model.json",
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
