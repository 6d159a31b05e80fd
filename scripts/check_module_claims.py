"""The claims about the module map, evaluated."""

from llm_figures.claims_page import log_verdicts
from llm_figures.job import job, log
from llm_figures.module_claims import module_claims
from llm_figures.tensors import read_frame, write_frame


def main(
    model: str, claims: list[dict], scores: str, activity: str, output: str, metric: str
) -> None:
    found = module_claims(model, claims, read_frame(scores), read_frame(activity), metric)
    log_verdicts(log, found)
    write_frame(found, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.wildcards.model,
            snakemake.params.claims,
            snakemake.input.scores,
            snakemake.input.activity,
            snakemake.output.claims,
            snakemake.params.metric,
        )
