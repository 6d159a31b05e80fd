# What a run prints while it works, and at its end.
#
# Snakemake's own way would be a logger plugin. It must be an installed package before Snakemake
# starts, and a profile that names one that is not there ends every run. Handlers and filters of
# Snakemake's logger work from a clone with any of the requirements, from another folder, and with any
# profile; a `--logger` of the user's is left alone.

import time

from snakemake.logging import logger
from snakemake_interface_executor_plugins.settings import ExecMode

from llm_figures.provenance.outdated import find_outdated
from llm_figures.workflow.job_graph import list_files, list_tasks
from llm_figures.workflow.run_console import CONSOLE, RunMonitor
from llm_figures.workflow.run_progress import RunProgress
from llm_figures.workflow.run_summary import describe_claims, describe_end
from llm_figures.workflow.targets import ExplainTarget


def console():
    """Snakemake's handler of the terminal; None where the user's own options say what it prints."""
    settings = workflow.output_settings
    if settings.quiet or settings.verbose or settings.debug_dag:
        return None
    found = next((handler for handler in logger.handlers if handler.name == CONSOLE), None)
    return found if found and found.stream else None  # none where stderr is closed


def begin_run():
    """Say how much there is to do, and from now on how far it is."""
    settings = workflow.resource_settings
    here, elsewhere = (
        (settings.cores, None)
        if workflow.local_exec
        else (settings.local_cores or os.cpu_count(), settings.nodes)
    )
    MONITOR.begin(RunProgress(list_tasks(workflow.dag, needed_by), here, elsewhere))


def needed_by(job):
    """What a job needs."""
    protocol = job.wildcards_dict.get("protocol", "scores")
    return estimate(job.rule.name, *sizes(job.rule.name, job.wildcards), job.threads, protocol)


def end_of_run(success=True):
    """Lines for the end of the run."""
    files, pages = list_files(workflow.dag)
    failed = [*MONITOR.failed.values()]
    if success:
        yield from describe_claims([f"results/{model}/claims.md" for model in MODELS], files)
    outdated = find_outdated(RESULTS / model for model in MODELS) if success else []
    took = time.time() - MONITOR.began
    yield from describe_end(files, pages, failed, success, took, outdated)
    if MONITOR.run:
        logs = map(os.path.relpath, workflow.logger_manager.get_logfile())
        yield f"What Snakemake did: {', '.join(logs)}"


def figures_of_run(model):
    """The names of all figures that can be drawn of a model."""
    return [*default_figures(model), *FURTHER]


# Targets of somebody else's workflow, which imports this one as a module, are not ours to explain.
if workflow.exec_mode == ExecMode.DEFAULT and workflow.modifier.is_main_snakefile():
    # other rules make files, by which a user names them
    TARGETS = [rule.name for rule in workflow.modifier.rules if not rule.output]
    logger.addFilter(ExplainTarget(TARGETS, [*MODELS], figures_of_run))

# Not for jobs, which read the Snakefile as well, nor for dry runs, nor in a run of somebody else's
# workflow that imports this one as a module.
if (
    workflow.exec_mode == ExecMode.DEFAULT
    and workflow.modifier.is_main_snakefile()
    and not workflow.output_settings.dryrun
):
    MONITOR = RunMonitor(logger, console(), end_of_run)
    logger.addHandler(MONITOR)

    onstart:
        MONITOR.leave_to_snakemake() if workflow.touch else begin_run()

    onsuccess:
        MONITOR.end([] if workflow.touch else end_of_run())

    onerror:
        MONITOR.end(end_of_run(success=False))
