"""Evaluate the claims about one attention figure."""

from collections.abc import Sequence

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import (
    open_intervened_states,
    open_states,
    read_random_weights,
)
from llm_figures.claims.attention_claims import check_attention_claims
from llm_figures.claims.claim import FigureClaim, read_figure_claims
from llm_figures.claims.page import log_verdicts
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import read_frame, write_frame
from llm_figures.core.result_folders import name_model


def main(
    model: str,
    claims: Sequence[FigureClaim],
    cells: str,
    clean: str,
    intervened: str | None,
    random_weights: str,
    output: str,
    options: AttentionScoring,
) -> None:
    verdicts = check_attention_claims(
        model,
        claims,
        read_frame(cells),
        options,
        open_states(clean),
        open_intervened_states(intervened),
        read_random_weights(random_weights),
    )
    log_verdicts(log, verdicts)
    write_frame(verdicts, output)


if "snakemake" in globals():
    with job(snakemake):
        main(
            name_model(snakemake.wildcards.model, snakemake.config["run"]),
            read_figure_claims(snakemake.params.claims),
            snakemake.input.cells,
            snakemake.input.clean,
            snakemake.input.get("intervened"),
            snakemake.input.random_weights,
            snakemake.output.claims,
            read_options(AttentionScoring, snakemake.params.options, "config: figures"),
        )
