# What a run would take, before it is submitted. Makes nothing and needs neither network nor weights.


def same_arguments():
    """Arguments of a dry run with this run's Snakefile, folder and config."""
    settings = workflow.config_settings
    files = [str(file) for file in settings.configfiles]
    keys = [f"{key}={json.dumps(value)}" for key, value in settings.config.items()]
    return [
        *("--snakefile", workflow.main_snakefile, "--directory", os.getcwd()),
        *("--cores", str(workflow.resource_settings.cores or PLANNED_CORES)),
        *(["--configfile", *files] if files else []),
        *(["--config", *keys] if keys else []),
    ]


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
