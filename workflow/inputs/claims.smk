# What the rules of claims.smk take as inputs and params.


def claims_of(figure):
    """The claims about one figure."""
    return [claim for claim in CLAIMS if claim["figure"] == figure]


# What the choices are made of: combinations of them, and the options they share with the figures.
CHOICES = {key: value for key, value in config["choices"].items() if key != "palette"}
CHOICE_FIGURES = {
    figure: {key: config["figures"][figure][key] for key in ("components", "epsilon", "input")}
    for figure in ("mean_qkv", "scale_qkv")
}


def choice_states(wildcards):
    """Further states that the choices need."""
    if "model" in CHOICES["scope"]:
        return {"intervened": "results/{model}/forward/intervened_states/choices.parquet"}
    return {}
