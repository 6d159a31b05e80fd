"""The claims about one attention figure, evaluated."""

from llm_figures.attention.qk_store import intervened_states, stored_states
from llm_figures.claims.attention_claims import attention_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.core.job import job, log
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(
    model: str,
    claims: list[dict],
    cells: str,
    clean: str,
    intervened: str | None,
    output: str,
    options: dict,
) -> None:
    before = stored_states(clean)
    after = intervened_states(intervened) if intervened else None
    found = attention_claims(model, claims, read_frame(cells), options, before, after)
    log_verdicts(log, found)
    write_frame(found, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.wildcards.model,
            snakemake.params.claims,
            snakemake.input.cells,
            snakemake.input.clean,
            snakemake.input.get("intervened"),
            snakemake.output.claims,
            snakemake.params.options,
        )
