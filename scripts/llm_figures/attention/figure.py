"""The 3 × 3 attention heatmaps: mean_qkv, mean_qkv_tokens, scale_qkv."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from llm_figures.plotting.drawing import colour_bar, colour_map, heatmap, styled_title

MEAN_TITLES = {
    "features": "The Mean Operation For *Query*, *Key* and *Value*",
    "tokens": "The Mean Operation over Tokens For *Query*, *Key* and *Value*",
}
# Points; smaller labels are not readable, and positions stand in place of tokens.
SMALLEST_LABEL = 5.0
LARGEST_LABEL = 7.5
LONGEST_LABEL = 14  # characters of a token
# A map of more cells is an image in the vector formats, too.
VECTOR_CELLS = 16_384
PANEL = 2.6  # inches, about what a map's side is
SCALE_TITLE = "The Attention Weight after Modifying Query, Key and Value"


def epsilon_label(epsilon: float) -> str:
    """5e-1, 1e-3, 2.5e-1: as few digits as tell the value."""
    mantissa, exponent = f"{epsilon:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def panel_title(panel: pd.Series) -> str:
    """The published title of a panel; starred words are italic."""
    component = panel["component"].capitalize()
    if panel["operation"] == "mean":
        return f"Taking the Mean of *{component}* (Input {panel['input']})"
    return f"Modifying {component} with ε = {epsilon_label(panel['epsilon'])}"


def figure_title(options: dict) -> str:
    """The published title of the whole figure, naming the components that are shown."""
    title = MEAN_TITLES[options["over"]] if options["operation"] == "mean" else SCALE_TITLE
    star = "*" if options["operation"] == "mean" else ""
    names = [f"{star}{component.capitalize()}{star}" for component in options["components"]]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return title.replace(f"{star}Query{star}, {star}Key{star} and {star}Value{star}", listed)


def attention_panel(panel: pd.DataFrame, ax, cmap: Colormap, limits: Sequence[float]):
    """One map from its tidy cells, without title or ticks; returns the mesh for a colour bar.

    Rows are query positions from the top, columns key positions from the left; of a long text
    bins of positions, all drawn equally wide.
    """
    weights = panel.pivot(index="query_position", columns="key_position", values="weight")
    if is_binned(panel):
        weights.index = _ranges(panel, "query")
        weights.columns = _ranges(panel, "key")
    mesh = heatmap(
        weights,
        ax,
        cmap=cmap,
        limits=limits,
        title=panel_title(panel.iloc[0]).replace("*", ""),
        square=True,
        xticklabels=False,
        yticklabels=False,
    )
    mesh.set_rasterized(weights.size > VECTOR_CELLS)
    ax.set(xlabel="", ylabel="")
    return mesh


def is_binned(cells: pd.DataFrame) -> bool:
    """Whether a map's cells are bins of tokens; files of earlier versions have none."""
    return "query_count" in cells and bool(cells["query_count"].max() > 1)


def _ranges(panel: pd.DataFrame, side: str) -> pd.Index:
    """The positions of every bin, "7" or "8–15"."""
    bins = panel.drop_duplicates(f"{side}_position").sort_values(f"{side}_position")
    first = bins[f"{side}_position"].to_numpy()
    last = first + bins[f"{side}_count"].to_numpy() - 1
    names = [str(a) if a == b else f"{a}–{b}" for a, b in zip(first, last, strict=True)]
    return pd.Index(names, name=f"{side}_position")


def tick_labels(panel: pd.DataFrame, wanted: str) -> tuple[list[float], list[str], float] | None:
    """(places in cells from the left or the top, labels, size in points) of a map's two axes.

    wanted: the option. `none` gives None. `tokens` labels every cell with its token where that is
    readable on a map of `PANEL` inches; else, as `positions` does, some cells with the position
    of their (first) token, counted from 0.
    """
    if wanted == "none":
        return None
    bins = panel.drop_duplicates("key_position").sort_values("key_position")
    size = min(LARGEST_LABEL, plt.rcParams["font.size"], PANEL * 72 / len(bins) / 1.15)
    known = "key_token" in bins and bins["key_token"].fillna("").ne("").any()
    if wanted == "tokens" and known and size >= SMALLEST_LABEL and not is_binned(panel):
        names = [_shown_token(token) for token in bins["key_token"]]
        return [place + 0.5 for place in range(len(names))], names, size
    positions = bins["key_position"].astype(str).tolist()
    size = min(LARGEST_LABEL, plt.rcParams["font.size"])
    step = _step(len(positions), PANEL * 72 / (1.6 * size))
    # The first cell has its label: it is the sink.
    chosen = list(range(0, len(positions), step))
    return [place + 0.5 for place in chosen], [positions[place] for place in chosen], size


def _step(cells: int, room: float) -> int:
    """Cells between two labels, so that at most `room` labels are shown: 1, 2, 5, 10, 20, …"""
    for power in range(10):
        for factor in (1, 2, 5):
            if cells <= room * factor * 10**power:
                return factor * 10**power
    return cells


def _shown_token(token: str) -> str:
    """A token as a label: white space visible where there is nothing else, long ones cut."""
    text = token.strip() or repr(token)[1:-1].replace(" ", "␣")
    text = text.replace("\n", "\\n")
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _label_ticks(ax, ticks: tuple[list[float], list[str], float], below: bool, left: bool) -> None:
    places, names, size = ticks
    for axis, shown in ((ax.xaxis, below), (ax.yaxis, left)):
        axis.set_ticks(places if shown else [], names if shown else [])
        axis.set_tick_params(labelsize=size, length=1.5, pad=1.5)
        for text in axis.get_ticklabels():
            text.set_parse_math(False)
            text.set_rotation("vertical" if axis is ax.xaxis else "horizontal")


def draw(cells: pd.DataFrame, options: dict) -> Figure:
    """Draw the grid from the tidy cells of one attention figure."""
    cmap = colour_map(options["palette"])
    rows, columns = cells["panel_row"].max() + 1, cells["panel_column"].max() + 1
    size = plt.rcParams["font.size"]
    panels = dict(list(cells.groupby(["panel_row", "panel_column"])))
    ticks = {
        place: tick_labels(panel, options.get("tick_labels", "none"))
        for place, panel in panels.items()
    }
    inputs = {row: panels[row, 0]["input"].iloc[0] for row in range(rows)}
    # All panels of a row show one text; a row has labels below it unless the next has the same.
    labelled = {row for row in range(rows) if row == rows - 1 or inputs[row] != inputs[row + 1]}
    # Room for the labels, so that they do not take it from the maps.
    wide = max((_longest(found) for found in ticks.values()), default=0.0)
    high = wide * len(labelled)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.0 * columns + 0.9 + wide, 3.05 * rows + 0.4 + high),
        squeeze=False,
        layout="constrained",
    )
    bottom = 0.4 / (3.05 * rows + 0.4 + high)
    fig.get_layout_engine().set(rect=(0, bottom, 1, 1), wspace=0.03, hspace=0.03)
    for (row, column), panel in panels.items():
        ax = axes[row, column]
        mesh = attention_panel(panel, ax, cmap, options["limits"])
        if ticks[row, column] is not None:
            _label_ticks(ax, ticks[row, column], below=row in labelled, left=column == 0)
        styled_title(
            ax,
            panel_title(panel.iloc[0]),
            f"panel-{row}-{column}-title",
            anchor=(0.5, 1.0),
            transform=ax.transAxes,
            loc="lower center",
            size=size,
        )
    low, high = options["limits"]
    colour_bar(
        fig,
        mesh,
        "Attention Weight",
        ticks=np.round(np.linspace(low, high, 6), 10),
        ax=axes,
        shrink=1.0,
        aspect=40,
        pad=0.02,
    )
    fig.draw_without_rendering()  # places the panels, whose centre the title goes under
    left, right = axes[0, 0].get_position().x0, axes[0, -1].get_position().x1
    styled_title(
        fig,
        figure_title(options),
        "figure-title",
        anchor=((left + right) / 2, 0.0),
        transform=fig.transFigure,
        loc="lower center",
        size=1.4 * size,
    )
    return fig


def _longest(ticks: tuple[list[float], list[str], float] | None) -> float:
    """About how long the longest label is, in inches."""
    if ticks is None:
        return 0.0
    _, names, size = ticks
    return (0.62 * max(map(len, names)) * size + 4) / 72


def describe(cells: pd.DataFrame, model: str, options: dict) -> str:
    """Model, layer, head, operation, stage and scope of an attention figure."""
    first = cells.iloc[0]
    why = ", where the clean model's sink is strongest" if options["layer"] == "auto" else ""
    head = "averaged over its heads" if first["head"] == "mean" else f"head {first['head']}"
    axis = {"features": "head dimension", "tokens": "token positions"}[options["over"]]
    made = (
        f"replaced by its mean over the {axis}"
        if options["operation"] == "mean"
        else "multiplied by ε"
    )
    stage = "after" if options["stage"] == "after_rotary" else "before"
    where = "in this layer alone" if options["scope"] == "layer" else "in every layer"
    low, high = options["limits"]
    binned = ""
    if is_binned(cells):
        texts = [text for _, text in cells.groupby("input") if is_binned(text)]
        longest = max(texts, key=len)
        bins = longest.drop_duplicates("query_position")
        binned = (
            f" A text of more tokens than {len(bins)} is shown in {len(bins)} bins a side (up to "
            f"{bins['query_count'].sum():,} tokens here): the first token keeps a bin of its own, "
            f"the others share even ones of up to {bins['query_count'].max()}; a cell is the mean "
            "over the bin's queries of their weight on all of the bin's keys together."
        )
    return (
        f"Attention weights of {model}, layer {first['layer']} (from 0){why}, {head}. Query or Key "
        f"({stage} rotary embedding) or Value is {made}, {where}. Rows are query positions from "
        f"the top, columns key positions. Colours span {low:g} to {high:g}.{binned}\n"
    )
