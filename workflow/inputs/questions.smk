# What the rules of questions.smk take as inputs and params.

# What the model is asked; the texts of another style are not.
UNUSED_TEXTS = {
    "few_shot": {"system", "user"},
    "completion": {"preamble", "system", "user"},
    "chat": {"preamble", "template"},
}
UNUSED_SAMPLING = set() if config["prompt"]["temperature"] else {"top_p", "seed"}
PROMPT = {
    key: value
    for key, value in config["prompt"].items()
    if key not in UNUSED_TEXTS[config["prompt"]["style"]] | UNUSED_SAMPLING
}


def question_files():
    """The user's own files of questions; nothing for the built-in ones and the hub's."""
    files = [config["dataset"]["path"], config["dataset"]["hold_out"]]
    return [file for file in files if file and config["dataset"]["source"] == "path"]


def shard_files(folder):
    """All shards of a stage of the forward pass, with the model left open."""
    shards = config["shards"]
    return expand(
        f"results/{{{{model}}}}/forward/{folder}/{{shard}}-of-{{shards}}.parquet",
        shard=range(shards),
        shards=shards,
    )
