# Prepare weights and tokenizers for loading without a network. The only rules that download.


include: "../inputs/models.smk"


rule prepare_model:
    input:
        weights=local_weights,
    output:
        model_info="results/{model}/model.json",
    log:
        "results/{model}/logs/prepare_model.log",
    benchmark:
        "results/{model}/benchmarks/prepare_model.tsv"
    wildcard_constraints:
        # also models that the run's are compared with or fine-tuned from
        model="|".join(map(re.escape, PREPARED)) or "(?!)",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("prepare_model")
    resources:
        **needs("prepare_model"),
    params:
        *code("prepare_model"),
        contents=own_weights_digests,
        entry=lambda wildcards: drop_shape(PREPARED[wildcards.model]),
    script:
        "../../scripts/prepare_model.py"


# A model of `source: finetune`: its base, fine-tuned on some of the built-in facts. The other files
# of the transformers folder are written beside these outputs, before them.
rule finetune_model:
    input:
        model_info=lambda wildcards: f"results/{PREPARED[wildcards.model]['base']}/model.json",
    output:
        questions="results/{model}/finetuned/questions.parquet",
        steps="results/{model}/finetuned/steps.parquet",
        weights="results/{model}/finetuned/model.safetensors",
    log:
        "results/{model}/logs/finetune_model.log",
    benchmark:
        "results/{model}/benchmarks/finetune_model.tsv"
    wildcard_constraints:
        model="|".join(map(re.escape, [name for name in PREPARED if name not in TRAINED_STEPS]))
        or "(?!)",
    conda:
        "../../environment.yml"
    threads: cores("finetune_model")
    resources:
        **needs("finetune_model"),
    params:
        *code("finetune_model"),
        options=training_options,
        prompt=training_prompt,
        device=config["device"],
    script:
        "../../scripts/finetune_model.py"


# The same, in parts: a checkpoint after each, from which the next one goes on.
rule finetune_step:
    input:
        unpack(earlier_step),
    output:
        questions="results/{model}/finetuned/questions.parquet",
        steps="results/{model}/finetuned/steps.parquet",
        weights="results/{model}/finetuned/model.safetensors",
        state=temp("results/{model}/finetuned/training_state.safetensors"),
    log:
        "results/{model}/logs/finetune_step.log",
    benchmark:
        "results/{model}/benchmarks/finetune_step.tsv"
    wildcard_constraints:
        model="|".join(map(re.escape, TRAINED_STEPS)) or "(?!)",
    conda:
        "../../environment.yml"
    threads: cores("finetune_step")
    resources:
        **needs("finetune_step"),
    params:
        *code("finetune_step"),
        options=training_options,
        prompt=training_prompt,
        device=config["device"],
    script:
        "../../scripts/finetune_step.py"
