# What the rules of paper.smk take as inputs and params.

from llm_figures.plotting.style import Style
from llm_figures.plotting.venues import VENUES
from llm_figures.workflow.figures import FURTHER, FURTHER_TARGETS

PAPER = ["numbers.tex", "claims.tex", "probe.tex", "figures.tex", "numbers.json"]


def paper_figures(model):
    """The names of the figures of one model's paper."""
    made = default_figures(model)
    asked = config["paper"]["figures"] or made
    for name in asked:
        if name not in (*made, *FURTHER):
            sys.exit(
                f"config: paper.figures: {name!r} is not made; there is "
                f"{', '.join([*made, *FURTHER])}"
            )
        if BUNDLE and find_source(name).scores not in BUNDLE.files:
            sys.exit(f"config: paper.figures: {name} is not in {BUNDLE.path} and needs the model")
    return asked


def paper_claims(wildcards):
    """The tables of claims about the figures of one model's paper."""
    further = [
        f"claims/{name}.parquet"
        for name in paper_figures(wildcards.model)
        if name in FURTHER_TARGETS
        and (f"claims/{name}.parquet" in BUNDLE.files if BUNDLE else claims_of(name))
    ]
    return [f"results/{{model}}/{file}" for file in ("claims.parquet", *further)]


def paper_prefix(model):
    """The letters before every macro of one model's paper."""
    prefix = config["paper"]["prefix"]
    given = {
        name: prefix.get(model_of(name), "") if isinstance(prefix, dict) else prefix
        for name in MODELS
    }
    if len({*given.values()}) < len(given):
        example = ", ".join(
            f"{name}: {letter}" for name, letter in zip(map(model_of, MODELS), "ABCDEFGH")
        )
        sys.exit(
            "config: paper.prefix: several models need different letters before their macros; "
            f"give a table such as {{{example}}}"
        )
    return given[model]


def paper_files(*kinds):
    """Files of the paper's figures, with the model left open."""
    return lambda wildcards: [
        f"results/{{model}}/figures/{name}.{kind}"
        for name in paper_figures(wildcards.model)
        for kind in kinds
    ]


def papers(wildcards):
    """The folder of every model of the run."""
    for model in MODELS:
        paper_prefix(model)
    copies = [
        f"results/{model}/paper/figures/{name}.{kind}"
        for model in MODELS
        for name in paper_figures(model)
        for kind in ("pdf", "csv")
    ]
    return [*expand("results/{model}/paper/{file}", model=MODELS, file=PAPER), *copies]


def paper_options(wildcards):
    """Metric and tokens of the probe's table, prefix, and the size at which figures are drawn."""
    style = Style.model_validate(config["style"])
    column = VENUES[style.venue].column
    return {
        **{key: config["figures"]["probe_auc"][key] for key in ("metric", "tokens")},
        "prefix": paper_prefix(wildcards.model),
        "exact": style.inches is not None,
        # without a venue, by the width itself
        "across": style.spans_columns if style.inches and column else None,
    }


def paper_answers(wildcards):
    """The model's answers, which an archive does not hold."""
    return {} if BUNDLE else {"answers": "results/{model}/forward/answers.parquet"}
