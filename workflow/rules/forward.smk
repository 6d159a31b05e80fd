# The stages that run the model: everything later reads what these cache.


rule extract_attention_states:
    input:
        card="results/{model}/model.json",
    output:
        states="results/{model}/forward/attention_states.parquet",
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


rule build_questions:
    input:
        dataset=question_files(),
    output:
        questions="results/{model}/forward/questions.parquet",
        left_out="results/{model}/forward/questions_left_out.parquet",
    log:
        "results/{model}/logs/build_questions.log",
    benchmark:
        "results/{model}/benchmarks/build_questions.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("build_questions")
    resources:
        **needs("build_questions"),
    params:
        *code("build_questions"),
        dataset=config["dataset"],
        preamble=lambda wildcards: PROMPT.get("preamble", ""),
    script:
        "../../scripts/build_questions.py"


rule generate_answers:
    input:
        card="results/{model}/model.json",
        questions="results/{model}/forward/questions.parquet",
    output:
        generations="results/{model}/forward/generations/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/generate_answers/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/generate_answers/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("generate_answers")
    resources:
        **needs("generate_answers"),
    params:
        *code("generate_answers"),
        prompt=PROMPT,
        runtime=RUNTIME,
    script:
        "../../scripts/generate_answers.py"


rule quote_answers:
    input:
        card="results/{model}/model.json",
        questions="results/{model}/forward/questions.parquet",
        generations="results/{model}/forward/generations/{shard}-of-{shards}.parquet",
    output:
        quotes="results/{model}/forward/quotes/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/quote_answers/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/quote_answers/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("quote_answers")
    resources:
        **needs("quote_answers"),
    params:
        *code("quote_answers"),
        exact_answer={key: config["exact_answer"][key] for key in ("prompt", "max_new_tokens")},
        runtime=RUNTIME,
    script:
        "../../scripts/quote_answers.py"


rule judge_answers:
    input:
        questions="results/{model}/forward/questions.parquet",
        left_out="results/{model}/forward/questions_left_out.parquet",
        generations=shard_files("generations"),
        quotes=(shard_files("quotes") if config["exact_answer"]["method"] == "model" else []),
    output:
        answers="results/{model}/forward/answers.parquet",
        report="results/{model}/forward/answers.md",
    log:
        "results/{model}/logs/judge_answers.log",
    benchmark:
        "results/{model}/benchmarks/judge_answers.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("judge_answers")
    resources:
        **needs("judge_answers"),
    params:
        *code("judge_answers"),
        method=config["exact_answer"]["method"],
        pattern=lambda wildcards: config["exact_answer"]["pattern"],
        seed=config["dataset"]["seed"],
    script:
        "../../scripts/judge_answers.py"


rule extract_hidden_states:
    input:
        card="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
    output:
        states="results/{model}/forward/hidden_states/{site}/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/extract_hidden_states/{site}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/extract_hidden_states/{site}/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_hidden_states")
    resources:
        **needs("extract_hidden_states"),
    params:
        *code("extract_hidden_states"),
        runtime=RUNTIME,
    script:
        "../../scripts/extract_hidden_states.py"


rule ask_p_true:
    input:
        card="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
    output:
        p_true="results/{model}/forward/p_true/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/ask_p_true/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/ask_p_true/{shard}-of-{shards}.tsv"
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


rule measure_modules:
    input:
        card="results/{model}/model.json",
    output:
        activity="results/{model}/forward/module_activity.parquet",
    log:
        "results/{model}/logs/measure_modules.log",
    benchmark:
        "results/{model}/benchmarks/measure_modules.tsv"
    conda:
        "../../environment.yml"
    threads: cores("measure_modules")
    resources:
        **needs("measure_modules"),
    params:
        *code("measure_modules"),
        **MAP_TEXTS,
        runtime=RUNTIME,
    script:
        "../../scripts/measure_modules.py"


rule ablate_modules:
    input:
        card="results/{model}/model.json",
    output:
        ablation="results/{model}/forward/module_ablation.parquet",
    log:
        "results/{model}/logs/ablate_modules.log",
    benchmark:
        "results/{model}/benchmarks/ablate_modules.tsv"
    conda:
        "../../environment.yml"
    threads: cores("ablate_modules")
    resources:
        **needs("ablate_modules"),
    params:
        *code("ablate_modules"),
        **MAP_TEXTS,
        runtime=RUNTIME,
    script:
        "../../scripts/ablate_modules.py"


rule extract_module_states:
    input:
        card="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
    output:
        states="results/{model}/forward/module_states/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/extract_module_states/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/extract_module_states/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("extract_module_states")
    resources:
        **needs("extract_module_states"),
    params:
        *code("extract_module_states"),
        token=config["figures"]["module_map"]["probe_token"],
        runtime=RUNTIME,
    script:
        "../../scripts/extract_module_states.py"
