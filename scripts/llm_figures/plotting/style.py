"""Options that all figures share, and where the workflow finds a figure's parts."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from llm_figures.core.options import (
    AnyText,
    Drawing,
    Integer,
    Items,
    NonEmpty,
    Number,
    Options,
    Says,
)

Palette = Annotated[NonEmpty, Says("blue-white-orange or a palette known to seaborn")]
Limits = Annotated[tuple[Number, ...], Items(2, 2), Says("two numbers, the smaller first")]


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
