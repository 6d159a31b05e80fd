# Questions, the model's answers, and whether they are right. {set} is empty for the run's own
# questions, and /datasets/NAME for a further set of them, of which only probe_transfer has need.


include: "../inputs/questions.smk"


rule build_questions:
    input:
        dataset=local_question_files,
    output:
        questions="results/{model}{set}/forward/questions.parquet",
        left_out="results/{model}{set}/forward/questions_left_out.parquet",
    log:
        "results/{model}/logs/build_questions{set}.log",
    benchmark:
        "results/{model}/benchmarks/build_questions{set}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("build_questions")
    resources:
        **needs("build_questions"),
    params:
        *code("build_questions"),
        contents=lambda wildcards: digest_contents(local_question_files(wildcards)),
        dataset=dataset_of,
        preamble=lambda wildcards: PROMPT.get("preamble", ""),
    script:
        "../../scripts/build_questions.py"


# The answers are generated, or read where the questions bring them along.


rule generate_answers:
    input:
        model_info="results/{model}/model.json",
        questions="results/{model}{set}/forward/questions.parquet",
    output:
        generations="results/{model}{set}/forward/generations/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/generate_answers{set}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/generate_answers{set}/{shard}-of-{shards}.tsv"
    wildcard_constraints:
        set=sets_with_responses(False),
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


rule read_responses:
    input:
        model_info="results/{model}/model.json",
        questions="results/{model}{set}/forward/questions.parquet",
    output:
        generations="results/{model}{set}/forward/generations/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/read_responses{set}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/read_responses{set}/{shard}-of-{shards}.tsv"
    wildcard_constraints:
        set=sets_with_responses(True),
    conda:
        "../../environment.yml"
    threads: cores("read_responses")
    resources:
        **needs("read_responses"),
    params:
        *code("read_responses"),
        prompt=QUESTION_ONLY,
        runtime=RUNTIME,
    script:
        "../../scripts/read_responses.py"


rule quote_answers:
    input:
        model_info="results/{model}/model.json",
        questions="results/{model}{set}/forward/questions.parquet",
        generations="results/{model}{set}/forward/generations/{shard}-of-{shards}.parquet",
    output:
        quotes="results/{model}{set}/forward/quotes/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/quote_answers{set}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/quote_answers{set}/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("quote_answers")
    resources:
        **needs("quote_answers"),
    params:
        *code("quote_answers"),
        exact_answer=exact_answer_options("prompt", "max_new_tokens"),
        runtime=RUNTIME,
    script:
        "../../scripts/quote_answers.py"


rule ask_judge:
    input:
        model_info=judging_model,
        questions="results/{model}{set}/forward/questions.parquet",
        generations="results/{model}{set}/forward/generations/{shard}-of-{shards}.parquet",
        quotes=(
            "results/{model}{set}/forward/quotes/{shard}-of-{shards}.parquet"
            if config["exact_answer"]["method"] == "model"
            else []
        ),
    output:
        replies="results/{model}{set}/forward/replies/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/ask_judge{set}/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/ask_judge{set}/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("ask_judge")
    resources:
        **needs("ask_judge"),
    params:
        *code("ask_judge"),
        exact_answer=exact_answer_options("method", "pattern"),
        judge=JUDGE,
        runtime=RUNTIME,
    script:
        "../../scripts/ask_judge.py"


rule judge_answers:
    input:
        questions="results/{model}{set}/forward/questions.parquet",
        generations=shard_files("generations", "{{set}}"),
        quotes=(
            shard_files("quotes", "{{set}}") if config["exact_answer"]["method"] == "model" else []
        ),
        replies=(shard_files("replies", "{{set}}") if config["judge"]["method"] == "model" else []),
    output:
        answers="results/{model}{set}/forward/answers.parquet",
    log:
        "results/{model}/logs/judge_answers{set}.log",
    benchmark:
        "results/{model}/benchmarks/judge_answers{set}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("judge_answers")
    resources:
        **needs("judge_answers"),
    params:
        *code("judge_answers"),
        exact_answer=exact_answer_options("method", "pattern"),
        judge=JUDGE,
    script:
        "../../scripts/judge_answers.py"


# A job of its own: where the page was deleted, nothing is judged or probed again. Errors about the
# answers refer to it, so it comes first.
rule report_answers:
    input:
        answers="results/{model}{set}/forward/answers.parquet",
        left_out="results/{model}{set}/forward/questions_left_out.parquet",
    output:
        report=report(
            "results/{model}{set}/forward/answers.md",
            caption="../report/answers.rst",
            category="Answers",
            subcategory="{model}",
            labels={"table": "answers"},
        ),
    log:
        "results/{model}/logs/report_answers{set}.log",
    benchmark:
        "results/{model}/benchmarks/report_answers{set}.tsv"
    priority: 1
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("report_answers")
    resources:
        **needs("report_answers"),
    params:
        *code("report_answers"),
        seed=lambda wildcards: dataset_of(wildcards)["seed"],
    script:
        "../../scripts/report_answers.py"


rule sample_answers:
    input:
        model_info="results/{model}/model.json",
        questions=sampled_questions,
    output:
        generations="results/{model}/forward/samples/{shard}-of-{shards}.parquet",
    log:
        "results/{model}/logs/sample_answers/{shard}-of-{shards}.log",
    benchmark:
        "results/{model}/benchmarks/sample_answers/{shard}-of-{shards}.tsv"
    conda:
        "../../environment.yml"
    threads: cores("sample_answers")
    resources:
        **needs("sample_answers"),
    params:
        *code("sample_answers"),
        prompt=PROMPT,
        resamples=SAMPLING,
        runtime=RUNTIME,
    script:
        "../../scripts/sample_answers.py"


rule judge_samples:
    input:
        questions="results/{model}/forward/questions.parquet",
        generations=shard_files("samples"),
    output:
        samples="results/{model}/forward/samples.parquet",
    log:
        "results/{model}/logs/judge_samples.log",
    benchmark:
        "results/{model}/benchmarks/judge_samples.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("judge_samples")
    resources:
        **needs("judge_samples"),
    params:
        *code("judge_samples"),
        exact_answer=exact_answer_options("method", "pattern"),
        judge=JUDGE,
    script:
        "../../scripts/judge_samples.py"


rule assign_kinds:
    input:
        samples="results/{model}/forward/samples.parquet",
    output:
        kinds="results/{model}/forward/error_kinds.parquet",
    log:
        "results/{model}/logs/assign_kinds.log",
    benchmark:
        "results/{model}/benchmarks/assign_kinds.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("assign_kinds")
    resources:
        **needs("assign_kinds"),
    params:
        *code("assign_kinds"),
        taxonomy=config["resamples"]["taxonomy"],
    script:
        "../../scripts/assign_kinds.py"
