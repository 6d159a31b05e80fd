"""The claims about one attention figure, evaluated."""

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_intervened_states, open_states
from llm_figures.claims.attention_claims import attention_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.core.job import job, log
from llm_figures.core.options import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame


def main(
    model: str,
    claims: list[dict],
    cells: str,
    clean: str,
    intervened: str | None,
    output: str,
    options: AttentionScoring,
) -> None:
    before, after = open_states(clean), open_intervened_states(intervened)
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
            read_options(AttentionScoring, snakemake.params.options, "config: figures"),
        )
