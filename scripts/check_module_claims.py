"""The claims about the module map, evaluated."""

from llm_figures.claims.module_claims import module_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(
    model: str, claims: list[dict], scores: str, measured: str | None, output: str, metric: str
) -> None:
    parts = read_frame(measured) if measured else None
    found = module_claims(model, claims, read_frame(scores), parts, metric)
    log_verdicts(log, found)
    write_frame(found, output)


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
