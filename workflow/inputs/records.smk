# Before the jobs are planned: who holds this folder, and what its results were made from.

from snakemake.logging import logger
from snakemake.persistence.db import DbPersistence
from snakemake.persistence.file import FilePersistence
from snakemake.settings.types import ExecMode, PersistenceBackend

from llm_figures.core.result_folders import RESULTS
from llm_figures.provenance.locks import NameHolder, hold_folder
from llm_figures.provenance.shared_results import find_other_runs, share_results
from llm_figures.provenance.snakemake_records import restore_records


def own_output(file):
    """Whether a rule of this workflow makes the file."""
    return any(rule.is_producer(file) for rule in workflow.modifier.rules)


def open_persistence():
    """Snakemake's own records, which it opens only after the Snakefile is read."""
    settings = workflow.workflow_settings
    if settings.persistence_backend == PersistenceBackend.FILE:
        return FilePersistence()
    url = settings.persistence_backend_db_url
    return DbPersistence(**({"db_url": url} if url else {}))


# Only the process that a user starts: those of its jobs read the Snakefile as well.
if workflow.exec_mode == ExecMode.DEFAULT:
    logger.addFilter(NameHolder())
    if not workflow.output_settings.dryrun and (removed := hold_folder()):
        logger.warning(removed)
    # with environments of their own (--sdm conda), jobs have other versions than this process
    strict = None if workflow.deployment_settings.deployment_method else STRICT
    for folder in [] if BUNDLE else MODELS:
        # scores of a figure that nobody asks for would put it into the report
        unasked = [FIGURE_TABLE[name].scores for name in FURTHER]
        runs = find_other_runs(RESULTS, model_of(folder), folder)
        with user_errors():
            share_results(RESULTS / folder, runs, unasked)
    folders = [RESULTS / name for name in (*PREPARED, "_models")]
    for line in restore_records(folders, own_output, open_persistence(), strict):
        logger.warning(line)
