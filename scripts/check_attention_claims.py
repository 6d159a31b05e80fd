"""Evaluate the claims about one attention figure."""

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_intervened_states, open_states
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
    options: AttentionScoring,
) -> None:
    verdicts = check_attention_claims(
        model,
        read_figure_claims(claims),
        read_frame(cells),
        read_options(AttentionScoring, options, "options"),
        open_states(clean),
        open_intervened_states(intervened) if intervened else None,
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
            read_options(AttentionScoring, snakemake.params.options, "config: figures"),
        )
