# Input functions of the rules in probe.smk.

from llm_figures.probe.protocol import check_exportable


def states_of_protocol(wildcards):
    """All shards of the hidden states that a protocol's probes take; by default the figure's."""
    site = PROTOCOLS[wildcards.get("protocol", "scores")]["protocol"]["site"]
    return expand(shard_files(f"hidden_states/{site}"), model=wildcards.model)


def scores_to_export(wildcards):
    """The scores whose best probes are exported; stops a run whose probes cannot be."""
    with user_errors():
        check_exportable(PROTOCOLS["scores"]["protocol"]["kind"])
    return "results/{model}/probe/scores.parquet"


def predictions_of(protocol):
    """All parts of a protocol's predictions, with the model left open."""
    parts = config["probe"]["jobs"]
    return expand(
        f"results/{{{{model}}}}/probe/predictions/{protocol}/{{part}}-of-{{parts}}.parquet",
        part=range(parts),
        parts=parts,
    )


def scores_of_preset(preset):
    """A preset's scores; the configured ones where both protocols are the same."""
    name = next(name for name in PROTOCOLS if PROTOCOLS[name] == PROTOCOLS[preset])
    return f"results/{{model}}/probe/{name}.parquet"


def states_of_set(part):
    """All shards of the configured protocol's hidden states for a set, with the model left open.

    part: value of the wildcard `set`.
    """
    site = PROTOCOLS["scores"]["protocol"]["site"]
    return shard_files(f"hidden_states/{site}", part)
