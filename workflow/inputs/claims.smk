# What the rules of claims.smk take as inputs and params.

from llm_figures.claims.claims_file import find_guarded
from llm_figures.claims.figures import TABLE_FIGURES
from llm_figures.claims.options import ChoicesScoring
from llm_figures.workflow.config import check_claims

with user_errors():
    CLAIMS = check_claims(config, HOME / "config" / "claims.yaml")
    # names of the claims that must be reproduced
    GUARDED = find_guarded(CLAIMS, config["claims"]["fail_on"])


def claims_of(figure):
    """The claims about one figure, as plain values."""
    return [claim.plain() for claim in CLAIMS if claim.figure == figure]


def guarded_further():
    """The tables of guarded claims about figures outside the target `figures`."""
    figures = dict.fromkeys(name.split("/")[0] for name in GUARDED)
    return [file for name in figures for file in claims_of_further(name)[:1]]


# The claims that every combination of choices is checked against.
CHOICE_CLAIMS = claims_of("mean_qkv") + claims_of("scale_qkv")
# The choices to combine, and the options that each combination takes from the figures.
CHOICES = {key: config["choices"][key] for key in ChoicesScoring.model_fields}
CHOICE_FIGURES = {
    figure: {key: config["figures"][figure][key] for key in ("components", "epsilon", "input")}
    for figure in ("mean_qkv", "scale_qkv")
}


def choice_states(wildcards):
    """States of passes with an intervention in every layer, if a choice asks for them.

    Stops the run if there is no claim to check.
    """
    if not CHOICE_CLAIMS:
        sys.exit(
            "choices: no claim about mean_qkv or scale_qkv is checked; keep some with config: "
            "claims.built_in, or name your own in claims.files"
        )
    if "model" in CHOICES["scope"]:
        return {"intervened": "results/{model}/forward/intervened_states/choices.parquet"}
    return {}
