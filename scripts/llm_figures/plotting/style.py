"""Options that all figures share, and where the workflow finds a figure's parts."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from llm_figures.core.options import (
    AnyText,
    Drawing,
    Integer,
    Items,
    NonEmpty,
    Number,
    Options,
    Says,
    refusal,
)

Palette = Annotated[NonEmpty, Says("blue-white-orange or a palette known to seaborn")]
# The widest ends of a colour scale, and the least share of the larger one by which they differ.
LARGEST_LIMIT = 1e30
LEAST_SPAN = 1e-9


def _check_limits(limits: tuple[float, ...]) -> tuple[float, ...]:
    low, high = limits
    if not low < high:
        raise refusal(": the first must be below the second")
    if max(abs(low), abs(high)) > LARGEST_LIMIT:
        raise refusal(f": no colour scale is drawn beyond ±{LARGEST_LIMIT:g}")
    if high - low < max(LEAST_SPAN * max(abs(low), abs(high)), 1 / LARGEST_LIMIT):
        raise refusal(": the two are too close for a colour scale between them")
    return limits


TwoLimits = Annotated[tuple[Number, ...], Items(2, 2), AfterValidator(_check_limits)]
Limits = Annotated[TwoLimits, Says("two numbers, the smaller first")]


@dataclass(frozen=True)
class FigureSource:
    """Where a figure comes from.

    scores: the tidy Parquet file that it is drawn from, below results/{model}/.
    module: the library module that draws it; see `drawing.render`.
    beside: the figure whose target, and section of the report, include it; None if it has its own.
    by_default: whether the target `figures` draws it.
    compared: whether `compare` draws it for several models side by side.
    """

    scores: str
    module: str
    beside: str | None = None
    by_default: bool = True
    compared: bool = False


class Figure(Options):
    """Options of a figure, and where it comes from."""

    source: ClassVar[FigureSource]


class Style(Drawing):
    """How every figure is drawn."""

    font: AnyText = "DejaVu Sans"
    """A font family known to matplotlib."""

    font_size: Annotated[Number, Field(ge=4, le=24)] = 9
    """In points

    Size of the font in points."""

    dpi: Annotated[Integer, Field(ge=200, le=1200)] = 300
    """Resolution of the PNG files."""
