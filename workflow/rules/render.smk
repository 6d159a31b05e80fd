# Pictures and captions, from tidy scores alone: no torch, no model. Drawn with other versions of
# the libraries they could look otherwise, so these count.


rule render_attention:
    input:
        cells="results/{model}/attention/{figure}.parquet",
    output:
        pictures=multiext("results/{model}/figures/{figure}", ".pdf", ".svg", ".png"),
        caption="results/{model}/figures/{figure}.caption.txt",
        panels="results/{model}/figures/{figure}.panels.json",
    log:
        "results/{model}/logs/render_attention/{figure}.log",
    benchmark:
        "results/{model}/benchmarks/render_attention/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(ATTENTION_FIGURES),
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("render_attention")
    resources:
        **needs("render_attention"),
    params:
        *code("render_attention"),
        model=shown_name,
        libraries=LIBRARIES,
        options=lambda wildcards: config["figures"][wildcards.figure],
        style=config["style"],
    script:
        "../../scripts/render_attention.py"


rule render_probe:
    input:
        scores="results/{model}/probe/scores.parquet",
    output:
        pictures=multiext("results/{model}/figures/probe_auc", ".pdf", ".svg", ".png"),
        caption="results/{model}/figures/probe_auc.caption.txt",
        panels="results/{model}/figures/probe_auc.panels.json",
    log:
        "results/{model}/logs/render_probe.log",
    benchmark:
        "results/{model}/benchmarks/render_probe.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("render_probe")
    resources:
        **needs("render_probe"),
    params:
        *code("render_probe"),
        model=shown_name,
        libraries=LIBRARIES,
        options=config["figures"]["probe_auc"] | {"protocol": PROTOCOLS["scores"]["protocol"]},
        style=config["style"],
    script:
        "../../scripts/render_probe.py"


rule render_probe_curves:
    input:
        scores="results/{model}/probe/scores.parquet",
    output:
        pictures=multiext("results/{model}/figures/probe_curves", ".pdf", ".svg", ".png"),
        caption="results/{model}/figures/probe_curves.caption.txt",
    log:
        "results/{model}/logs/render_probe_curves.log",
    benchmark:
        "results/{model}/benchmarks/render_probe_curves.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("render_probe_curves")
    resources:
        **needs("render_probe_curves"),
    params:
        *code("render_probe_curves"),
        model=shown_name,
        libraries=LIBRARIES,
        options=config["figures"]["probe_curves"] | {"protocol": PROTOCOLS["scores"]["protocol"]},
        style=config["style"],
    script:
        "../../scripts/render_probe_curves.py"


rule render_probe_presets:
    input:
        scores="results/{model}/probe/presets.parquet",
    output:
        pictures=multiext("results/{model}/figures/probe_presets", ".pdf", ".svg", ".png"),
        caption="results/{model}/figures/probe_presets.caption.txt",
        panels="results/{model}/figures/probe_presets.panels.json",
    log:
        "results/{model}/logs/render_probe_presets.log",
    benchmark:
        "results/{model}/benchmarks/render_probe_presets.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("render_probe_presets")
    resources:
        **needs("render_probe_presets"),
    params:
        *code("render_probe_presets"),
        model=shown_name,
        libraries=LIBRARIES,
        options={
            key: config["figures"]["probe_auc"][key] for key in ("metric", "palette", "limits")
        }
        | {
            "protocols": {
                preset: PROTOCOLS[preset]["protocol"] for preset in ("strict", "published")
            }
        },
        style=config["style"],
    script:
        "../../scripts/render_probe_presets.py"


rule render_modules:
    input:
        scores="results/{model}/modules/scores.parquet",
    output:
        pictures=multiext("results/{model}/figures/{map}", ".pdf", ".svg", ".png"),
        caption="results/{model}/figures/{map}.caption.txt",
        panels="results/{model}/figures/{map}.panels.json",
    log:
        "results/{model}/logs/render_modules/{map}.log",
    benchmark:
        "results/{model}/benchmarks/render_modules/{map}.tsv"
    wildcard_constraints:
        map="module_map(_[a-z_]+)?",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("render_modules")
    resources:
        **needs("render_modules"),
    params:
        *code("render_modules"),
        model=shown_name,
        libraries=LIBRARIES,
        options=map_options,
        style=config["style"],
    script:
        "../../scripts/render_modules.py"


rule render_choices:
    input:
        choices="results/{model}/choices.parquet",
    output:
        pictures=multiext("results/{model}/figures/choices", ".pdf", ".svg", ".png"),
        caption="results/{model}/figures/choices.caption.txt",
    log:
        "results/{model}/logs/render_choices.log",
    benchmark:
        "results/{model}/benchmarks/render_choices.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("render_choices")
    resources:
        **needs("render_choices"),
    params:
        *code("render_choices"),
        model=shown_name,
        libraries=LIBRARIES,
        options={"palette": config["choices"]["palette"]},
        style=config["style"],
    script:
        "../../scripts/render_choices.py"
