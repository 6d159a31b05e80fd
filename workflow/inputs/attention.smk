# What the rules of attention.smk take as inputs and params.

from llm_figures.attention.options import AttentionInterventions
from llm_figures.claims.figures import ATTENTION_FIGURES, KINDS
from llm_figures.core.options_reader import read_options


def figure_options(figure):
    """The options of a figure as an object."""
    return read_options(KINDS[figure], config["figures"][figure], f"config: figures.{figure}")


def score_options(figure):
    """The options that a figure's cells depend on."""
    return figure_options(figure).scored()


def intervention_options(figure):
    """The options that its passes with interventions depend on.

    Heads and bins are chosen afterwards, from the cached states.
    """
    return figure_options(figure).part_of(AttentionInterventions).scored()


def intervened_states(wildcards):
    """States of passes with an intervention in every layer, if a figure's cells need them."""
    if config["figures"][wildcards.figure]["scope"] == "model":
        return {"intervened": "results/{model}/forward/intervened_states/{figure}.parquet"}
    return {}
