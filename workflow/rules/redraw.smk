# Draw the figures from an archive instead of a model: unpack its files, draw with the usual rule, and
# compare the figures with those in the archive.


# Without a model, there are neither claims to guard nor files for these targets.
GUARDED = []
comparisons = needs_model("compare")
checkpoint_curves = needs_model("over_checkpoints")
training_shown = needs_model("finetune_demo")
archives = needs_model("another archive")
lost_files = of_models(*BUNDLE.others)


rule unpack_bundle:
    input:
        bundle=BUNDLE.path,
    output:
        expand("results/{{model}}/{file}", file=BUNDLE.others),
    log:
        "results/{model}/logs/unpack_bundle.log",
    benchmark:
        "results/{model}/benchmarks/unpack_bundle.tsv"
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("unpack_bundle")
    resources:
        **needs("unpack_bundle"),
    params:
        *code("unpack_bundle"),
        # an archive that replaces another one may be older
        sha256=BUNDLE.sha256,
    script:
        "../../scripts/unpack_bundle.py"


rule check_redraw:
    input:
        bundle=BUNDLE.path,
        figures=expand("results/{{model}}/figures/{file}", file=BUNDLE.figures),
    output:
        record="results/{model}/redraw.json",
    log:
        "results/{model}/logs/check_redraw.log",
    benchmark:
        "results/{model}/benchmarks/check_redraw.tsv"
    localrule: True
    conda:
        "../envs/drawing.yml"
    threads: cores("check_redraw")
    resources:
        **needs("check_redraw"),
    params:
        *code("check_redraw"),
        sha256=BUNDLE.sha256,
        libraries=LIBRARIES,
        changed=CHANGED,
    script:
        "../../scripts/check_redraw.py"
