"""Evaluate the claims about one attention figure."""

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import intervened_states, stored_states
from llm_figures.claims.attention_claims import check_attention_claims
from llm_figures.claims.claim import read_figure_claims
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
    options: dict,
) -> None:
    verdicts = check_attention_claims(
        model,
        read_figure_claims(claims),
        read_frame(cells),
        read_options(AttentionScoring, options, "options"),
        stored_states(clean),
        intervened_states(intervened) if intervened else None,
    )
    log_verdicts(log, verdicts)
    write_frame(verdicts, output)


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
