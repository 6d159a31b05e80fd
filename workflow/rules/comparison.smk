# Compare the run's models and the result folders. Files of models are made; files of folders are used
# as they are, and where one is missing its model is left out.


include: "../inputs/comparison.smk"


rule compare_claims:
    input:
        tables=lambda wildcards: compared_files(CLAIMS_FILE, "results/_models/claims.md"),
    output:
        claims="results/_models/claims.parquet",
        table=report(
            "results/_models/claims.md",
            caption="../report/compared_claims.rst",
            category="Comparison",
            labels={"table": "claims"},
        ),
    log:
        "results/_models/logs/compare_claims.log",
    benchmark:
        "results/_models/benchmarks/compare_claims.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("compare_claims")
    resources:
        **needs("compare_claims"),
    params:
        *code("compare_claims"),
        contents=lambda wildcards: folder_digests(CLAIMS_FILE),
        names=lambda wildcards: compared_models(CLAIMS_FILE),
        missing=lambda wildcards: compared_missing(CLAIMS_FILE),
    script:
        "../../scripts/compare_claims.py"


rule render_comparison:
    input:
        tables=lambda wildcards: compared_files(
            COMPARED[wildcards.figure], f"results/_models/figures/{wildcards.figure}"
        ),
    output:
        pdf=update("results/_models/figures/{figure}.pdf"),
        svg=update(
            report(
                "results/_models/figures/{figure}.svg",
                caption="../report/compared_figure.rst",
                category="Comparison",
                labels={"figure": "{figure}"},
            )
        ),
        png=update("results/_models/figures/{figure}.png"),
        caption=update("results/_models/figures/{figure}.caption.txt"),
    log:
        "results/_models/logs/render_comparison/{figure}.log",
    benchmark:
        "results/_models/benchmarks/render_comparison/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(COMPARED),
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("render_comparison")
    resources:
        **needs("render_comparison"),
    params:
        *code("render_comparison"),
        contents=lambda wildcards: folder_digests(COMPARED[wildcards.figure]),
        names=lambda wildcards: compared_models(COMPARED[wildcards.figure]),
        missing=lambda wildcards: compared_missing(COMPARED[wildcards.figure]),
        folders=lambda wildcards: [folder_name(folder) for folder in config["result_folders"]],
        options=lambda wildcards: compared_options(wildcards.figure),
        style=config["style"],
    script:
        "../../scripts/render_comparison.py"


# The figures' key numbers over the checkpoints.
rule collect_checkpoints:
    input:
        checkpoint_inputs,
    output:
        scores="results/_models/over_checkpoints.parquet",
    log:
        "results/_models/logs/collect_checkpoints.log",
    benchmark:
        "results/_models/benchmarks/collect_checkpoints.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("collect_checkpoints")
    resources:
        **needs("collect_checkpoints"),
    params:
        *code("collect_checkpoints"),
        checkpoints=checkpoint_folders,
        figures=OVER_CHECKPOINTS,
        contents=lambda wildcards: digest_contents(
            checkpoint_files(map(Path, config["result_folders"]))
        ),
    script:
        "../../scripts/collect_checkpoints.py"


rule render_checkpoints:
    input:
        scores="results/_models/over_checkpoints.parquet",
    output:
        pdf=update("results/_models/figures/over_checkpoints.pdf"),
        svg=update(
            report(
                "results/_models/figures/over_checkpoints.svg",
                caption="../report/compared_figure.rst",
                category="Comparison",
                labels={"figure": "over_checkpoints"},
            )
        ),
        png=update("results/_models/figures/over_checkpoints.png"),
        caption=update("results/_models/figures/over_checkpoints.caption.txt"),
        panels=update("results/_models/figures/over_checkpoints.panels.json"),
        numbers=update("results/_models/figures/over_checkpoints.numbers.json"),
    log:
        "results/_models/logs/render_checkpoints.log",
    benchmark:
        "results/_models/benchmarks/render_checkpoints.tsv"
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("render_checkpoints")
    resources:
        **needs("render_checkpoints"),
    params:
        *code("render_checkpoints"),
        model=config["checkpoints"]["model"] or "",
        libraries=LIBRARIES,
        options=config["checkpoints"],
        style=config["style"],
    script:
        "../../scripts/render_checkpoints.py"


# Compare a fine-tuned model's answers with those of its base, where the run has both.
rule compare_training:
    input:
        questions=lambda wildcards: (
            f"results/{model_of(wildcards.model)}/finetuned/questions.parquet"
        ),
        before=lambda wildcards: f"results/{base_of(wildcards.model)}/forward/answers.parquet",
        after="results/{model}/forward/answers.parquet",
    output:
        page=report(
            "results/{model}/finetuned/answers.md",
            caption="../report/trained_answers.rst",
            category="Answers",
            subcategory="{model}",
            labels={"table": "before and after fine-tuning"},
        ),
    log:
        "results/{model}/logs/compare_training.log",
    benchmark:
        "results/{model}/benchmarks/compare_training.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("compare_training")
    resources:
        **needs("compare_training"),
    params:
        *code("compare_training"),
        base=lambda wildcards: base_of(wildcards.model),
    script:
        "../../scripts/compare_training.py"
