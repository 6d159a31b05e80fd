# Linear probes on hidden states. {protocol} is "scores", the configured one, or the name of a preset.


include: "../inputs/probe.smk"


rule extract_hidden_states:
    input:
        model_info="results/{model}/model.json",
        answers="results/{model}{set}/forward/answers.parquet",
    output:
        states=states(
            "results/{model}{set}/forward/hidden_states/{site}/{shard}-of-{shards}.parquet"
        ),
    log:
        "results/{model}/logs/extract_hidden_states{set}/{site}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/extract_hidden_states{set}/{site}/{shard}-of-{shards}.tsv"
    # Both are long and run side by side: shorter jobs fill the cores at their end.
    priority: 1
    conda:
        "../../environment.yml"
    threads: cores("extract_hidden_states")
    resources:
        **needs("extract_hidden_states"),
    params:
        *code("extract_hidden_states"),
        runtime=RUNTIME,
        states_dtype=config["states_dtype"],
    script:
        "../../scripts/extract_hidden_states.py"


rule ask_p_true:
    input:
        model_info="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
    output:
        p_true="results/{model}/forward/p_true/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/ask_p_true/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/ask_p_true/{shard}-of-{shards}.tsv"
    priority: 1
    conda:
        "../../environment.yml"
    threads: cores("ask_p_true")
    resources:
        **needs("ask_p_true"),
    params:
        *code("ask_p_true"),
        ask=config["probe"]["p_true"],
        runtime=RUNTIME,
    script:
        "../../scripts/ask_p_true.py"


rule score_probes:
    input:
        answers="results/{model}/forward/answers.parquet",
        states=states_of_protocol,
    output:
        predictions="results/{model}/probe/predictions/{protocol}/{part}-of-{parts}.parquet",
    log:
        "results/{model}/logs/score_probes/{protocol}/{part}-of-{parts}.log",
    benchmark:
        "results/{model}/benchmarks/score_probes/{protocol}/{part}-of-{parts}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("score_probes")
    resources:
        **needs("score_probes"),
    params:
        *code("score_probes"),
        tokens=lambda wildcards: PROTOCOLS[wildcards.protocol]["tokens"],
        protocol=lambda wildcards: PROTOCOLS[wildcards.protocol]["protocol"],
    script:
        "../../scripts/score_probes.py"


rule collect_probe_scores:
    input:
        answers="results/{model}/forward/answers.parquet",
        predictions=lambda wildcards: expand(
            predictions_of(wildcards.protocol), model=wildcards.model
        ),
        p_true=shard_files("p_true") if config["probe"]["p_true"] else [],
        states=states_of_protocol,
    output:
        scores="results/{model}/probe/{protocol}.parquet",
    log:
        "results/{model}/logs/collect_probe_scores/{protocol}.log",
    benchmark:
        "results/{model}/benchmarks/collect_probe_scores/{protocol}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("collect_probe_scores")
    resources:
        **needs("collect_probe_scores"),
    params:
        *code("collect_probe_scores"),
        tokens=lambda wildcards: PROTOCOLS[wildcards.protocol]["tokens"],
        protocol=lambda wildcards: PROTOCOLS[wildcards.protocol]["protocol"],
        shuffles=config["probe"]["shuffles"],
    script:
        "../../scripts/collect_probe_scores.py"


rule compare_presets:
    input:
        strict=scores_of_preset("strict"),
        published=scores_of_preset("published"),
        published_output=scores_of_preset("published_output"),
    output:
        scores="results/{model}/probe/presets.parquet",
    log:
        "results/{model}/logs/compare_presets.log",
    benchmark:
        "results/{model}/benchmarks/compare_presets.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("compare_presets")
    resources:
        **needs("compare_presets"),
    params:
        *code("compare_presets"),
    script:
        "../../scripts/compare_presets.py"


# A probe on every attention head at one token, whatever probe.site is.
rule score_probe_heads:
    input:
        answers="results/{model}/forward/answers.parquet",
        states=shard_files("hidden_states/head"),
        p_true=shard_files("p_true") if config["probe"]["p_true"] else [],
    output:
        scores="results/{model}/probe/heads.parquet",
    log:
        "results/{model}/logs/score_probe_heads.log",
    benchmark:
        "results/{model}/benchmarks/score_probe_heads.tsv"
    conda:
        "../../environment.yml"
    threads: cores("score_probe_heads")
    resources:
        **needs("score_probe_heads"),
    params:
        *code("score_probe_heads"),
        token=config["figures"]["probe_heads"]["token"],
        protocol=HEADS_PROTOCOL,
    script:
        "../../scripts/score_probe_heads.py"


# The probes of chosen cells for others to use, fitted on all training questions.
rule export_probes:
    input:
        model_info="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
        states=states_of_protocol,
        scores=scores_to_export,
    output:
        probes="results/{model}/probe/export/probes.safetensors",
        card="results/{model}/probe/export/probes.json",
    log:
        "results/{model}/logs/export_probes.log",
    benchmark:
        "results/{model}/benchmarks/export_probes.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("export_probes")
    resources:
        **needs("export_probes"),
    params:
        *code("export_probes"),
        export=config["probe"]["export"],
        tokens=PROTOCOLS["scores"]["tokens"],
        protocol=PROTOCOLS["scores"]["protocol"],
        # what was asked, how, and what is right, for the card; a function, for prompts hold braces
        questions=lambda wildcards: {
            "dataset": config["dataset"],
            "prompt": PROMPT,
            "exact_answer": config["exact_answer"],
            "judge": JUDGE,
        },
    script:
        "../../scripts/export_probes.py"


# The best cell of the configured probe: permutations of the labels, and scores by group.
rule score_best_cell:
    input:
        answers="results/{model}/forward/answers.parquet",
        states=states_of_protocol,
        predictions=predictions_of("scores"),
        scores="results/{model}/probe/scores.parquet",
        p_true=shard_files("p_true") if config["probe"]["p_true"] else [],
    output:
        best="results/{model}/probe/best.parquet",
        groups="results/{model}/probe/groups.parquet",
    log:
        "results/{model}/logs/score_best_cell.log",
    benchmark:
        "results/{model}/benchmarks/score_best_cell.tsv"
    conda:
        "../../environment.yml"
    threads: cores("score_best_cell")
    resources:
        **needs("score_best_cell"),
    params:
        *code("score_best_cell"),
        tokens=PROTOCOLS["scores"]["tokens"],
        protocol=PROTOCOLS["scores"]["protocol"],
        shuffles=config["probe"]["shuffles"],
        options={
            key: config["figures"]["probe_best"][key]
            for key in ("permutations", "repeats", "shuffle", "seed")
        },
    script:
        "../../scripts/score_best_cell.py"


rule score_error_kinds:
    input:
        answers="results/{model}/forward/answers.parquet",
        kinds="results/{model}/forward/error_kinds.parquet",
        states=states_of_protocol,
    output:
        scores="results/{model}/probe/error_kinds.parquet",
    log:
        "results/{model}/logs/score_error_kinds.log",
    benchmark:
        "results/{model}/benchmarks/score_error_kinds.tsv"
    conda:
        "../../environment.yml"
    threads: cores("score_error_kinds")
    resources:
        **needs("score_error_kinds"),
    params:
        *code("score_error_kinds"),
        tokens=config["figures"]["error_kinds"]["tokens"],
        protocol=PROTOCOLS["scores"]["protocol"],
    script:
        "../../scripts/score_error_kinds.py"


rule extract_sample_states:
    input:
        model_info="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
        samples="results/{model}/forward/samples.parquet",
    output:
        states=states("results/{model}/forward/sample_states/{site}/{shard}-of-{shards}.parquet"),
    log:
        "results/{model}/logs/extract_sample_states/{site}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/extract_sample_states/{site}/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_sample_states")
    resources:
        **needs("extract_sample_states"),
    params:
        *code("extract_sample_states"),
        token=config["figures"]["answer_choice"]["token"],
        runtime=RUNTIME,
        states_dtype=config["states_dtype"],
    script:
        "../../scripts/extract_sample_states.py"


rule choose_answers:
    input:
        answers="results/{model}/forward/answers.parquet",
        samples="results/{model}/forward/samples.parquet",
        kinds="results/{model}/forward/error_kinds.parquet",
        states=states_of_protocol,
        sample_states=shard_files(f"sample_states/{PROTOCOLS['scores']['protocol']['site']}"),
    output:
        scores="results/{model}/probe/answer_choice.parquet",
    log:
        "results/{model}/logs/choose_answers.log",
    benchmark:
        "results/{model}/benchmarks/choose_answers.tsv"
    conda:
        "../../environment.yml"
    threads: cores("choose_answers")
    resources:
        **needs("choose_answers"),
    params:
        *code("choose_answers"),
        token=config["figures"]["answer_choice"]["token"],
        protocol=PROTOCOLS["scores"]["protocol"],
    script:
        "../../scripts/choose_answers.py"


# Probes that are trained on one set of questions and tested on another.
rule score_transfer:
    input:
        answers=[f"results/{{model}}{part}/forward/answers.parquet" for part in PARTS.values()],
        states=[file for part in PARTS.values() for file in states_of_set(part)],
    output:
        scores="results/{model}/probe/transfer.parquet",
    log:
        "results/{model}/logs/score_transfer.log",
    benchmark:
        "results/{model}/benchmarks/score_transfer.tsv"
    conda:
        "../../environment.yml"
    threads: cores("score_transfer")
    resources:
        **needs("score_transfer"),
    params:
        *code("score_transfer"),
        names=list(SETS),
        options={
            key: config["figures"]["probe_transfer"][key]
            for key in ("sets", "by_group", "layer", "tokens")
        },
        protocol=PROTOCOLS["scores"]["protocol"] | {"controls": []},
    script:
        "../../scripts/score_transfer.py"
