# What the rules of attention.smk take as inputs and params.

from llm_figures.claims.figures import ATTENTION_FIGURES

# Figures whose change is made in every layer.
INTERVENED_EVERYWHERE = [
    figure for figure in ATTENTION_FIGURES if config["figures"][figure]["scope"] == "model"
]
# Options that only the drawing reads; a change of them must not run a score again.
DRAWING_KEYS = {"palette", "limits", "highlight", "tick_labels"}


def score_options(figure):
    """The options of a figure that its scores depend on."""
    options = config["figures"][figure]
    unused = {"mean": {"epsilon", "input"}, "scale": {"over"}}.get(options.get("operation"), set())
    return {
        key: value
        for key, value in sorted(options.items())
        if key not in DRAWING_KEYS and key not in unused
    }


def intervened_states(wildcards):
    """Further states that a figure's cells need."""
    if wildcards.figure in INTERVENED_EVERYWHERE:
        return {"intervened": "results/{model}/forward/intervened_states/{figure}.parquet"}
    return {}
