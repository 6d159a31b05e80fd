"""Labels of the tokens beside an attention map."""

import re

import pandas as pd

from llm_figures.plotting.layout import find_layout
from llm_figures.plotting.style import SMALLEST_TEXT

# Approximate inches: the side of a map.
PANEL = 2.6

# Sizes of tick labels in points. If tokens need smaller ones, positions are shown instead.
SMALLEST_LABEL = 5.0
LARGEST_LABEL = 7.5
LONGEST_LABEL = 14  # characters of a token
# Control characters, which no SVG may hold; they are written as Python does: \n.
_NOT_XML = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def is_binned(cells: pd.DataFrame) -> bool:
    """Whether cells are bins of tokens. Files of earlier versions have neither counts nor bins."""
    return "query_count" in cells and bool(cells["query_count"].max() > 1)


def choose_tick_labels(
    panel: pd.DataFrame, kind: str, side: float = PANEL
) -> tuple[list[float], list[str], float] | None:
    """The tick labels of both axes of a map.

    kind: the option `tick_labels`. "none" gives None. "tokens" labels every cell with its token if
        that is readable on a map of `side` inches. Otherwise, and with "positions", a choice of
        cells is labelled with the position of their (first) token, counted from 0.

    Returns the places in cells from the left or the top, the labels, and their size in points.
    """
    if kind == "none":
        return None
    layout = find_layout()
    smallest = SMALLEST_TEXT if layout.sized else SMALLEST_LABEL
    bins = panel.drop_duplicates("key_position").sort_values("key_position")
    largest = min(layout.growth * LARGEST_LABEL, layout.small)
    size = min(largest, side * 72 / len(bins) / 1.15)
    known = "key_token" in bins and bins["key_token"].fillna("").ne("").any()
    if kind == "tokens" and known and size >= smallest and not is_binned(panel):
        names = [_label_token(token) for token in bins["key_token"]]
        return [place + 0.5 for place in range(len(names))], names, size
    positions = bins["key_position"].astype(str).tolist()
    size = largest
    step = _choose_step(len(positions), side * 72 / (1.6 * size))
    # The first cell, where the sink is, always has a label.
    places = range(0, len(positions), step)
    return [place + 0.5 for place in places], [positions[place] for place in places], size


def _choose_step(cells: int, room: float) -> int:
    """Cells from one label to the next, of 1, 2, 5, 10, 20, …, for at most `room` labels."""
    for power in range(10):
        for factor in (1, 2, 5):
            if cells <= room * factor * 10**power:
                return factor * 10**power
    return cells


def show_token(token: str) -> str:
    """A token without white space around it; white space is shown if it has nothing else."""
    text = token.strip() or repr(token)[1:-1].replace(" ", "␣")
    return _NOT_XML.sub(lambda match: repr(match[0])[1:-1], text)


def _label_token(token: str) -> str:
    """A token as a label, cut if it is long."""
    text = show_token(token)
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def label_ticks(ax, ticks: tuple[list[float], list[str], float], below: bool, left: bool) -> None:
    places, names, size = ticks
    for axis, shown in ((ax.xaxis, below), (ax.yaxis, left)):
        axis.set_ticks(places if shown else [], names if shown else [])
        axis.set_tick_params(labelsize=size, length=1.5, pad=1.5)
        for text in axis.get_ticklabels():
            text.set_parse_math(False)
            text.set_rotation("vertical" if axis is ax.xaxis else "horizontal")


def measure_labels(ticks: tuple[list[float], list[str], float] | None) -> float:
    """The approximate length of the longest label in inches."""
    if ticks is None:
        return 0.0
    _, names, size = ticks
    return (0.62 * max(map(len, names)) * size + 4) / 72
