"""The claims of the attention figures over the open choices, as a table and a page."""

from llm_figures.attention.qk_store import open_intervened_states, open_states
from llm_figures.attention.scores import find_shape
from llm_figures.claims.choices import choice_rows, made, summary
from llm_figures.claims.choices_page import choices_page, place
from llm_figures.core.atomic_files import write_text
from llm_figures.core.job import job, log
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
    rows = choice_rows(claims, choices, figures, before, open_intervened_states(intervened))
    for operation, part in summary(rows).groupby("operation", sort=False):
        part = part[part["applicable"] > 0]
        if not len(part):
            log.info("%s: no statement applies to any combination", operation)
            continue
        best = part.iloc[0]
        log.info(
            "%s: at most %d of %d reproduced: %s; %s",
            *(operation, best["reproduced"], best["applicable"], made(best), place(best)),
        )
    write_frame(rows, table)
    write_text(page, choices_page(rows, model))


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
