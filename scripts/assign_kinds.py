"""Find the kind of error of every question from its samples."""

from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.questions.error_kinds import assign_kinds
from llm_figures.questions.resampling_options import ErrorTaxonomy

if "snakemake" in globals():
    with job(snakemake):
        taxonomy = read_options(
            ErrorTaxonomy, snakemake.params.taxonomy, "config: resamples.taxonomy"
        )
        kinds = assign_kinds(read_frame(snakemake.input.samples), taxonomy)
        for kind, number in kinds["kind"].value_counts().items():
            log.info("%s: %d of %d questions", kind, number, len(kinds))
        write_frame(kinds, snakemake.output.kinds)
