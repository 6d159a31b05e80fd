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
    wildcard_constraints:
        # also the one whose weights theirs are compared with
        model="|".join(map(re.escape, PREPARED)) or "(?!)",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("prepare_model")
    resources:
        **needs("prepare_model"),
    params:
        *code("prepare_model"),
        # the shape is for estimates before the download, not part of what is prepared
        entry=lambda wildcards: {
            key: value for key, value in PREPARED[wildcards.model].items() if key != "shape"
        },
    script:
        "../../scripts/prepare_model.py"
