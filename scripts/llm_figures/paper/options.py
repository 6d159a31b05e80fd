"""Options of what is written for a paper."""

from typing import Annotated

from pydantic import Field

from llm_figures.core.options import AnyText, Drawing, Items, NonEmpty, Says, by_kind
from llm_figures.models.options import ModelName

Prefix = Annotated[AnyText, Field(pattern=r"^[A-Za-z]*$"), Says("letters only")]


class Paper(Drawing):
    """What `snakemake paper` writes for LaTeX."""

    prefix: Annotated[
        Prefix | dict[ModelName, Prefix], by_kind, Says("letters, or a table of them by model")
    ] = ""
    """Letters before the name of every macro; with several models a table, {model: letters}

    Letters before the name of every macro and label, so that the numbers of several models fit in
    one document. A run of several models needs a table with different letters for each."""

    figures: Annotated[tuple[NonEmpty, ...], Items(1, distinct=True)] | None = None
    """null takes those of `snakemake figures`

    The figures, by the names of their files, such as probe_auc or choices. null takes those that
    `snakemake figures` draws."""
