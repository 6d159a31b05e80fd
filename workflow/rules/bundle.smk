# One archive for a paper: what the figures are drawn from, and what it takes to trust them.


rule bundle_results:
    input:
        card="results/{model}/model.json",
        manifest="results/{model}/manifest.json",
        files=bundled_files,
    output:
        bundle="results/{model}/{model}.bundle.zip",
    log:
        "results/{model}/logs/bundle_results.log",
    benchmark:
        "results/{model}/benchmarks/bundle_results.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("bundle_results")
    resources:
        **needs("bundle_results"),
    params:
        *code("bundle_results"),
        config=config,
        libraries=LIBRARIES,
    script:
        "../../scripts/bundle_results.py"
