# What the rules of claims.smk take as inputs and params.

from llm_figures.claims.options import ChoicesScoring


def claims_of(figure):
    """The claims about one figure, as plain values."""
    return [claim.plain() for claim in CLAIMS if claim.figure == figure]


# The choices to combine, and the options that each combination takes from the figures.
CHOICES = {key: config["choices"][key] for key in ChoicesScoring.model_fields}
CHOICE_FIGURES = {
    figure: {key: config["figures"][figure][key] for key in ("components", "epsilon", "input")}
    for figure in ("mean_qkv", "scale_qkv")
}


def choice_states(wildcards):
    """States of passes with an intervention in every layer, if a choice asks for them."""
    if "model" in CHOICES["scope"]:
        return {"intervened": "results/{model}/forward/intervened_states/choices.parquet"}
    return {}
