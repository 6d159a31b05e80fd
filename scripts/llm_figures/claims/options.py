"""Options of claims: the config's sections, and the form of a file of claims."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, create_model, model_validator

from llm_figures.attention.options import Component
from llm_figures.claims.definitions import COMPARISONS
from llm_figures.claims.figures import ATTENTION_FIGURES, FIGURES
from llm_figures.core.options import (
    AnyText,
    Drawing,
    Flag,
    Integer,
    Items,
    NonEmpty,
    Number,
    Options,
    Says,
    Text,
    by_kind,
    refusal,
)
from llm_figures.plotting.style import Figure, FigureSource, Palette

FigureName = Literal[FIGURES]
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

    files: Annotated[tuple[NonEmpty, ...], Items(distinct=True)] = ()
    """Further claims of your own, in that form

    Further files in the form of config/claims.yaml, evaluated beside it."""

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
    """Where Query or Key is changed."""

    scope: Annotated[tuple[Literal["layer", "model"], ...], Items(1, distinct=True)] = (
        "layer",
        "model",
    )
    """In the displayed layer alone, or in every layer."""

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


# Files of claims.


class PublishedAttention(Options):
    """What a published attention figure was."""

    operation: Literal["mean", "scale"] = Field(default=None)
    """Its intervention; the claims apply to no other."""


class PublishedTable(Options):
    """What a published table of layers and columns was."""

    layers: Annotated[Integer, Field(ge=1)] = Field(default=None)
    """Its number of layers, which the claims' layers count; without it, they count the model's."""

    columns: Annotated[tuple[Text, ...], Items(1, distinct=True)] = Field(default=None)
    """Its columns, which the claims' names and patterns stand for, whatever columns a run's figure
    has; without it, they stand for the run's own."""


Published = create_model(
    "Published",
    __base__=Options,
    __module__=__name__,
    __doc__="What the published figures were, for the claims of a file.",
    **{
        name: (
            PublishedAttention if name in ATTENTION_FIGURES else PublishedTable,
            Field(default=None),
        )
        for name in FIGURES
    },
)

LayerRange = Annotated[
    tuple[Number, ...], Items(2, 2), Says("two numbers, the first and the last layer")
]
Names = Annotated[
    AnyText | Annotated[tuple[AnyText, ...], Items(1)],
    by_kind,
    Says("a column or a list of them; patterns such as exact_answer_* are allowed"),
]


class Panels(Options):
    """The panels that a claim is about; all of them by default."""

    input: Annotated[
        Annotated[Integer, Field(ge=1)]
        | Annotated[tuple[Annotated[Integer, Field(ge=1)], ...], Items(1)],
        by_kind,
        Says("a number from 1, or several"),
    ] = Field(default=None)
    """The texts, counted from 1."""

    component: Annotated[
        Component | Annotated[tuple[Component, ...], Items(1)],
        by_kind,
        Says("query, key or value, or several of them"),
    ] = Field(default=None)
    """The changed components."""

    operation: Literal["mean", "scale"] = Field(default=None)
    """The intervention."""

    epsilon: Annotated[
        Number | Annotated[tuple[Number, ...], Items(1)], by_kind, Says("a number, or several")
    ] = Field(default=None)
    """The factors of scale."""


class Region(Options):
    """A region of a table."""

    columns: Names = Field(default=None)
    """Names of columns, or patterns such as exact_answer_*; by default all of the run's figure."""

    layers: LayerRange = Field(default=None)
    """The first and the last layer."""

    control: AnyText = Field(default=None)
    """A control of the probe in its place."""


class Partner(Options):
    """What something is compared with; keys that are left out are those of the claim itself."""

    input: Annotated[Integer, Field(ge=1)] = Field(default=None)
    """The text, counted from 1."""

    component: Component = Field(default=None)
    """The changed component."""

    epsilon: Number = Field(default=None)
    """The factor of scale."""

    columns: Names = Field(default=None)
    """Columns of a table."""

    layers: LayerRange = Field(default=None)
    """Layers of a table."""

    control: AnyText = Field(default=None)
    """A control of the probe."""

    @model_validator(mode="before")
    @classmethod
    def _names_something(cls, values: Any) -> Any:
        if values == {}:
            raise refusal(f" names nothing; allowed: {', '.join(cls.model_fields)}")
        return values


class Claim(Options):
    """A claim about figures: a statistic, a comparison and a threshold."""

    id: Annotated[
        AnyText, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$"), Says("letters, digits and hyphens")
    ]
    """Its name, unique among all claims."""

    figures: Annotated[tuple[FigureName, ...], Items(1, distinct=True)]
    """The figures that it is about, each by itself."""

    statement: Text
    """What is claimed."""

    source: Text
    """Where it was published."""

    note: Text = Field(default=None)
    """What a reader should know of it."""

    statistic: AnyText
    """Name of the statistic; scripts/llm_figures/claims/definitions.py lists them."""

    options: dict[Annotated[str, BeforeValidator(str)], Number] = Field(default={})
    """Options of the statistic."""

    panels: Panels = Field(default=None)
    """The panels that the claim is about; all of them by default."""

    cells: Annotated[Region | Annotated[tuple[Region, ...], Items(1)], by_kind] = Field(
        default=None
    )
    """One region of the table, or several, of which the worst counts."""

    minus: Annotated[Partner | Annotated[tuple[Partner, ...], Items(1)], by_kind] = Field(
        default=None
    )
    """The statistic there is subtracted; of several, the worst counts."""

    versus: Partner = Field(default=None)
    """What a statistic of two is compared with."""

    across: Literal["input", "epsilon", "component"] = Field(default=None)
    """A statistic of two is taken of every two panels that differ in this alone."""

    along: Literal["input", "epsilon"] = Field(default=None)
    """The rank correlation of the statistic with this, over panels that differ in it alone."""

    each: Literal["column"] = Field(default=None)
    """Every column by itself, of which the worst counts; otherwise all together."""

    certain: Flag = False
    """Whether both ends of the interval must meet the threshold, not only the value."""

    comparison: Literal[tuple(COMPARISONS)]
    """How the statistic is compared with the threshold."""

    threshold: Annotated[
        Number | Annotated[tuple[Number, ...], Items(2, 2)],
        by_kind,
        Says("a number, or the two ends of within"),
    ]
    """One number, or the two ends of within."""


class ClaimsFile(Options):
    """Claims about the figures, each a statistic, a comparison and a threshold."""

    published: Published = Published()
    """What the published figures were, for the claims of this file."""

    claims: Annotated[tuple[Claim, ...], Items()]
    """The claims."""
