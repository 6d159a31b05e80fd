"""Evaluate the claims about the module map."""

from collections.abc import Sequence

from llm_figures.claims.claim import FigureClaim, read_figure_claims
from llm_figures.claims.module_claims import check_module_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.result_folders import name_model


def main(
    model: str,
    claims: Sequence[FigureClaim],
    scores: str,
    measured: str | None,
    output: str,
    metric: str,
) -> None:
    verdicts = check_module_claims(
        model,
        claims,
        read_frame(scores),
        read_frame(measured) if measured else None,
        metric,
    )
    log_verdicts(log, verdicts)
    write_frame(verdicts, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            name_model(snakemake.wildcards.model, snakemake.config["run"]),
            read_figure_claims(snakemake.params.claims),
            snakemake.input.scores,
            snakemake.input.get("measured"),
            snakemake.output.claims,
            snakemake.params.metric,
        )
