# Weights and tokenizer, made loadable without a network. The only rule that downloads.


rule prepare_model:
    input:
        weights=local_weights,
    output:
        card="results/{model}/model.json",
    log:
        "results/{model}/logs/prepare_model.log",
    benchmark:
        "results/{model}/benchmarks/prepare_model.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        *code("prepare_model"),
        entry=lambda wildcards: MODELS[wildcards.model],
    script:
        "../../scripts/prepare_model.py"
