# Numbers, tables and figures of a model as LaTeX, in one folder that a document takes in.


include: "../inputs/paper.smk"


rule copy_figure:
    input:
        pdf="results/{model}/figures/{figure}.pdf",
        numbers="results/{model}/figures/{figure}.numbers.json",
        scores=lambda wildcards: f"results/{{model}}/{find_source(wildcards.figure).scores}",
    output:
        pdf="results/{model}/paper/figures/{figure}.pdf",
        csv="results/{model}/paper/figures/{figure}.csv",
    log:
        "results/{model}/logs/copy_figure/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/copy_figure/{figure}.tsv"
    wildcard_constraints:
        figure="|".join([*FIGURE_TABLE, "module_map_[a-z_]+"]),
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("copy_figure")
    resources:
        **needs("copy_figure"),
    params:
        *code("copy_figure"),
        model=shown_name,
    script:
        "../../scripts/copy_figure.py"


rule write_paper:
    input:
        unpack(paper_answers),
        numbers=paper_files("numbers.json"),
        pdfs=paper_files("pdf"),
        claims=paper_claims,
        scores="results/{model}/probe/scores.parquet",
        manifest="results/{model}/manifest.json",
    output:
        expand("results/{{model}}/paper/{file}", file=PAPER),
    log:
        "results/{model}/logs/write_paper.log",
    benchmark:
        "results/{model}/benchmarks/write_paper.tsv"
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("write_paper")
    resources:
        **needs("write_paper"),
    params:
        *code("write_paper"),
        model=shown_name,
        figures=lambda wildcards: paper_figures(wildcards.model),
        options=paper_options,
    script:
        "../../scripts/write_paper.py"
