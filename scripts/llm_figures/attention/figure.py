"""Drawing of the attention heatmaps: mean_qkv, mean_qkv_tokens, scale_qkv."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from llm_figures.attention.interventions import CLEAN
from llm_figures.attention.maps import distance_to_uniform, sink_strength
from llm_figures.attention.options import AttentionFigure, AttentionInterventions
from llm_figures.attention.token_labels import (
    PANEL,
    choose_tick_labels,
    is_binned,
    label_ticks,
    measure_labels,
    show_token,
)
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.drawing import add_colour_bar, add_title, draw_heatmap, find_colour_map
from llm_figures.plotting.layout import find_layout, make_grid

OPTIONS = AttentionFigure
MEAN_TITLES = {
    "features": "The Mean Operation For *Query*, *Key* and *Value*",
    "tokens": "The Mean Operation over Tokens For *Query*, *Key* and *Value*",
}
# Approximate inches: the room on a page for labels and the colour bar.
BESIDE = 0.75
SCALE_TITLE = "The Attention Weight after Modifying Query, Key and Value"
# Weight that a row lacks by more than rounding goes to a sink that is no token.
LEAST_SINK = 1e-3
# What the caption says in figures without stating a number of the run.
CONSTANTS = {"(from 0)": "layers are counted from 0", "less than 1": "weights of a row sum to 1"}


def format_epsilon(epsilon: float) -> str:
    """5e-1 and 1e-10 as published, other factors as plain numbers where that is short: 0.75, 2."""
    mantissa, exponent = f"{epsilon:.6e}".split("e")
    mantissa, power = mantissa.rstrip("0").rstrip("."), int(exponent)
    plain = f"{epsilon:.7g}"
    if "e" in plain or ("." not in mantissa and power < 0):
        return f"{mantissa}e{power}"
    return plain


def make_panel_title(panel: pd.Series) -> str:
    """The published title of a panel, with *italic* words.

    panel: one of its cells.
    """
    component = panel["component"].capitalize()
    if panel["component"] == CLEAN:
        return "Clean Model" + (
            f" (Input {panel['input']})" if panel["operation"] == "mean" else ""
        )
    if panel["operation"] == "mean":
        return f"Taking the Mean of *{component}* (Input {panel['input']})"
    return f"Modifying {component} with ε = {format_epsilon(panel['epsilon'])}"


def make_figure_title(options: AttentionInterventions) -> str:
    """The published title of the figure, with *italic* words and the components that it shows."""
    title = MEAN_TITLES[options.over] if options.operation == "mean" else SCALE_TITLE
    star = "*" if options.operation == "mean" else ""
    names = [f"{star}{component.capitalize()}{star}" for component in options.components]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return title.replace(f"{star}Query{star}, {star}Key{star} and {star}Value{star}", listed)


def draw_panel(
    panel: pd.DataFrame, ax, cmap: Colormap, limits: Sequence[float], masked: str = "zero"
):
    """Draw one map from its tidy cells, without title or ticks; return the mesh for a colour bar.

    Rows are query positions from the top, columns key positions from the left. For a long text they
    are bins of positions, all drawn with the same width. masked: the option of that name.
    """
    weights = panel.pivot(index="query_position", columns="key_position", values="weight")
    names = None
    if masked == "grey":
        hidden = panel.assign(masked=_find_masked(panel))
        weights = weights.mask(
            hidden.pivot(index="query_position", columns="key_position", values="masked")
        )
    if is_binned(panel):
        weights.index = _label_bins(panel, "query")
        weights.columns = _label_bins(panel, "key")
    else:
        names = {"rows": _find_tokens(panel, "query"), "columns": _find_tokens(panel, "key")}
    mesh = draw_heatmap(
        weights,
        ax,
        cmap=cmap,
        limits=limits,
        title=make_panel_title(panel.iloc[0]).replace("*", ""),
        names=names,
        square=True,
        xticklabels=False,
        yticklabels=False,
    )
    ax.set(xlabel="", ylabel="")
    return mesh


def _find_masked(panel: pd.DataFrame) -> pd.Series:
    """Whether a cell is masked; files of earlier versions tell no more than that keys are later."""
    if "masked" in panel:
        return panel["masked"]
    last = panel["query_position"] + panel.get("query_count", 1) - 1
    return panel["key_position"] > last


def _find_tokens(panel: pd.DataFrame, side: str) -> list[str] | None:
    """The tokens of one axis as they are shown; None where they are not known."""
    if f"{side}_token" not in panel:
        return None
    places = panel.drop_duplicates(f"{side}_position").sort_values(f"{side}_position")
    tokens = places[f"{side}_token"].fillna("")
    return [show_token(token) for token in tokens] if tokens.ne("").any() else None


def _label_bins(panel: pd.DataFrame, side: str) -> pd.Index:
    """The positions of each bin, such as "7" or "8–15"."""
    bins = panel.drop_duplicates(f"{side}_position").sort_values(f"{side}_position")
    first = bins[f"{side}_position"].to_numpy()
    last = first + bins[f"{side}_count"].to_numpy() - 1
    names = [str(a) if a == b else f"{a}–{b}" for a, b in zip(first, last, strict=True)]
    return pd.Index(names, name=f"{side}_position")


def draw(cells: pd.DataFrame, options: AttentionFigure) -> Figure:
    """Draw the grid of maps from the tidy cells of one attention figure.

    Raises:
        UserError: an unknown palette.
    """
    cmap, layout = find_colour_map(options.palette), find_layout()
    rows, columns = cells["panel_row"].max() + 1, cells["panel_column"].max() + 1
    panels = dict(list(cells.groupby(["panel_row", "panel_column"])))
    # All panels of a row show the same text. A row has labels unless the next one repeats them.
    texts = {row: panels[row, 0]["input"].iloc[0] for row in range(rows)}
    labelled = {row for row in range(rows) if row == rows - 1 or texts[row] != texts[row + 1]}
    side, wide, kind, ticks = layout.growth * PANEL, 0.0, options.tick_labels, {}
    for _ in range(3 if layout.sized else 1):  # labels take room from the maps
        if layout.sized:
            most = (layout.height - wide * len(labelled) - 0.7) / rows - 0.2
            side = max(min(layout.share(columns, BESIDE + wide), most), 0.01)
        before = ticks
        ticks = {place: choose_tick_labels(panel, kind, side) for place, panel in panels.items()}
        if before and any(ticks[place] and ticks[place][1] != before[place][1] for place in ticks):
            kind = "positions"  # tokens are readable only where they have no room
        wide = max(map(measure_labels, ticks.values()), default=0.0)
    titled = options.titles and not layout.sized
    # A figure of its own size grows by the labels, so that the maps keep theirs.
    high = wide * len(labelled)
    labels = wide / layout.growth, high / layout.growth
    below = 0.4 if titled else 0.0  # for the title
    own = (3.0 * columns + 0.9 + labels[0], 3.05 * rows + below + labels[1])
    fig, axes = make_grid(
        rows, columns, own=own, height=(side + 0.2) * rows + high + 0.7, square=True
    )
    bottom = below / own[1]
    fig.get_layout_engine().set(rect=(0, bottom, 1, 1), wspace=0.03, hspace=0.03)
    for (row, column), panel in panels.items():
        ax = axes[row, column]
        mesh = draw_panel(panel, ax, cmap, options.limits, options.masked)
        if ticks[row, column] is not None:
            label_ticks(ax, ticks[row, column], below=row in labelled, left=column == 0)
        if titled:
            add_title(
                ax,
                make_panel_title(panel.iloc[0]),
                f"panel-{row}-{column}-title",
                anchor=(0.5, 1.0),
                transform=ax.transAxes,
                loc="lower center",
                size=plt.rcParams["font.size"],
            )
    low, high = options.limits
    add_colour_bar(
        fig,
        mesh,
        "Attention Weight",
        ticks=np.round(np.linspace(low, high, 6), 10),
        ax=axes,
        shrink=1.0,
        aspect=40,
        pad=0.02,
    )
    if titled:
        _add_figure_title(fig, axes, make_figure_title(options))
    else:
        _head_panels(axes, *label_panels(cells))
    return fig


def label_panels(cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """(labels above the columns of panels, labels beside the rows); starred words are italic.

    Columns and rows are components and inputs for mean, ε and components for scale. A first column
    of clean panels is labelled as such.
    """
    clean = cells["component"] == CLEAN
    left, cells = ["Clean"] if clean.any() else [], cells[~clean]
    first_row = cells[cells["panel_row"] == 0].drop_duplicates("panel_column")
    first_column = cells[cells["panel_column"] == len(left)].drop_duplicates("panel_row")
    columns = first_row.sort_values("panel_column")
    rows = first_column.sort_values("panel_row")
    if cells["operation"].iloc[0] == "mean":
        return (
            [*left, *(f"*{name.capitalize()}*" for name in columns.component)],
            [f"Input {index}" for index in rows.input],
        )
    return (
        [*left, *(f"ε = {format_epsilon(epsilon)}" for epsilon in columns.epsilon)],
        [name.capitalize() for name in rows.component],
    )


def _head_panels(axes: np.ndarray, above: Sequence[str], beside: Sequence[str]) -> None:
    """Label the columns and rows of panels, as from `label_panels`."""
    for ax, text in zip(axes[0], above, strict=True):
        ax.set_title(text.replace("*", ""), style="italic" if "*" in text else "normal")
    for ax, text in zip(axes[:, 0], beside, strict=True):
        ax.set_ylabel(text)


def _add_figure_title(fig: Figure, axes: np.ndarray, title: str) -> None:
    """Add the published title below the panels."""
    fig.draw_without_rendering()  # places the panels, under whose centre the title goes
    left, right = axes[0, 0].get_position().x0, axes[0, -1].get_position().x1
    add_title(
        fig,
        title,
        "figure-title",
        anchor=((left + right) / 2, 0.0),
        transform=fig.transFigure,
        loc="lower center",
        size=1.4 * plt.rcParams["font.size"],
    )


def state_numbers(cells: pd.DataFrame, options: AttentionFigure) -> StatedNumbers:
    """The numbers of the caption, and F and D of every panel.

    F is the mean weight on the first token over the later queries, D the mean distance to the
    uniform causal map (see `maps`). Neither follows from a map in bins.
    """
    numbers = StatedNumbers()
    first = cells.iloc[0]
    section = f"figures.{first['figure']}"
    for column in ("layer", "head", "attention_layers", "model_layers"):
        numbers.take(column, first, column)
    for end, limit in zip(("low", "high"), options.limits, strict=True):
        numbers.take_option(f"colour_{end}", limit, "g", f"{section}.limits")
    panels = cells.groupby(["panel_row", "panel_column"])
    sums = cells.groupby(["panel_row", "panel_column", "query_position"])["weight"].sum()
    lost = "1 − the least sum of weight over the keys of one query of one panel"
    numbers.add("largest_sink", 1 - sums.min(), _format_sink, lost)
    bins, longest, most = _find_bins(cells) or (None, None, None)
    numbers.add("bins", bins, "d", "number of query_position of the longest text that is in bins")
    numbers.add("longest_text", longest, ",", "sum of query_count over the bins of that text")
    numbers.add("tokens_per_bin", most, "d", "largest query_count of that text")
    left = int((cells["component"] == CLEAN).any())
    for place, panel in panels:
        row = dict(zip(("panel_row", "panel_column"), map(int, place), strict=True))
        clean, scaled = (
            panel[key].iloc[0] == value
            for key, value in (("component", CLEAN), ("operation", "scale"))
        )
        if clean and scaled and row["panel_row"]:
            continue  # the same map once more
        name = _name_panel(panel.iloc[0], left)
        if scaled and not clean:
            epsilon = f"epsilon_{row['panel_column'] + 1 - left}"
            numbers.take(epsilon, panel.iloc[0], "epsilon", format_epsilon, ["panel_column"])
        weights = None
        if not is_binned(panel):
            weights = panel.pivot(
                index="query_position", columns="key_position", values="weight"
            ).to_numpy()
        for what, measure, formula in (
            ("sink", sink_strength, "F: mean weight on key 0 over the queries from 1 on"),
            (
                "distance",
                distance_to_uniform,
                "D: mean |weight − 1 / (query + 1)| over keys up to the query",
            ),
        ):
            known = weights is not None and len(weights) > 1
            value = measure(weights) if known else None
            numbers.add(f"{name}_{what}", value, ".3f", formula, row=row)
    return numbers


def _format_sink(share: float) -> str:
    return f"{share:.2g}" if share >= LEAST_SINK else "0"


def _name_panel(panel: pd.Series, left: int) -> str:
    """text_1_query, or query_epsilon_2: by its place, whatever the text and the ε.

    left: columns of clean panels.
    """
    if panel["operation"] == "mean":
        return f"text_{panel['input']}_{panel['component']}"
    if panel["component"] == CLEAN:
        return CLEAN
    return f"{panel['component']}_epsilon_{panel['panel_column'] + 1 - left}"


def describe(
    cells: pd.DataFrame,
    model: str,
    options: AttentionFigure,
    numbers: StatedNumbers | None = None,
) -> str:
    """The caption: model, layer, head, operation, stage, scope and any bins of a figure.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(cells, options)
    first = cells.iloc[0]
    auto = ", where the sink of the clean model is strongest" if options.layer == "auto" else ""
    head = "averaged over its heads" if first["head"] == "mean" else f"head {numbers['head']}"
    axis = {"features": "head dimension", "tokens": "token positions"}[options.over]
    operation = (
        f"replaced by its mean over the {axis}"
        if options.operation == "mean"
        else "multiplied by ε"
    )
    changed = _describe_components(options)
    scope = "in this layer only" if options.scope == "layer" else "in every layer"
    if first.get("attention_layers", 0) < first.get("model_layers", 0):
        auto += (
            f" ({numbers['attention_layers']} of the model's {numbers['model_layers']} layers have "
            "attention maps)"
        )
        scope = scope.replace("every layer", "each of them")
    shown = " The first column is the clean model." if (cells["component"] == CLEAN).any() else ""
    masked = " Grey: keys that the queries cannot attend to." if options.masked == "grey" else ""
    return (
        f"Attention weights of {model}, layer {numbers['layer']} (from 0){auto}, {head}. "
        f"{changed} is {operation}, {scope}.{shown} Rows are query "
        "positions from the top, columns key positions. Colours span "
        f"{numbers['colour_low']} to {numbers['colour_high']}.{masked}{_describe_sinks(numbers)}"
        f"{_describe_bins(numbers)}\n"
    )


def _describe_components(options: AttentionFigure) -> str:
    """The components that are shown, with the stage where Query or Key is among them."""
    rotated = [name.capitalize() for name in options.components if name != "value"]
    stage = "after" if options.stage == "after_rotary" else "before"
    named = [f"{' or '.join(rotated)} ({stage} rotary embedding)"] if rotated else []
    return " or ".join([*named, *(["Value"] if "value" in options.components else [])])


def _describe_sinks(numbers: StatedNumbers) -> str:
    if numbers["largest_sink"].value < LEAST_SINK:
        return ""
    return (
        " Rows sum to less than 1: the rest, up to "
        f"{numbers['largest_sink']}, goes to the model's attention sink, which is no token."
    )


def _find_bins(cells: pd.DataFrame) -> tuple[int, int, int] | None:
    """Bins of the longest text that is shown in bins, its tokens, and those of its largest bin."""
    if not is_binned(cells):
        return None
    longest = max((text for _, text in cells.groupby("input") if is_binned(text)), key=len)
    counts = longest.drop_duplicates("query_position")["query_count"]
    return len(counts), int(counts.sum()), int(counts.max())


def _describe_bins(numbers: StatedNumbers) -> str:
    if numbers["bins"].value is None:
        return ""
    return (
        f" Texts of more than {numbers['bins']} tokens (here up to {numbers['longest_text']}) are "
        f"shown in {numbers['bins']} bins per axis: the first token has its own bin, the others "
        f"share bins of up to {numbers['tokens_per_bin']} tokens. A cell is the total weight on "
        "the keys of its bin, averaged over the queries of its bin."
    )
