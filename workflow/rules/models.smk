# Weights and tokenizer, made loadable without a network. The only rule that downloads.


rule prepare_model:
    input:
        weights=local_weights(),
        code=code("prepare_model"),
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
        options=lambda wildcards: {
            "entry": MODEL_ENTRY,
            # checked against the model as soon as its shape is known
            "figures": {
                figure: {
                    key: value
                    for key, value in config["figures"][figure].items()
                    if key in ("layer", "head", "highlight")
                }
                for figure in FIGURES
            },
        },
    script:
        "../../scripts/prepare_model.py"
