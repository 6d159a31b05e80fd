"""The room that a figure has: its own size, or an exact width and the fonts of a venue."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from llm_figures.core.errors import UserError
from llm_figures.plotting.style import SMALLEST_TEXT, WIDEST, Style
from llm_figures.plotting.venues import VENUES

OWN_SIZE = 9  # points, of all texts of a figure that has its own size
# By how much more such a figure grows, at a time and at most, where a larger font has no room.
STEP, MOST_STEPS = 1.15, 5
GAP = 0.02  # inches, around the drawing
LOWEST_MAP, HIGHEST_MAP = 1.8, 4.2  # inches, of a heatmap on a page
CLEARANCE = 0.4  # points, between two texts and between a text and a panel


@dataclass(frozen=True)
class Layout:
    """What a figure may take up, and the sizes of its fonts.

    width: exactly, in inches; None if each figure has its own size. height: at most, in inches.
    size: points, of titles and labels. small: points, of ticks and legends. growth: factor on all
    inches of a figure that has its own size, above 1 with a font larger than OWN_SIZE.
    """

    width: float | None
    height: float
    size: float
    small: float
    growth: float = 1.0

    @property
    def sized(self) -> bool:
        """Whether the figure has to fit a page: it then has short titles and few ticks."""
        return self.width is not None

    def share(self, panels: int, beside: float) -> float:
        """The width in inches of one of several panels. beside: of all that is beside them."""
        return max(((self.width or math.inf) - beside) / panels, 0.01)

    def count(self, most: int, least: float, beside: float) -> int:
        """How many panels there are side by side, up to `most`, at least `least` inches wide.

        beside: inches of all that is beside them.
        """
        return most if self.width is None else min(most, max(1, int(self.share(1, beside) / least)))


def find_font_sizes(style: Style) -> tuple[float, float]:
    """(size, small): see `Layout`."""
    venue, size = VENUES[style.venue], style.font_size
    if style.inches is None:
        return (OWN_SIZE if size is None else size,) * 2
    return (venue.size, venue.small) if size is None else (size, max(size - 2, SMALLEST_TEXT))


_current: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def layout_of(style: Style) -> Iterator[Layout]:
    """Lay out as the style says what is drawn inside the block."""
    sizes = find_font_sizes(style)
    growth = max(1.0, sizes[0] / OWN_SIZE) if style.inches is None else 1.0
    layout = Layout(style.inches, VENUES[style.venue].height, *sizes, growth)
    with _using(layout):
        yield layout


@contextmanager
def _using(layout: Layout) -> Iterator[None]:
    token = _current.set(layout)
    try:
        yield
    finally:
        _current.reset(token)


def find_layout() -> Layout:
    """The layout of what is drawn now; outside `layout_of`, figures have their own size."""
    size = plt.rcParams["font.size"]
    return _current.get() or Layout(None, math.inf, size, size)


def make_figure(own: tuple[float, float], height: float, **options) -> Figure:
    """An empty figure.

    own: width and height in inches with a font of OWN_SIZE, if the figure has its own size.
    height: what its contents need in the width of the layout, in inches. options: see `Figure`.
    """
    layout = find_layout()
    if layout.width is None:
        return plt.figure(figsize=tuple(layout.growth * side for side in own), **options)
    # not of pyplot: seaborn would draw the whole figure once more for every heatmap
    return Figure(figsize=(layout.width, min(height, layout.height)), **options)


def make_grid(
    rows: int,
    columns: int,
    *,
    own: tuple[float, float],
    height: float,
    square: bool = False,
    **options,
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of panels, placed by matplotlib's constrained layout.

    own, height: see `make_figure`. square: whether the panels are. options: see `Figure.subplots`.

    Returns the figure and its axes [rows, columns].
    """
    engine = "compressed" if square and find_layout().sized else "constrained"
    fig = make_figure(own, height, layout=engine)
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def choose_height(own: tuple[float, float]) -> float:
    """The height in inches of one heatmap of layers on a page.

    own: its size in inches elsewhere, whose proportions it keeps unless it would be very high.
    """
    width = find_layout().width or own[0]
    return max(min(own[1] * width / own[0], 1.2 * width, HIGHEST_MAP), LOWEST_MAP)


def add_legend(fig: Figure, handles: Sequence, labels: Sequence[str], columns: int) -> None:
    """Add a legend below the panels, in as many columns, up to `columns`, as there is room for."""
    for count in range(columns, 0, -1):
        legend = fig.legend(handles, labels, loc="outside lower center", ncols=count)
        width = legend.get_tightbbox(fig._get_renderer()).width / fig.dpi
        if count == 1 or width < fig.get_figwidth() - 2 * GAP:
            return
        legend.remove()


class LayerLocator(FixedLocator):
    """Ticks in the middle of every nth row of a heatmap, as many as its height has room for."""

    def __init__(self, rows: int, choose_step: Callable[[int, float], int]):
        super().__init__(np.arange(rows) + 0.5)
        self.choose_step = choose_step

    def __call__(self) -> np.ndarray:
        size = find_layout().small
        room = self.axis.axes.bbox.height / self.axis.figure.dpi * 72 / (1.4 * size)
        return self.locs[:: self.choose_step(len(self.locs), room)]


def draw_to_fit(name: str, draw: Callable[[], Figure]) -> Figure:
    """Draw a figure, of the exact width that the layout asks for if it asks for one.

    A figure that has its own size grows as a larger font needs.

    name: the figure's, for the message.

    Raises:
        UserError: the figure is not legible at this width; with the least at which it is. Or it is
            not with a large font, even if it grows.
    """
    layout = find_layout()
    if not layout.sized:
        return draw() if layout.growth == 1 else _draw_growing(name, draw, layout)
    fig, problem = _try(draw, layout)
    if not problem:
        return fig
    low, high = layout.width, layout.width
    while high < WIDEST and _try(draw, replace(layout, width=high))[1]:
        low, high = high, high * 1.5
    if high >= WIDEST:
        raise UserError(
            f"{name}: {problem} on a page {layout.height:.3g}in high, whatever the width (config: "
            "style.width); show fewer texts, tokens or models"
        )
    while high - low > 0.05:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _try(draw, replace(layout, width=middle))[1] else (low, middle)
        )
    raise UserError(
        f"{name}: at a width of {layout.width:.3g}in {problem}; it can be drawn from about "
        f"{math.ceil(10 * high) / 10:g}in ({math.ceil(25.4 * high) / 10:g}cm) on (config: "
        "style.width)"
    )


def _draw_growing(name: str, draw: Callable[[], Figure], layout: Layout) -> Figure:
    """Draw a figure of its own size, the larger the more room its font needs."""
    problems = []
    for step in range(MOST_STEPS + 1):
        fig, problem = _try(draw, replace(layout, growth=layout.growth * STEP**step))
        if not problem:
            return fig
        plt.close(fig)
        problems.append(problem)
    raise UserError(
        f"{name}: in {layout.size:g} pt {problems[0]} (config: style.font_size); take a smaller "
        "font, or set a style.width"
    )


def _try(draw: Callable[[], Figure], layout: Layout) -> tuple[Figure | None, str]:
    """The figure in this layout, and what is illegible in it; "" if nothing is."""
    with _using(layout), warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(axes sizes collapsed|_layout not applied)")
        try:
            fig = draw()
            if layout.sized:
                _settle(fig, layout)
            else:
                fig.draw_without_rendering()
        except UserWarning:
            return None, "there is no room for its panels"
    return fig, find_problem(fig, on_page=layout.sized)


def _settle(fig: Figure, layout: Layout) -> None:
    """Place everything in the exact width, and keep it there whatever the format.

    Slanted names of columns are turned upright where they are too close. A figure of square maps is
    as high as they need.
    """
    dpi = fig.dpi
    fig.set_dpi(plt.rcParams["savefig.dpi"])  # at which texts have nearly their size in a PDF
    if engine := fig.get_layout_engine():
        engine.set(w_pad=GAP, h_pad=GAP)
    fig.set_size_inches(layout.width, fig.get_figheight())
    fig.draw_without_rendering()
    if _turn_names(fig):
        fig.draw_without_rendering()
    if any(ax.get_aspect() == 1 for ax in fig.axes):
        for _ in range(2):
            ink = fig.get_tightbbox()
            fig.set_figheight(min(ink.height + 2 * GAP, layout.height))
            fig.draw_without_rendering()
    fig.set_layout_engine("none")
    fig.set_dpi(dpi)


def _turn_names(fig: Figure) -> bool:
    turned = False
    for ax in fig.axes:
        labels = [label for label in ax.get_xticklabels() if label.get_rotation() == 45]
        if len(labels) < 2:
            continue
        apart = ax.get_window_extent().width / fig.dpi * 72 / len(labels)
        if apart * math.sqrt(0.5) < 1.15 * labels[0].get_size():
            plt.setp(labels, rotation=90, ha="center", va="top", rotation_mode="default")
            turned = True
    return turned


@dataclass(frozen=True)
class _Text:
    """A line of text as it was drawn: its four corners and the size of its font in points."""

    words: str
    corners: np.ndarray
    size: float
    artist: Text | None


class _Texts(RendererBase):
    """Draws nothing and keeps the place of every text."""

    def __init__(self):
        super().__init__()
        self.texts: list[_Text] = []

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
        box = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - (0, descent)
        turn = np.deg2rad(angle)
        rows = [(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]
        corners = box @ np.array(rows) + (x, y)
        self.texts.append(_Text(s, corners, prop.get_size_in_points(), mtext))

    def draw_nothing(self, *args, **kwargs):
        pass

    draw_path = draw_markers = draw_path_collection = draw_quad_mesh = draw_image = draw_nothing

    def flipy(self):
        return False


def find_problem(fig: Figure, on_page: bool = True) -> str:
    """What makes the figure illegible, in words; "" if nothing does.

    Its texts may overlap neither each other nor a panel that is not their own. On a page they must
    be large enough and inside the figure; elsewhere the figure is saved with all that is drawn.
    """
    dpi, renderer = fig.dpi, _Texts()
    fig.set_dpi(72)
    fig.draw(renderer)
    panels = [(ax, ax.get_window_extent().padded(CLEARANCE).corners()) for ax in fig.axes]
    panels = [(ax, box[[0, 1, 3, 2]]) for ax, box in panels if ax.get_visible()]
    right, top = 72 * fig.get_size_inches()
    fig.set_dpi(dpi)
    for text in renderer.texts:
        if on_page and text.size < SMALLEST_TEXT - 0.01:
            return f"{text.words!r} would have {text.size:.1f} pt, less than {SMALLEST_TEXT}"
        if on_page and (text.corners.min() < 0 or (text.corners > (right, top)).any()):
            return f"{text.words!r} would be cut off"
        own = text.artist and text.artist.axes
        if any(_overlap(text.corners, box) for ax, box in panels if ax is not own):
            return f"{text.words!r} would run into a neighbouring panel"
    for one, other in combinations(renderer.texts, 2):
        if (title := _title_of(one)) and title == _title_of(other):
            continue
        lines = one.artist is other.artist  # of one text
        if _overlap(one.corners, other.corners, 0.0 if lines else CLEARANCE):
            return f"{one.words!r} and {other.words!r} would overlap"
    return ""


def _title_of(text: _Text) -> str | None:
    """The title that a text is a piece of, see `drawing.add_title`."""
    return getattr(text.artist, "title", None)


def _overlap(one: np.ndarray, other: np.ndarray, clearance: float = 0.0) -> bool:
    """Whether two rectangles [4 corners, 2] are nearer than `clearance` points."""
    if (one.min(0) > other.max(0) + clearance).any() or (
        other.min(0) > one.max(0) + clearance
    ).any():
        return False
    for corners in (one, other):
        for side in (corners[1] - corners[0], corners[3] - corners[0]):
            length = np.hypot(*side)
            if not length:
                continue
            a, b = one @ side / length, other @ side / length
            if a.min() > b.max() + clearance or b.min() > a.max() + clearance:
                return False
    return True
