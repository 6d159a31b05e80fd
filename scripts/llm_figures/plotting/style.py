"""Options that all figures share, and where the workflow finds a figure's parts."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

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
from llm_figures.plotting.venues import VENUES, find_width, parse_width

# Of heatmaps, and of lines and marks, see `look.check_look`.
Palette = Annotated[NonEmpty, Says("blue-white-orange or a palette known to seaborn")]
LinePalette = Annotated[NonEmpty, Says("a palette known to seaborn")]
# The widest ends of a colour scale, and the least share of the larger one by which they differ.
LARGEST_LIMIT = 1e30
LEAST_SPAN = 1e-9
# Inches: no figure is legible below the one, and a metre is wider than any page.
NARROWEST, WIDEST = 1, 40
# Of any text of a figure for a page, in points.
SMALLEST_TEXT = 6


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
    title: of its section in the report; None takes its name.
    """

    scores: str
    module: str
    beside: str | None = None
    by_default: bool = True
    compared: bool = False
    title: str | None = None


class Figure(Options):
    """Options of a figure, and where it comes from."""

    source: ClassVar[FigureSource]


def _check_unit(width: Any) -> Any:
    if width not in ("column", "full") and parse_width(str(width)) is None:
        raise refusal(
            "; allowed: column, full, or a number with a unit: 3.25in, 8.3cm, 89mm, 240pt"
        )
    return width


def _check_width(width: str, info: ValidationInfo) -> str:
    if width in ("column", "full"):
        if info.data.get("venue") == "default":
            raise refusal(": needs a style.venue; or give a number with a unit, such as 3.25in")
    elif not NARROWEST <= parse_width(width) <= WIDEST:
        raise refusal(f": must be at least {NARROWEST}in (2.54cm) and at most {WIDEST}in")
    return width


def _check_font_size(size: float, info: ValidationInfo) -> float:
    drawn_for_page = find_width(info.data.get("venue", "default"), info.data.get("width"))
    if drawn_for_page and size < SMALLEST_TEXT:
        raise refusal(f": must be at least {SMALLEST_TEXT} with a style.venue or a style.width")
    return size


Width = Annotated[
    AnyText,
    AfterValidator(_check_width),
    BeforeValidator(_check_unit),
    Says("column, full, or a number with a unit"),
]
FontSize = Annotated[Number, Field(ge=4, le=24), AfterValidator(_check_font_size)]


class Style(Drawing):
    """How every figure is drawn."""

    venue: Literal["default", "neurips", "icml", "iclr", "acl", "aaai", "nature"] = "default"
    """default, neurips, icml, iclr, acl, aaai, nature: widths and fonts

    The venue whose widths, font and font sizes the figures have. default has no page."""

    width: Width | None = None
    """column, full, or a number with a unit: 3.25in, 8.3cm, 89mm, 240pt

    The exact width of every figure: column or full (of the venue's page), or a number with a unit:
    in, cm, mm, pt (of LaTeX, 72.27 to the inch), bp (72 to the inch). null is the column of the
    venue; with the venue default, each figure has its own size."""

    font: AnyText | None = None
    """A font family known to matplotlib

    A font family known to matplotlib. null takes the venue's: STIXGeneral, which is like Times, or
    DejaVu Sans."""

    font_size: FontSize | None = None
    """In points; null takes the venue's

    Size of the font in points. null takes the venue's. With a venue or a width, ticks and legends
    are 2 points smaller, and no text is smaller than 6. Without, figures grow with a font above
    9."""

    dpi: Annotated[Integer, Field(ge=200, le=1200)] = 300
    """Resolution of the PNG files."""

    svg_text: Literal["text", "paths"] = "text"
    """text, or paths, which need no font where the file is read

    Text of SVG files: text can be searched and edited, and is drawn in another font where the
    reader lacks ours; paths look alike everywhere."""

    @property
    def inches(self) -> float | None:
        """The exact width of every figure; None if each has its own size."""
        return find_width(self.venue, self.width)

    @property
    def spans_columns(self) -> bool:
        """Whether figures are wider than a column of the venue."""
        column = VENUES[self.venue].column
        return bool(self.inches and column and self.inches > column + 0.01)
