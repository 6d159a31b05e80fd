# The stages that run the model: everything later reads what these cache.


rule extract_attention_states:
    input:
        card="results/{model}/model.json",
        code=code("extract_attention_states"),
    output:
        states="results/{model}/forward/attention_states.parquet",
    log:
        "results/{model}/logs/extract_attention_states.log",
    benchmark:
        "results/{model}/benchmarks/extract_attention_states.tsv"
    conda:
        "../../environment.yml"
    params:
        inputs=config["inputs"],
        runtime=RUNTIME,
    script:
        "../../scripts/extract_attention_states.py"


rule build_questions:
    input:
        dataset=config["dataset"]["path"] or [],
        code=code("build_questions"),
    output:
        questions="results/{model}/forward/questions.parquet",
    log:
        "results/{model}/logs/build_questions.log",
    benchmark:
        "results/{model}/benchmarks/build_questions.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        dataset=config["dataset"],
        preamble=config["prompt"]["preamble"],
    script:
        "../../scripts/build_questions.py"


rule generate_answers:
    input:
        card="results/{model}/model.json",
        questions="results/{model}/forward/questions.parquet",
        code=code("generate_answers"),
    output:
        generations="results/{model}/forward/generations/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/generate_answers/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/generate_answers/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    params:
        prompt=config["prompt"],
        batch_size=config["batch_size"],
        runtime=RUNTIME,
    script:
        "../../scripts/generate_answers.py"


rule judge_answers:
    input:
        questions="results/{model}/forward/questions.parquet",
        generations=shard_files("generations"),
        code=code("judge_answers"),
    output:
        answers="results/{model}/forward/answers.parquet",
    log:
        "results/{model}/logs/judge_answers.log",
    benchmark:
        "results/{model}/benchmarks/judge_answers.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    script:
        "../../scripts/judge_answers.py"


rule extract_hidden_states:
    input:
        card="results/{model}/model.json",
        answers="results/{model}/forward/answers.parquet",
        code=code("extract_hidden_states"),
    output:
        states="results/{model}/forward/hidden_states/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/extract_hidden_states/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/extract_hidden_states/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    params:
        batch_size=config["batch_size"],
        runtime=RUNTIME,
    script:
        "../../scripts/extract_hidden_states.py"


rule measure_modules:
    input:
        card="results/{model}/model.json",
        code=code("measure_modules"),
    output:
        activity="results/{model}/forward/module_activity.parquet",
    log:
        "results/{model}/logs/measure_modules.log",
    benchmark:
        "results/{model}/benchmarks/measure_modules.tsv"
    conda:
        "../../environment.yml"
    params:
        texts=config["figures"]["module_map"]["texts"] or config["inputs"],
        key="figures.module_map.texts" if config["figures"]["module_map"]["texts"] else "inputs",
        runtime=RUNTIME,
    script:
        "../../scripts/measure_modules.py"
