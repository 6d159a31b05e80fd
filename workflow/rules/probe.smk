# Linear probes on the hidden states.


rule score_probes:
    input:
        answers="results/{model}/forward/answers.parquet",
        states=shard_files("hidden_states"),
        code=code("score_probes"),
    output:
        scores="results/{model}/probe/scores.parquet",
    log:
        "results/{model}/logs/score_probes.log",
    benchmark:
        "results/{model}/benchmarks/score_probes.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    params:
        tokens=config["figures"]["probe_auc"]["tokens"],
        probe=config["probe"],
    script:
        "../../scripts/score_probes.py"
