# What a run would take, before it is submitted. Makes nothing and needs neither network nor weights.


include: "../inputs/workflow.smk"


rule plan:
    log:
        "results/_models/logs/plan.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: cores("plan")
    resources:
        **needs("plan"),
    params:
        # as this run was called, so that the dry run reads the same config
        arguments=same_arguments(),
        models=PREPARED,
        protocols=PROTOCOLS,
    script:
        "../../scripts/plan.py"
