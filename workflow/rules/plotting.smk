# Figures and their captions, drawn from tidy scores without torch or the model.


include: "../inputs/plotting.smk"


# Files that are updated are there until the job has succeeded, and are put back if it fails.
rule render_figure:
    input:
        scores=lambda wildcards: f"results/{{model}}/{find_source(wildcards.figure).scores}",
    output:
        pdf=update("results/{model}/figures/{figure}.pdf"),
        svg=update(
            report(
                "results/{model}/figures/{figure}.svg",
                caption="../report/figure.rst",
                category="Figures",
                subcategory="{model}",
                labels={"figure": "{figure}", "file": "figure"},
            )
        ),
        png=update("results/{model}/figures/{figure}.png"),
        caption=update(
            report(
                "results/{model}/figures/{figure}.caption.txt",
                caption="../report/caption.rst",
                category="Figures",
                subcategory="{model}",
                labels={"figure": "{figure}", "file": "caption"},
            )
        ),
        panels=update("results/{model}/figures/{figure}.panels.json"),
        numbers=update("results/{model}/figures/{figure}.numbers.json"),
    log:
        "results/{model}/logs/render_figure/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/render_figure/{figure}.tsv"
    wildcard_constraints:
        figure="|".join([*FIGURE_TABLE, "module_map_[a-z_]+"]),
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("render_figure")
    resources:
        **needs("render_figure"),
    params:
        *code("render_figure"),
        drawing=code_of_drawing,
        module=lambda wildcards: find_source(wildcards.figure).module,
        source=lambda wildcards: find_source(wildcards.figure).scores,
        model=shown_name,
        libraries=LIBRARIES,
        options=options_of_figure,
        style=config["style"],
    script:
        "../../scripts/render_figure.py"
