"""Sections of the config about claims and choices."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llm_figures.core.options import (
    AnyText,
    Drawing,
    Integer,
    Items,
    NonEmpty,
    Options,
    Says,
    by_kind,
)
from llm_figures.core.text_checks import PathText
from llm_figures.plotting.style import Figure, FigureSource, Palette

ChosenLayer = Annotated[
    Annotated[Integer, Field(ge=0)]
    | Annotated[AnyText, Field(pattern=r"^(auto|(\d{1,2}(\.\d+)?|100)%)$")],
    by_kind,
    Says("a layer from 0, auto, or a share of the depth such as 25%"),
]
ChosenHead = Annotated[
    Annotated[Integer, Field(ge=0)] | Literal["mean", "auto"],
    by_kind,
    Says("mean, auto (the strongest sink), or a head from 0"),
]


class Claims(Options):
    """What was published about the figures, checked against them: config/claims.yaml."""

    built_in: Annotated[
        Literal["all", "none"] | Annotated[tuple[NonEmpty, ...], Items(1, distinct=True)],
        by_kind,
        Says("all, none, or a list of sources such as Orgad*"),
    ] = "all"
    """all, none, or a list of sources: which claims of config/claims.yaml are checked

    Which claims of config/claims.yaml are checked: all, none, or those from the listed sources, as
    the file and claims.md name them (* stands for anything): [Orgad*, module_map*]. Claims in files
    of your own are checked in any case."""

    files: Annotated[tuple[PathText, ...], Items(distinct=True)] = ()
    """Files of your own claims, in the same form

    Further files in the form of config/claims.yaml, evaluated with it."""

    fail_on: Annotated[tuple[NonEmpty, ...], Items(distinct=True)] = ()
    """Claims that make `snakemake claims` fail when they are not reproduced

    Claims, by id or figure/id (* stands for anything). If one of them is not reproduced, the run
    fails after all claims have been written."""


class ChoicesScoring(Options):
    """Every combination of these choices is evaluated."""

    over: Annotated[tuple[Literal["features", "tokens"], ...], Items(1, distinct=True)] = (
        "features",
        "tokens",
    )
    """Axes of the mean."""

    stage: Annotated[
        tuple[Literal["before_rotary", "after_rotary"], ...], Items(1, distinct=True)
    ] = ("before_rotary", "after_rotary")
    """Where the intervention on Query or Key is made."""

    scope: Annotated[tuple[Literal["layer", "model"], ...], Items(1, distinct=True)] = (
        "layer",
        "model",
    )
    """Whether it is made in the displayed layer alone or in every layer."""

    layer: Annotated[tuple[ChosenLayer, ...], Items(1, distinct=True)] = (
        "25%",
        "50%",
        "75%",
        "auto",
    )
    """Shares of the depth, auto, or layers from 0

    Displayed layers."""

    head: Annotated[tuple[ChosenHead, ...], Items(1, distinct=True)] = ("mean", "auto")
    """Or heads from 0

    Displayed heads."""


class ChoicesDrawing(Drawing):
    """What only the drawing of the choices reads."""

    palette: Palette = "Blues"
    """Colours of the cells."""


class Choices(ChoicesDrawing, ChoicesScoring, Figure):
    """What the published attention figures leave open.

    The claims about mean_qkv and scale_qkv are evaluated on every combination.
    """

    source: ClassVar[FigureSource] = FigureSource(
        "choices.parquet", "llm_figures.claims.choices_figure", by_default=False
    )
