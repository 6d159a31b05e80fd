# What the rules of workflow.smk take as inputs and params.

# Cores of a node, if the run has no number of its own, as on a cluster.
PLANNED_CORES = 64


def this_run(wildcards):
    """This run's Snakefile, config and settings, for a dry run of it."""
    return {
        "snakefile": workflow.main_snakefile,
        "config": workflow.config_settings,
        "dag": workflow.dag_settings,
        "cores": workflow.resource_settings.cores or PLANNED_CORES,
    }
