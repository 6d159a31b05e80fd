# What the rules of workflow.smk take as inputs and params.


def this_run(wildcards):
    """This run's Snakefile, config and settings, for a dry run with the same."""
    return {
        "snakefile": workflow.main_snakefile,
        "config": workflow.config_settings,
        "dag": workflow.dag_settings,
        "cores": workflow.resource_settings.cores or PLANNED_CORES,
    }
