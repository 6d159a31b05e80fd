"""Evaluate the claims about the attention figures on every combination of open choices."""

from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.qk_store import open_intervened_states, open_states
from llm_figures.attention.scores import find_shape
from llm_figures.claims.choices import count_reproduced, describe_change, evaluate_choices
from llm_figures.claims.choices_page import describe_map, render_choices_page
from llm_figures.claims.claim import read_figure_claims
from llm_figures.claims.options import ChoicesScoring
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
from llm_figures.core.options import read_options
from llm_figures.core.parquet_tensors import write_frame
from llm_figures.models.layer_checks import check_choices


def main(
    clean: str,
    intervened: str | None,
    table: str,
    page: str,
    model: str,
    claims: list[dict],
    choices: dict,
    figures: dict,
) -> None:
    before = open_states(clean)
    check_choices(choices, find_shape(before))
    rows = evaluate_choices(
        read_figure_claims(claims),
        read_options(ChoicesScoring, choices, "choices"),
        read_options(dict[str, AttentionScoring], figures, "figures"),
        before,
        open_intervened_states(intervened),
    )
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
            snakemake.params.claims,
            snakemake.params.choices,
            snakemake.params.figures,
        )
