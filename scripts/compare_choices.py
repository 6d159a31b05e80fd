"""Evaluate the claims about the attention figures on every combination of open choices."""

from collections.abc import Mapping, Sequence

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_intervened_states, open_states
from llm_figures.attention.scores import find_shape
from llm_figures.claims.choices import count_reproduced, describe_change, evaluate_choices
from llm_figures.claims.choices_page import describe_map, render_choices_page
from llm_figures.claims.claim import FigureClaim, read_figure_claims
from llm_figures.claims.options import ChoicesScoring
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.core.options_reader import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.layer_checks import check_choices


def main(
    clean: str,
    intervened: str | None,
    table: str,
    page: str,
    model: str,
    claims: Sequence[FigureClaim],
    choices: ChoicesScoring,
    figures: Mapping[str, AttentionScoring],
) -> None:
    states = open_states(clean)
    check_choices(choices.plain(), find_shape(states))
    after = open_intervened_states(intervened)
    rows = evaluate_choices(claims, choices, figures, states, after)
    for operation, part in count_reproduced(rows).groupby("operation", sort=False):
        part = part[part["applicable"] > 0]
        if not len(part):
            log.info("%s: no statement applies to any combination", operation)
            continue
        best = part.iloc[0]
        log.info(
            "%s: at most %d of %d reproduced: %s; %s",
            operation,
            best["reproduced"],
            best["applicable"],
            describe_change(best),
            describe_map(best),
        )
    write_frame(rows, table)
    write_text(page, render_choices_page(rows, model))


if "snakemake" in globals():
    with job(snakemake):
        main(
            snakemake.input.clean,
            snakemake.input.get("intervened"),
            snakemake.output.choices,
            snakemake.output.page,
            snakemake.wildcards.model,
            read_figure_claims(snakemake.params.claims),
            read_options(ChoicesScoring, snakemake.params.choices, "config: choices"),
            read_options(dict[str, AttentionScoring], snakemake.params.figures, "config: figures"),
        )
