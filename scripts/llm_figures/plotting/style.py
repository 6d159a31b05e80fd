"""Options that all figures share, and what the workflow must know about a figure."""

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


class Figure(Options):
    """A figure of the config's `figures`, and where the workflow finds what it is made of.

    scores: its tidy file, below results/{model}/. drawing: the module that draws it and writes its
    caption. beside: the figure with whose target it is made; it then has none of its own.
    """

    scores: ClassVar[str]
    drawing: ClassVar[str]
    beside: ClassVar[str | None] = None


class Style(Drawing):
    """How every figure is drawn."""

    font: AnyText = "DejaVu Sans"
    """A font family known to matplotlib."""

    font_size: Annotated[Number, Field(ge=4, le=24)] = 9
    """In points

    Size of the font in points."""

    dpi: Annotated[Integer, Field(ge=200, le=1200)] = 300
    """Resolution of the PNG files."""
