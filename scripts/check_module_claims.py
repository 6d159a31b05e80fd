"""Evaluate the claims about the module map."""

from llm_figures.claims.claim import read_figure_claims
from llm_figures.claims.module_claims import check_module_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(
    model: str, claims: list[dict], scores: str, measured: str | None, output: str, metric: str
) -> None:
    verdicts = check_module_claims(
        model,
        read_figure_claims(claims),
        read_frame(scores),
        read_frame(measured) if measured else None,
        metric,
    )
    log_verdicts(log, verdicts)
    write_frame(verdicts, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.wildcards.model,
            snakemake.params.claims,
            snakemake.input.scores,
            snakemake.input.get("measured"),
            snakemake.output.claims,
            snakemake.params.metric,
        )
