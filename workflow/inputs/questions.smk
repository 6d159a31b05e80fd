# Inputs and params of the rules in questions.smk.

from llm_figures.core.options_reader import read_options
from llm_figures.inference.options import Prompt
from llm_figures.questions.option_checks import resampling_problem
from llm_figures.questions.options import Judge

# The options of the chosen style alone: a change of another style's options runs nothing again.
PROMPT = read_options(Prompt, config["prompt"], "config: prompt").relevant()
# Those of them that only put the question: what ends an answer is no matter where it is given.
QUESTION_ONLY = {
    key: PROMPT[key] for key in ("style", "preamble", "template", "system", "user") if key in PROMPT
}


def dataset_of(wildcards):
    """The options of a job's questions: the run's own, or a further set of them."""
    name = Path(wildcards.get("set", "")).name
    return config["datasets"][name] if name else config["dataset"]


def sets_with_responses(given):
    """A pattern of the wildcard `set`: the sets that bring their answers along, or the others."""
    every = {"": config["dataset"]} | SETS
    parts = [PARTS[name] for name, one in every.items() if (one["response"] is not None) == given]
    return f"(?:{'|'.join(map(re.escape, parts))})" if parts else "(?!)"


def local_question_files(wildcards):
    """The user's own files of questions; none for built-in ones or a dataset of the hub."""
    dataset = dataset_of(wildcards)
    if dataset["source"] != "path":
        return []
    return [file for key in ("path", "hold_out") if (file := dataset[key])]


# The same for the judge: words and the model count for the method model alone.
JUDGE = read_options(Judge, config["judge"], "config: judge").relevant()


def judging_model(wildcards):
    """The model.json of the model that judges: by default the one that answered."""
    return f"results/{config['judge']['model'] or wildcards.model}/model.json"


def exact_answer_options(*keys):
    """The options of `exact_answer` that a rule's result depends on."""
    return {key: config["exact_answer"][key] for key in keys}


def shard_files(folder, questions=""):
    """All shards of a stage of the forward pass, with the model left open.

    questions: of the run's own, or of another set: the wildcard `set` or its value.
    """
    shards = config["shards"]
    return expand(
        f"results/{{{{model}}}}{questions}/forward/{folder}/{{shard}}-of-{{shards}}.parquet",
        shard=range(shards),
        shards=shards,
    )


# The options that samples depend on; the thresholds of the kinds do not change them.
SAMPLING = {key: value for key, value in config["resamples"].items() if key != "taxonomy"}


def sampled_questions(wildcards):
    """The questions of which answers are sampled; stops a run that cannot judge samples."""
    if problem := resampling_problem(config):
        sys.exit(f"\n{problem}\n")
    return "results/{model}/forward/questions.parquet"
