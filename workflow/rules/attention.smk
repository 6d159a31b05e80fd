# Attention maps under interventions on Query, Key or Value. Those in the displayed layer only follow
# from the cached queries and keys; those in every layer need forward passes of their own.


include: "../inputs/attention.smk"


rule extract_attention_states:
    input:
        model_info="results/{model}/model.json",
    output:
        states=states("results/{model}/forward/attention_states.parquet"),
        random_weights=states("results/{model}/forward/random_weights_states.parquet"),
    log:
        "results/{model}/logs/extract_attention_states.log",
    benchmark:
        "results/{model}/benchmarks/extract_attention_states.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_attention_states")
    resources:
        **needs("extract_attention_states"),
    params:
        *code("extract_attention_states"),
        inputs=lambda wildcards: config["inputs"],
        runtime=RUNTIME,
    script:
        "../../scripts/extract_attention_states.py"


rule extract_intervened_states:
    input:
        model_info="results/{model}/model.json",
        states="results/{model}/forward/attention_states.parquet",
    output:
        states=states("results/{model}/forward/intervened_states/{figure}.parquet"),
    log:
        "results/{model}/logs/extract_intervened_states/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/extract_intervened_states/{figure}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_intervened_states")
    resources:
        **needs("extract_intervened_states"),
    params:
        *code("extract_intervened_states"),
        inputs=lambda wildcards: config["inputs"],
        options=lambda wildcards: intervention_options(wildcards.figure),
        runtime=RUNTIME,
    script:
        "../../scripts/extract_intervened_states.py"


rule score_attention:
    input:
        unpack(intervened_states),
        clean="results/{model}/forward/attention_states.parquet",
    output:
        cells="results/{model}/attention/{figure}.parquet",
    log:
        "results/{model}/logs/score_attention/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/score_attention/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(ATTENTION_FIGURES),
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("score_attention")
    resources:
        **needs("score_attention"),
    params:
        *code("score_attention"),
        options=lambda wildcards: score_options(wildcards.figure),
    script:
        "../../scripts/score_attention.py"


# How much every head attends to the first token, from the same states.
rule score_sink_map:
    input:
        states="results/{model}/forward/attention_states.parquet",
    output:
        scores="results/{model}/attention/sink_map.parquet",
    log:
        "results/{model}/logs/score_sink_map.log",
    benchmark:
        "results/{model}/benchmarks/score_sink_map.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("score_sink_map")
    resources:
        **needs("score_sink_map"),
    params:
        *code("score_sink_map"),
        options=figure_options("sink_map").scored(),
    script:
        "../../scripts/score_sink_map.py"
