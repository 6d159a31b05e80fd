"""Where the texts and panels of a drawn SVG are, by its coordinates and the fonts' outlines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from drawn_figures import SVG

NUMBER = r"(-?[\d.]+)"


@dataclass(frozen=True)
class DrawnText:
    """words, size in points, the four corners of the outline, and the id of the text's panel."""

    words: str
    size: float
    box: np.ndarray
    panel: str | None


def read_size(root) -> tuple[float, float]:
    """Width and height in points."""
    return float(root.get("width").removesuffix("pt")), float(root.get("height").removesuffix("pt"))


def read_panels(root) -> dict[str, np.ndarray]:
    """{id: four corners} of all axes."""
    (figure,) = (group for group in root.iter(f"{SVG}g") if group.get("id") == "figure_1")
    panels = {}
    for group in figure:
        first = next(iter(group), group)
        if first.get("id", "").startswith("patch") and not group.get("id").startswith("legend"):
            places = re.findall(rf"{NUMBER} {NUMBER}", first.find(f"{SVG}path").get("d"))
            x, y = np.array(places, dtype=float).T
            panels[group.get("id")] = rectangle(x.min(), y.min(), x.max(), y.max())
    return panels


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def read_texts(root) -> Iterator[DrawnText]:
    """Every text but those of blanks alone."""
    panels = set(read_panels(root))
    parents = {child: parent for parent in root.iter() for child in parent}
    for text in root.iter(f"{SVG}text"):
        words = "".join(text.itertext())
        if not words.strip():
            continue
        above = parents[text]
        while above is not None and above.get("id") not in panels:
            above = parents.get(above)
        size, box = _outline(text, words)
        yield DrawnText(words, size, box, None if above is None else above.get("id"))


def _outline(text, words: str) -> tuple[float, np.ndarray]:
    style = dict(part.split(": ", 1) for part in text.get("style").split("; "))
    size = float(style["font-size"].removesuffix("px"))
    font = FontProperties(
        family=re.findall("'(.*?)'", style["font-family"]), style=style.get("font-style", "normal")
    )
    ink = TextPath((0, 0), words, size=size, prop=font).get_extents()
    advance = ink.x1  # about where the next letter would begin
    start = {"start": 0, "middle": -advance / 2, "end": -advance}[style.get("text-anchor", "start")]
    transform = text.get("transform")
    moved = re.search(rf"translate\({NUMBER} {NUMBER}\)", transform)
    turned = re.search(rf"rotate\({NUMBER}", transform)
    place = moved.groups() if moved else (text.get("x"), text.get("y"))
    angle = np.deg2rad(float(turned[1])) if turned else 0.0
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    # y goes down in an SVG
    flat = rectangle(start + ink.x0, -ink.y1, start + ink.x1, -ink.y0)
    return size, flat @ turn + np.array(place, dtype=float)


def overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether no line along a side of one of two rectangles separates them."""
    for corners in (one, other):
        for end in (1, 3):
            side = corners[end] - corners[0]
            a, b = one @ side, other @ side
            if a.max() <= b.min() or b.max() <= a.min():
                return False
    return True


def find_faults(root, smallest: float = 6.0) -> list[str]:
    """Texts that are too small, leave the figure, or overlap each other or a panel."""
    width, height = read_size(root)
    texts, panels = list(read_texts(root)), read_panels(root)
    faults = []
    for text in texts:
        if text.size < smallest:
            faults.append(f"{text.words}: {text.size} pt")
        if (text.box < 0).any() or (text.box > (width, height)).any():
            faults.append(f"{text.words}: cut off")
        for name, panel in panels.items():
            low, high = panel.min(axis=0), panel.max(axis=0)
            inside = ((text.box >= low) & (text.box <= high)).all()  # such as a cell's number
            if overlap(panel, text.box) and not (name == text.panel and inside):
                faults.append(f"{text.words}: over {name}")
    for one, other in combinations(texts, 2):
        if overlap(one.box, other.box):
            faults.append(f"{one.words} and {other.words} overlap")
    return faults
