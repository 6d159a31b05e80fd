"""Evaluate the claims about a figure whose module lists their cells, and render them."""

from collections.abc import Mapping, Sequence
from importlib import import_module

from llm_figures.claims.claim import FigureClaim, read_figure_claims
from llm_figures.claims.page import log_verdicts, render_claims_page
from llm_figures.claims.table_claims import check_table_claims
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.result_folders import name_model


def main(
    model: str,
    claims: Sequence[FigureClaim],
    scores: str,
    module: str,
    options: Mapping,
    table: str,
    page: str,
) -> None:
    """module: of the figure; its `list_claim_cells` takes the scores and its options."""
    figure = import_module(module)
    own = read_options(figure.OPTIONS, options, "config")
    verdicts = check_table_claims(model, claims, figure.list_claim_cells(read_frame(scores), own))
    log_verdicts(log, verdicts)
    write_frame(verdicts, table)
    write_text(page, render_claims_page(verdicts, model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            name_model(snakemake.wildcards.model, snakemake.config["run"]),
            read_figure_claims(snakemake.params.claims),
            snakemake.input.scores,
            snakemake.params.module,
            snakemake.params.options,
            snakemake.output.claims,
            snakemake.output.page,
        )
