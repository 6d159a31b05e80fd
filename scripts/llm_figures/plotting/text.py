"""The width of texts, and names wrapped to a width."""

import re

import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath


def wrap_name(name: str, width: float, size: float) -> str:
    """The name in lines of at most `width` inches, broken after - _ or . if possible."""
    lines = [""]
    for piece in re.findall(r"[^-_.]*[-_.]|[^-_.]+", name):
        if lines[-1] and measure_text(lines[-1] + piece, size) > width:
            lines.append("")
        for letter in piece:  # a single piece may be too long, too
            if lines[-1] and measure_text(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def measure_text(text: str, size: float) -> float:
    """The width of a text in inches. size: of its font, in points."""
    font = FontProperties(family=plt.rcParams["font.family"])
    return TextPath((0, 0), text, size=size, prop=font).get_extents().width / 72
