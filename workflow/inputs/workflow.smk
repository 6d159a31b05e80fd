# What the rules of workflow.smk take as inputs and params.


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
