# Weights and tokenizers, made loadable without a network. The only rules that download.


def local_weights(wildcards):
    """A local folder's files, so that new weights in it are noticed; nothing for a download."""
    entry = PREPARED[wildcards.model]
    if entry["source"] == "finetune":
        return expand(list(rules.finetune_model.output), model=wildcards.model)
    if entry["source"] != "path":
        return []
    if (gguf := named_gguf(entry)) is not None:
        return [str(gguf)]
    folder = Path(entry["path"]).expanduser()
    kinds = ["*.json", "*.safetensors", "*.bin", "*.model", "*.jinja"]
    return sorted(str(file) for kind in kinds for file in folder.glob(kind))


def training_options(wildcards):
    """What a fine-tuned model is made by, without its base, which is an input."""
    entry = PREPARED[wildcards.model]
    keys = ("groups", "share", "steps", "batch_size", "learning_rate", "train", "seed")
    return {key: entry[key] for key in keys}


def taught_prompt(wildcards):
    """What facts are taught by: how a question is asked, and where its answer stops."""
    keys = ("style", "preamble", "template", "system", "user", "stop")
    return {key: PROMPT[key] for key in keys if key in PROMPT}


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
        # also those whose weights theirs are compared with or trained from
        model="|".join(map(re.escape, PREPARED)) or "(?!)",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("prepare_model")
    resources:
        **needs("prepare_model"),
    params:
        *code("prepare_model"),
        entry=lambda wildcards: stated(PREPARED[wildcards.model]),
    script:
        "../../scripts/prepare_model.py"


# A model of `source: finetune`: its base, taught some of the built-in facts. What is declared is
# written last; the rest of the transformers folder lies beside it.
rule finetune_model:
    input:
        card=lambda wildcards: f"results/{PREPARED[wildcards.model]['base']}/model.json",
    output:
        questions="results/{model}/finetuned/questions.parquet",
        steps="results/{model}/finetuned/steps.parquet",
        weights="results/{model}/finetuned/model.safetensors",
    log:
        "results/{model}/logs/finetune_model.log",
    benchmark:
        "results/{model}/benchmarks/finetune_model.tsv"
    wildcard_constraints:
        model="|".join(map(re.escape, PREPARED)) or "(?!)",
    conda:
        "../../environment.yml"
    threads: cores("finetune_model")
    resources:
        **needs("finetune_model"),
    params:
        *code("finetune_model"),
        options=training_options,
        prompt=taught_prompt,
        device=config["device"],
    script:
        "../../scripts/finetune_model.py"
