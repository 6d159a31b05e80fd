# Inputs and params of the rules in models.smk.

from llm_figures.core.text_checks import find_path_problem
from llm_figures.inference.options import QuestionFormat
from llm_figures.models.options import FinetunedModel

from llm_figures.models.gguf import find_gguf
from llm_figures.models.model_info import drop_shape

# Of models that are trained in parts, with a checkpoint after each.
TRAINED_STEPS = [name for name, entry in PREPARED.items() if "part" in entry]


def local_weights(wildcards):
    """A local folder's files, so that new weights in it are noticed; nothing for a download."""
    entry = PREPARED[wildcards.model]
    if entry["source"] == "finetune":
        return trained_files(model_of(wildcards.model), "questions", "steps", "weights")
    if entry["source"] != "path":
        return []
    # ancient: they count by content alone (see below), so that large ones may be touched
    if (gguf := find_gguf(entry)) is not None:
        return [ancient(str(gguf))]
    folder = Path(entry["path"]).expanduser()
    # weights, tokenizers, chat templates, and a model's own code
    kinds = ["*.json", "*.safetensors", "*.bin", "*.model", "*.tiktoken", "*.jinja", "*.py"]
    kinds += ["merges.txt", "vocab.txt", "additional_chat_templates/*.jinja"]
    files = sorted(str(file) for kind in kinds for file in folder.glob(kind))
    for file in files:
        if problem := find_path_problem(file):
            sys.exit(f"config: model {wildcards.model}: path: {file!r} {problem}")
    return list(map(ancient, files))


def own_weights_digests(wildcards):
    """Digests of the user's own model files; of files that are downloaded or made, none."""
    own = PREPARED[wildcards.model]["source"] == "path"
    return digest_contents(local_weights(wildcards)) if own else []


def training_options(wildcards):
    """The entry of a fine-tuned model in models.yaml, without the shape, which changes nothing."""
    entry = PREPARED[wildcards.model]
    return {
        key: entry[key] for key in FinetunedModel.model_fields if key in entry and key != "shape"
    }


def trained_files(model, *names):
    """Files that the training of a model leaves, by their names in the rule."""
    maker = rules.finetune_step if model in TRAINED_STEPS else rules.finetune_model
    return [maker.output[name].replace("{model}", model) for name in names]


def earlier_step(wildcards):
    """What a part of a training goes on from: the base, or a checkpoint with its losses."""
    part = PREPARED[wildcards.model]["part"]
    names = ("questions", "steps", "state") if part["done"] else ()
    found = dict(zip(names, trained_files(part["after"], *names)))
    return found | {"model_info": f"results/{part['after']}/model.json"}


def training_prompt(wildcards):
    """The options of the prompt that training depends on; an answer's greatest length is none."""
    keys = PROMPT.keys() & QuestionFormat.model_fields.keys() - {"max_new_tokens"}
    return {key: PROMPT[key] for key in sorted(keys)}
