"""Widths, heights and fonts of the venues that a figure can be drawn for."""

import re
from dataclasses import dataclass
from typing import Any

from tueplots import figsizes, fontsizes

INCH = {"in": 1.0, "cm": 2.54, "mm": 25.4, "pt": 72.27, "bp": 72.0}  # pt as in LaTeX
TIMES, SANS = "STIXGeneral", "DejaVu Sans"  # come with matplotlib


@dataclass(frozen=True)
class Venue:
    """Sizes of one venue.

    column, full: widths in inches of a column and of the text; None if it has no page.
    height: the largest of a figure in inches. font: a family. size, small: of the font in points,
    for titles and labels, and for ticks and legends.
    """

    column: float | None
    full: float | None
    height: float
    font: str
    size: float
    small: float


def _width(figsize: dict[str, Any]) -> float:
    return figsize["figure.figsize"][0]


def _sizes(fonts: dict[str, float]) -> dict[str, float]:
    return {"size": fonts["font.size"], "small": fonts["xtick.labelsize"]}


# Inches: \textheight of the style files of NeurIPS, ICML, ICLR and AAAI, of which a part is for the
# caption.
TEXT_HEIGHT, CAPTION = 9.0, 1.0
# Widths and font sizes are those of tueplots but where a comment names another source.
VENUES = {
    "default": Venue(None, None, TEXT_HEIGHT - CAPTION, SANS, size=8, small=6),
    "neurips": Venue(
        column=_width(figsizes.neurips2024()),  # there is one column
        full=_width(figsizes.neurips2024()),
        height=TEXT_HEIGHT - CAPTION,
        font=TIMES,
        **_sizes(fontsizes.neurips2024()),
    ),
    "icml": Venue(
        column=_width(figsizes.icml2024_half()),
        full=_width(figsizes.icml2024_full()),
        height=TEXT_HEIGHT - CAPTION,
        font=TIMES,
        **_sizes(fontsizes.icml2024()),
    ),
    "iclr": Venue(
        column=_width(figsizes.iclr2024()),  # there is one column
        full=_width(figsizes.iclr2024()),
        height=TEXT_HEIGHT - CAPTION,
        font=TIMES,
        **_sizes(fontsizes.iclr2024()),
    ),
    # Not in tueplots. Paper formatting guidelines of *ACL (acl-org.github.io/ACLPUB): columns of
    # 7.7 cm with 0.6 cm between them, 24.7 cm high; captions of 10 pt, and one less as elsewhere.
    "acl": Venue(7.7 / 2.54, 16.0 / 2.54, 24.7 / 2.54 - CAPTION, TIMES, size=9, small=7),
    # aaai24.sty: \textwidth 7.0in, \columnsep 0.375in. tueplots has 3.3 and 6.975 in.
    "aaai": Venue(3.3125, 7.0, TEXT_HEIGHT - CAPTION, TIMES, **_sizes(fontsizes.aaai2024())),
    # Not in tueplots. Figure guide of Nature (research-figure-guide.nature.com): widths of 89 and
    # 183 mm, at most 170 mm high, text of 5 to 7 pt, of which 5 is too small for us.
    "nature": Venue(89 / 25.4, 183 / 25.4, 170 / 25.4, SANS, size=7, small=6),
}


def parse_width(text: str) -> float | None:
    """Inches of a number with a unit, such as 3.25in, 8.3cm, 89mm, 240pt; None if it is not one."""
    if found := re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(in|cm|mm|pt|bp)", text.strip()):
        return float(found[1]) / INCH[found[2]]
    return None


def find_width(venue: str, width: str | None) -> float | None:
    """The width in inches of a figure; None if each figure has its own size.

    venue, width: as in the options of the style. A venue without a width takes its column's.
    """
    if width is None or width in ("column", "full"):
        return getattr(VENUES[venue], width or "column")
    return parse_width(width)
