"""Where the texts and the panels of a drawn SVG are, by its own coordinates and the fonts' outlines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from drawn_figures import SVG

NUMBER = r"(-?[\d.]+)"


@dataclass(frozen=True)
class DrawnText:
    """words, size in points, outline box as a closed path, and the id of the panel that it is of."""

    words: str
    size: float
    box: Path
    panel: str | None


def read_size(root) -> tuple[float, float]:
    """Width and height in points."""
    return float(root.get("width").removesuffix("pt")), float(root.get("height").removesuffix("pt"))


def read_panels(root) -> dict[str, Path]:
    """{id: rectangle} of all axes."""
    (figure,) = (group for group in root.iter(f"{SVG}g") if group.get("id") == "figure_1")
    panels = {}
    for group in figure:
        first = next(iter(group), None)
        if first is not None and not group.get("id").startswith("legend"):
            if first.get("id", "").startswith("patch"):
                places = re.findall(rf"{NUMBER} {NUMBER}", first.find(f"{SVG}path").get("d"))
                x, y = np.array(places, dtype=float).T
                panels[group.get("id")] = rectangle(x.min(), y.min(), x.max(), y.max())
    return panels


def rectangle(left: float, top: float, right: float, bottom: float) -> Path:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return Path([*corners, corners[0]], closed=True)


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


def _outline(text, words: str) -> tuple[float, Path]:
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
    flat = rectangle(start + ink.x0, -ink.y1, start + ink.x1, -ink.y0).vertices
    return size, Path(flat @ turn + np.array(place, dtype=float), closed=True)


def find_faults(root, smallest: float = 6.0) -> list[str]:
    """Texts that are too small, leave the figure, or overlap each other or a panel."""
    width, height = read_size(root)
    texts, panels = list(read_texts(root)), read_panels(root)
    faults = []
    for text in texts:
        if text.size < smallest:
            faults.append(f"{text.words}: {text.size} pt")
        if (text.box.vertices < 0).any() or (text.box.vertices > (width, height)).any():
            faults.append(f"{text.words}: cut off")
        for name, panel in panels.items():
            inside = name == text.panel and panel.contains_path(text.box)  # the number of a cell
            if panel.intersects_path(text.box) and not inside:
                faults.append(f"{text.words}: over {name}")
    for one, other in combinations(texts, 2):
        if one.box.intersects_path(other.box):
            faults.append(f"{one.words} and {other.words} overlap")
    return faults
