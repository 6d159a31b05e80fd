# What the rules of models.smk take as inputs and params.

from llm_figures.models.gguf import find_gguf
from llm_figures.models.model_info import drop_shape


def local_weights(wildcards):
    """A local folder's files, so that new weights in it are noticed; nothing for a download."""
    entry = PREPARED[wildcards.model]
    if entry["source"] == "finetune":
        return expand(list(rules.finetune_model.output), model=wildcards.model)
    if entry["source"] != "path":
        return []
    if (gguf := find_gguf(entry)) is not None:
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
