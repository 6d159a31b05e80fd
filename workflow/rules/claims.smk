# Check published statements about each figure against the numbers behind it.


include: "../inputs/claims.smk"


rule check_attention_claims:
    input:
        unpack(intervened_states),
        cells="results/{model}/attention/{figure}.parquet",
        clean="results/{model}/forward/attention_states.parquet",
        random_weights="results/{model}/forward/random_weights_states.parquet",
    output:
        claims="results/{model}/claims/{figure}.parquet",
    log:
        "results/{model}/logs/check_attention_claims/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/check_attention_claims/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(ATTENTION_FIGURES),
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("check_attention_claims")
    resources:
        **needs("check_attention_claims"),
    params:
        *code("check_attention_claims"),
        claims=lambda wildcards: claims_of(wildcards.figure),
        options=lambda wildcards: score_options(wildcards.figure),
    script:
        "../../scripts/check_attention_claims.py"


rule check_probe_claims:
    input:
        answers="results/{model}/forward/answers.parquet",
        scores="results/{model}/probe/scores.parquet",
        predictions=predictions_of("scores"),
    output:
        claims="results/{model}/claims/probe_auc.parquet",
    log:
        "results/{model}/logs/check_probe_claims.log",
    benchmark:
        "results/{model}/benchmarks/check_probe_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("check_probe_claims")
    resources:
        **needs("check_probe_claims"),
    params:
        *code("check_probe_claims"),
        claims=claims_of("probe_auc"),
        seed=config["probe"]["seed"],
    script:
        "../../scripts/check_probe_claims.py"


rule check_module_claims:
    input:
        unpack(measured_on_texts),
        scores="results/{model}/modules/scores.parquet",
    output:
        claims="results/{model}/claims/module_map.parquet",
    log:
        "results/{model}/logs/check_module_claims.log",
    benchmark:
        "results/{model}/benchmarks/check_module_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("check_module_claims")
    resources:
        **needs("check_module_claims"),
    params:
        *code("check_module_claims"),
        claims=claims_of("module_map"),
        metric=lambda wildcards: module_metrics(wildcards.model)[0],
    script:
        "../../scripts/check_module_claims.py"


# Claims about any other figure. Outside the target `figures`, they are collected nowhere else.
rule check_table_claims:
    input:
        scores=lambda wildcards: f"results/{{model}}/{find_source(wildcards.figure).scores}",
    output:
        claims="results/{model}/claims/{figure}.parquet",
        page=report(
            "results/{model}/claims/{figure}.md",
            caption="../report/claims.rst",
            category="Claims",
            subcategory="{model}",
            labels={"table": "{figure}"},
        ),
    log:
        "results/{model}/logs/check_table_claims/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/check_table_claims/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(TABLE_FIGURES) or "(?!)",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("check_table_claims")
    resources:
        **needs("check_table_claims"),
    params:
        *code("check_table_claims"),
        figure_code=code_of_drawing,
        module=lambda wildcards: find_source(wildcards.figure).module,
        claims=lambda wildcards: claims_of(wildcards.figure),
        options=options_of_figure,
    script:
        "../../scripts/check_table_claims.py"


rule collect_claims:
    input:
        claims=[
            f"results/{{model}}/claims/{figure}.parquet" for figure in FIGURES if claims_of(figure)
        ],
    output:
        claims="results/{model}/claims.parquet",
        page=report(
            "results/{model}/claims.md",
            caption="../report/claims.rst",
            category="Claims",
            subcategory="{model}",
            labels={"table": "claims"},
        ),
    log:
        "results/{model}/logs/collect_claims.log",
    benchmark:
        "results/{model}/benchmarks/collect_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("collect_claims")
    resources:
        **needs("collect_claims"),
    params:
        *code("collect_claims"),
    script:
        "../../scripts/collect_claims.py"


rule guard_claims:
    input:
        claims=["results/{model}/claims.parquet", *guarded_further()],
        # a failing guard ends the run, so it waits for the claims of every model
        every=of_models("claims.parquet", "claims.md"),
    output:
        "results/{model}/claims/guarded.txt",
    log:
        "results/{model}/logs/guard_claims.log",
    benchmark:
        "results/{model}/benchmarks/guard_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("guard_claims")
    resources:
        **needs("guard_claims"),
    params:
        *code("guard_claims"),
        guarded=GUARDED,
    script:
        "../../scripts/guard_claims.py"


# Check the same statements on every combination of open choices. An intervention in the displayed
# layer only needs no model; one in every layer is a short pass per text and intervention, whatever
# the number of displayed layers and heads.


rule extract_choice_states:
    input:
        model_info="results/{model}/model.json",
        states="results/{model}/forward/attention_states.parquet",
    output:
        states=states("results/{model}/forward/intervened_states/choices.parquet"),
    log:
        "results/{model}/logs/extract_choice_states.log",
    benchmark:
        "results/{model}/benchmarks/extract_choice_states.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_choice_states")
    resources:
        **needs("extract_choice_states"),
    params:
        *code("extract_choice_states"),
        inputs=lambda wildcards: config["inputs"],
        # heads are chosen later, from the stored states
        choices={key: value for key, value in CHOICES.items() if key != "head"} | {"head": ["mean"]},
        figures=CHOICE_FIGURES,
        runtime=RUNTIME,
    script:
        "../../scripts/extract_choice_states.py"


rule compare_choices:
    input:
        unpack(choice_states),
        clean="results/{model}/forward/attention_states.parquet",
    output:
        choices="results/{model}/choices.parquet",
        page=report(
            "results/{model}/choices.md",
            caption="../report/choices.rst",
            category="Claims",
            subcategory="{model}",
            labels={"table": "choices"},
        ),
    log:
        "results/{model}/logs/compare_choices.log",
    benchmark:
        "results/{model}/benchmarks/compare_choices.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("compare_choices")
    resources:
        **needs("compare_choices"),
    params:
        *code("compare_choices"),
        claims=CHOICE_CLAIMS,
        choices=CHOICES,
        figures=CHOICE_FIGURES,
    script:
        "../../scripts/compare_choices.py"
