# Plan a run: its jobs, memory, disk and time. Makes no file and needs neither network nor weights.


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
        run=this_run,
        models=PREPARED,
        protocols=PROTOCOLS,
    script:
        "../../scripts/plan.py"
