"""Claims as typed objects: the form of a file of claims, and one claim about one figure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, create_model, model_validator

from llm_figures.attention.options import Component
from llm_figures.claims.definitions import COMPARISONS, as_tuple, holds, worst
from llm_figures.claims.figures import ATTENTION_FIGURES, TARGETS
from llm_figures.core.options import (
    AnyText,
    Flag,
    Integer,
    Items,
    Number,
    Options,
    Says,
    Text,
    by_kind,
    refusal,
)
from llm_figures.core.options_reader import read_options

FigureName = Literal[TARGETS]


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
        for name in TARGETS
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


Rows = Annotated[
    AnyText | Annotated[tuple[AnyText, ...], Items(1)],
    by_kind,
    Says("a row or a list of them; patterns such as capital* are allowed"),
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
    """The components under intervention."""

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

    rows: Rows = Field(default=None)
    """Names of rows, or patterns, of a table whose rows are no layers."""

    control: AnyText = Field(default=None)
    """A control of the probe, in place of the probe itself."""


class Partner(Options):
    """What a claim's part is compared with; keys that are left out are those of the part itself."""

    input: Annotated[Integer, Field(ge=1)] = Field(default=None)
    """The text, counted from 1."""

    component: Component = Field(default=None)
    """The component under intervention."""

    epsilon: Number = Field(default=None)
    """The factor of scale."""

    columns: Names = Field(default=None)
    """Columns of a table."""

    layers: LayerRange = Field(default=None)
    """Layers of a table."""

    rows: Rows = Field(default=None)
    """Rows of a table whose rows are no layers."""

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
    """The figures that it is about, each judged by itself."""

    statement: Text
    """What is claimed."""

    source: Text
    """Where it was published."""

    note: Text = Field(default=None)
    """What a reader should know about it."""

    statistic: AnyText
    """Name of a statistic in scripts/llm_figures/claims/definitions.py."""

    options: dict[Annotated[str, BeforeValidator(str)], Number] = Field(default={})
    """Options of the statistic."""

    panels: Panels = Field(default=None)
    """The panels that the claim is about; all of them by default."""

    cells: Annotated[Region | Annotated[tuple[Region, ...], Items(1)], by_kind] = Field(
        default=None
    )
    """A region of the table, or several; the worst counts."""

    minus: Annotated[Partner | Annotated[tuple[Partner, ...], Items(1)], by_kind] = Field(
        default=None
    )
    """Where the statistic to subtract is taken; of several, the worst counts."""

    versus: Partner = Field(default=None)
    """The other side of a statistic of two."""

    across: Literal["input", "epsilon", "component"] = Field(default=None)
    """Take a statistic of two of every two panels that differ in this alone."""

    along: Literal["input", "epsilon"] = Field(default=None)
    """Take the statistic's rank correlation with this, over panels that differ in it alone."""

    each: Literal["column"] = Field(default=None)
    """Judge every column by itself, and let the worst count; otherwise all together."""

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

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One number, or the two ends of `within`."""
        return as_tuple(self.threshold)

    def holds(self, value: float) -> bool:
        """Whether a value of the statistic meets the threshold."""
        return holds(value, self.comparison, self.thresholds)

    def worst(self, values: Sequence[float]) -> float:
        """The value that is closest to failing, or fails the most."""
        return worst(values, self.comparison, self.thresholds)


class PublishedFigure(PublishedAttention, PublishedTable):
    """What a published figure of either kind was."""


class FigureClaim(Claim):
    """A claim about one figure, `figures[0]`, with what the published figure was."""

    published: PublishedFigure = PublishedFigure()

    @property
    def figure(self) -> str:
        """The figure that it is about."""
        return self.figures[0]

    @property
    def name(self) -> str:
        """figure/id, unique among the claims of a run."""
        return f"{self.figure}/{self.id}"


class ClaimsFile(Options):
    """Claims about the figures, each a statistic, a comparison and a threshold."""

    published: Published = Published()
    """What the published figures were, for the claims of this file."""

    claims: Annotated[tuple[Claim, ...], Items()]
    """The claims."""


def read_figure_claims(claims: Sequence[Mapping]) -> tuple[FigureClaim, ...]:
    """The claims of a job's params as objects."""
    kind = Annotated[tuple[FigureClaim, ...], Items()]
    return read_options(kind, claims, "claims")
