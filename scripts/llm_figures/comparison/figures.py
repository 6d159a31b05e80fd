"""Each figure as small multiples: one panel or block per model, on one colour scale."""

import math
import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from llm_figures.attention.figure import attention_panel, epsilon_label, figure_title
from llm_figures.modules.figure import (
    COLUMNS,
    colour_scale,
    module_bar,
    module_panel,
    module_values,
    robust_words,
    spoken,
)
from llm_figures.modules.metrics import described
from llm_figures.plotting.drawing import colour_bar, colour_map, styled_title
from llm_figures.probe.figure import (
    CONTROLS,
    EXPLANATIONS,
    LABELS,
    draw_highlight,
    probe_bar,
    probe_panel,
    probe_values,
)

Tables = Mapping[str, pd.DataFrame]

# Inches.
MARGIN = 0.12
MAP, GAP = 0.92, 0.07
BLOCK_GAP = 0.32
BAR, BAR_GAP = 0.14, 0.22


def unusable(figure: str, table: pd.DataFrame, options: dict) -> str | None:
    """Why a model's scores cannot be drawn beside others; None if they can.

    A folder made by another version or another config may hold other columns, or other metrics.
    """
    modules = is_module_map(figure)
    needed = {
        "probe_auc": {"layer", "token", "metric", "mean", "ci_low", "ci_high", "control", "n"},
        "module_map": {"layer", "module", "metric", "value"},
    }.get(
        "module_map" if modules else figure,
        {"panel_row", "panel_column", "input", "component", "operation", "over", "epsilon"}
        | {"scope", "layer", "head", "query_position", "key_position", "weight"},
    )
    if lacking := sorted(needed - set(table)):
        return f"has no column {', '.join(lacking)}"
    if "metric" in needed:
        shown = table[table["metric"] == options["metric"]]
        if modules:
            known, value = shown["module"].isin(COLUMNS), "value"
        else:
            known = shown["token"].isin(options["tokens"]) & (shown["control"] == "none")
            value = "mean"
        if not shown.loc[known, value].notna().any():
            return f"has no scores of {options['metric']} to show"
    return None if len(table) else "is empty"


def is_module_map(figure: str) -> bool:
    """Whether a figure is the module map, of its first metric or another."""
    return figure.startswith("module_map")


def draw_comparison(figure: str, tables: Tables, options: dict) -> Figure:
    """Draw one figure of several models.

    tables: the tidy scores of each, by the name that becomes its title, in the order of reading.
    options: those of the figure, for all of them.
    """
    if figure == "probe_auc":
        return _draw_probes(tables, options)
    if is_module_map(figure):
        return _draw_modules(tables, options)
    return _draw_attentions(tables, options)


def grid(count: int) -> tuple[int, int]:
    """Rows and columns for this many panels: one row of three, two of up to eight, then more."""
    columns = count if count <= 3 else min(4, math.ceil(count / 2))
    return math.ceil(count / columns), columns


def _draw_probes(tables: Tables, options: dict) -> Figure:
    """The layer × token heatmaps: all equally high, layer 0 at the top of each."""
    tokens = options["tokens"]
    values = {
        name: probe_values(table, options["metric"], tokens) for name, table in tables.items()
    }
    width = 0.27 * len(tokens)
    fig, axes, height = _panels(values, width=width, labels=1.5)
    for index, (ax, (name, cells)) in enumerate(zip(axes, values.items(), strict=True)):
        rows = len(cells)
        mesh = probe_panel(
            cells, ax, options["palette"], options["limits"], layer_step(rows, height)
        )
        if options["highlight"] and _rectangle_fits(options["highlight"], rows - 1):
            draw_highlight(ax, options["highlight"], tokens, rows - 1)
            ax.patches[-1].set_gid(f"highlight-{index}")  # an id of its own in the SVG
        _title(ax, name, width)
    _outer_labels(axes, "Token", "Layer")
    probe_bar(fig, mesh, options, ax=axes, pad=0.02)
    return fig


def _draw_modules(tables: Tables, options: dict) -> Figure:
    """The layer × module heatmaps: all equally high, layer 0 at the bottom of each.

    The columns are the modules of any model; grey where a model has no such module.
    """
    values = {name: module_values(table, options["metric"]) for name, table in tables.items()}
    modules = [name for name in COLUMNS if any(name in cells for cells in values.values())]
    values = {name: cells.reindex(columns=modules) for name, cells in values.items()}
    cmap, limits = colour_scale(_all_values(values), options)
    width = 0.36 * len(modules)
    fig, axes, height = _panels(values, width=width, labels=0.7)
    for ax, (name, cells) in zip(axes, values.items(), strict=True):
        mesh = module_panel(cells, ax, cmap, limits, layer_step(len(cells), height))
        _title(ax, name, width)
    _outer_labels(axes, "", "Layer")
    module_bar(fig, mesh, _all_values(values), limits, options["metric"], ax=axes, pad=0.02)
    return fig


def _draw_attentions(tables: Tables, options: dict) -> Figure:
    """A block of maps per model: columns titled once above, rows once at the left.

    Places are computed, not fitted: every map of every model has the same size.
    """
    size, cmap = plt.rcParams["font.size"], colour_map(options["palette"])
    line = 1.4 * size / 72
    shapes = {
        name: (cells["panel_row"].max() + 1, cells["panel_column"].max() + 1)
        for name, cells in tables.items()
    }
    labels = {name: panel_labels(cells) for name, cells in tables.items()}
    # No title is wider than its map, whatever the ε or the font.
    side = max(
        MAP,
        *(
            _text_width(text.replace("*", ""), size) + 0.08
            for pair in labels.values()
            for part in pair
            for text in part
        ),
    )
    most_rows, most_columns = (max(shape[axis] for shape in shapes.values()) for axis in (0, 1))
    maps_wide, maps_high = (n * side + (n - 1) * GAP for n in (most_columns, most_rows))
    names = {name: wrapped(name, maps_wide, 1.2 * size) for name in tables}
    rows, columns = grid(len(tables))
    lines = [text.count("\n") + 1 for text in names.values()]
    # Tops of the maps, by row of the grid; above them the columns' titles and the models' names.
    tops, below = [], MARGIN
    for row in range(rows):
        above = line + 1.2 * line * max(lines[row * columns : (row + 1) * columns])
        tops.append(below + above)
        below += above + maps_high + BLOCK_GAP
    block_wide = line + maps_wide
    bottom = MARGIN + 2.4 * line  # the figure's title stands there
    right = MARGIN + columns * block_wide + (columns - 1) * BLOCK_GAP
    total_wide = right + BAR_GAP + BAR + 4.5 * line + MARGIN
    total_high = tops[-1] + maps_high + bottom
    fig = plt.figure(figsize=(total_wide, total_high))

    def place(left: float, top: float) -> tuple[float, float]:
        """A point in inches from the left and from the top, as fractions of the figure."""
        return left / total_wide, 1 - top / total_high

    for index, (name, cells) in enumerate(tables.items()):
        left = MARGIN + index % columns * (block_wide + BLOCK_GAP) + line
        top = tops[index // columns]
        column_labels, row_labels = labels[name]
        for (row, column), panel in cells.groupby(["panel_row", "panel_column"]):
            x, y = left + column * (side + GAP), top + row * (side + GAP)
            ax = fig.add_axes(
                (*place(x, y + side), side / total_wide, side / total_high),
                gid=f"block-{index}-panel-{row}-{column}",
            )
            mesh = attention_panel(panel, ax, cmap, options["limits"])
        middle = left + (shapes[name][1] * (side + GAP) - GAP) / 2
        fig.text(
            *place(middle, top - line - 0.2 * line),
            names[name],
            size=1.2 * size,
            ha="center",
            va="bottom",
            gid=f"block-{index}-title",
            parse_math=False,
        )
        for column, text in enumerate(column_labels):
            fig.text(
                *place(left + column * (side + GAP) + side / 2, top - 0.25 * line),
                text.replace("*", ""),
                style="italic" if "*" in text else "normal",
                ha="center",
                va="bottom",
                gid=f"block-{index}-column-{column}",
            )
        for row, text in enumerate(row_labels):
            fig.text(
                *place(left - 0.25 * line, top + row * (side + GAP) + side / 2),
                text.replace("*", ""),
                ha="right",
                va="center",
                rotation=90,
                gid=f"block-{index}-row-{row}",
            )
    top, end = tops[0], tops[-1] + maps_high
    low, high = options["limits"]
    bar = fig.add_axes(
        (*place(right + BAR_GAP, end), BAR / total_wide, (end - top) / total_high), gid="bar"
    )
    colour_bar(
        fig, mesh, "Attention Weight", ticks=np.round(np.linspace(low, high, 6), 10), cax=bar
    )
    styled_title(
        fig,
        figure_title(options),
        "figure-title",
        anchor=((MARGIN + right) / 2 / total_wide, 0.0),
        transform=fig.transFigure,
        loc="lower center",
        size=1.4 * size,
    )
    return fig


def panel_labels(cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """What stands over the columns and beside the rows of a block; starred words are italic.

    mean: components over the columns, inputs beside the rows. scale: ε, components.
    """
    first_row = cells[cells["panel_row"] == 0].drop_duplicates("panel_column")
    first_column = cells[cells["panel_column"] == 0].drop_duplicates("panel_row")
    if cells["operation"].iloc[0] == "mean":
        return (
            [f"*{name.capitalize()}*" for name in first_row.sort_values("panel_column").component],
            [f"Input {index}" for index in first_column.sort_values("panel_row").input],
        )
    return (
        [f"ε = {epsilon_label(e)}" for e in first_row.sort_values("panel_column").epsilon],
        [name.capitalize() for name in first_column.sort_values("panel_row").component],
    )


def layer_step(rows: int, height: float) -> int:
    """Rows between two labelled ticks, so that labels in `height` inches do not touch."""
    room = height / (1.25 * plt.rcParams["font.size"] / 72)
    return next((step for step in (1, 2, 4, 5, 10, 20) if rows <= room * step), 50)


def wrapped(name: str, width: float, size: float) -> str:
    """The name in lines of at most `width` inches, broken after - _ or . where it can be."""
    lines = [""]
    for piece in re.findall(r"[^-_.]*[-_.]|[^-_.]+", name):
        if lines[-1] and _text_width(lines[-1] + piece, size) > width:
            lines.append("")
        for letter in piece:  # a piece alone may be too long, too
            if lines[-1] and _text_width(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def comparison_caption(
    figure: str, tables: Tables, options: dict, folders: Sequence[str], left_out: Sequence[str]
) -> str:
    """What is shared, what differs between the models, and who is left out.

    tables, options: as for `draw_comparison`. folders: those among the models whose files were made
    elsewhere or earlier. left_out: one line for each.
    """
    describe = _module_caption if is_module_map(figure) else _attention_caption
    if figure == "probe_auc":
        describe = _probe_caption
    parts = [describe(tables, options)]
    if made := [name for name in tables if name in folders]:
        parts.append(f"Made elsewhere or earlier, with settings of their own: {', '.join(made)}.")
    return "\n".join([" ".join(parts), *(f"Left out: {line}." for line in left_out)]) + "\n"


def _probe_caption(tables: Tables, options: dict) -> str:
    low, high = options["limits"]
    parts = [
        f"{LABELS[options['metric']]} of linear probes that detect a wrong answer, by layer (0 is "
        "the embeddings) and token, one panel per model. Panels are equally high whatever the "
        f"model's layers, so equal heights are equal shares of the depth. Colours span {low:g} to "
        f"{high:g} in all; cells without a score are grey. Best cells:"
    ]
    best = []
    for name, table in tables.items():
        chosen = table[(table["metric"] == options["metric"])]
        chosen = chosen[chosen["token"].isin(options["tokens"])]
        shown = chosen[(chosen["control"] == "none")].dropna(subset="mean")
        cell = shown.loc[shown["mean"].idxmax()]
        at = (chosen["layer"] == cell["layer"]) & (chosen["token"] == cell["token"])
        best.append(
            f"{name}, layer {cell['layer']} of {table['layer'].max()}, {cell['token']}: "
            f"{cell['mean']:.3f} [{cell['ci_low']:.3f}, {cell['ci_high']:.3f}] on "
            f"{cell['n']:,} answers{_least_gain(chosen[at])}"
        )
    parts.append("; ".join(best) + ".")
    if options["highlight"]:
        shallow = [
            name
            for name, table in tables.items()
            if not _rectangle_fits(options["highlight"], table["layer"].max())
        ]
        if shallow:
            parts.append(f"The rectangle's layers are outside {', '.join(shallow)}.")
    return " ".join(parts)


def _least_gain(cell: pd.DataFrame) -> str:
    """The control that leaves the probe of a cell the least, and what it leaves."""
    if not {"gain", "gain_low", "gain_high"} <= set(cell):
        return ""
    beside = cell[cell["control"].isin(EXPLANATIONS)].dropna(subset="gain")
    if beside.empty:
        return ""
    least = beside.loc[beside["gain"].idxmin()]
    return (
        f" (over {CONTROLS[least['control']]} it gains {least['gain']:.3f} "
        f"[{least['gain_low']:.3f}, {least['gain_high']:.3f}])"
    )


def _module_caption(tables: Tables, options: dict) -> str:
    metric = options["metric"]
    values = {name: module_values(table, metric) for name, table in tables.items()}
    _, (low, high) = colour_scale(_all_values(values), options)
    lacking = len({tuple(cells.columns) for cells in values.values()}) > 1
    grey = " A module that a model lacks is grey." if lacking else ""
    random = (
        "; an input in a random direction has 1/√d_in, which depends on the model's width"
        if metric == "operation_strength"
        else ""
    )
    span = "; ".join(
        f"{name} {spoken(np.nanmin(cells.to_numpy()))} to {spoken(np.nanmax(cells.to_numpy()))} "
        f"({len(cells)} layers)"
        for name, cells in values.items()
    )
    return (
        f"{described(metric, 'each model', options)} One panel per model, layer 0 "
        "at the bottom. Panels are equally high whatever the model's layers, so equal heights are "
        f"equal shares of the depth. Colours span {spoken(low)} to {spoken(high)}"
        f"{robust_words(options, ' of all models together')}{random}. Values span: {span}.{grey}"
    )


def _attention_caption(tables: Tables, options: dict) -> str:
    low, high = options["limits"]
    changes = {name: _change(cells) for name, cells in tables.items()}
    same = len(set(changes.values())) == 1
    shown = []
    for name, cells in tables.items():
        first = cells.iloc[0]
        head = "its heads' average" if first["head"] == "mean" else f"head {first['head']}"
        shown.append(
            f"{name}, layer {first['layer']} (from 0), {head}"
            + ("" if same else f", {changes[name]}")
        )
    what = f": Query, Key or Value {next(iter(changes.values()))}" if same else ""
    return (
        f"Attention weights of one layer, one block per model{what}. Rows of a map are query "
        "positions from the top, columns key positions; models cut the same text into different "
        f"tokens. Colours span {low:g} to {high:g} in all. Shown: {'; '.join(shown)}."
    )


def _change(cells: pd.DataFrame) -> str:
    """How the states of an attention figure were changed, and where."""
    first = cells.iloc[0]
    stage = "before" if first.get("stage") == "before_rotary" else "after"
    made = "multiplied by ε"
    if first["operation"] == "mean":
        axis = {"features": "head dimension", "tokens": "token positions"}[first["over"]]
        made = f"replaced by its mean over the {axis}"
    where = "in this layer alone" if first["scope"] == "layer" else "in every layer"
    return f"{made}, {stage} rotary embedding, {where}"


def _panels(values: Tables, *, width: float, labels: float) -> tuple[Figure, list, float]:
    """A figure with one panel per model, those in use, and the panels' height in inches.

    values: heatmaps, rows are layers. width: of a panel, in inches. labels: what the columns' names
    below it take at 9 points, in inches.
    """
    rows, columns = grid(len(values))
    larger = plt.rcParams["font.size"] / 9
    labelled = 1 + (rows > 1 and len(values) % columns > 0)  # a panel above a hole has names, too
    names = max(wrapped(name, width, 9 * larger).count("\n") + 1 for name in values)
    height = min(max(0.12 * max(map(len, values.values())), 2.6), 4.6)
    fig, axes = plt.subplots(
        rows,
        columns,
        figsize=(
            columns * (width + 0.5 * larger) + 0.9 * larger,
            rows * (height + (0.15 + 0.18 * names) * larger) + labelled * labels * larger,
        ),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(values) :]:
        ax.remove()
    return fig, list(axes.flat[: len(values)]), height


def _outer_labels(axes: list, x: str, y: str) -> None:
    """Axis labels at the left, and names of columns only where no panel follows below."""
    _, columns = grid(len(axes))
    for index, ax in enumerate(axes):
        last = index + columns >= len(axes)
        ax.set(xlabel=x if last else "", ylabel="" if index % columns else y)
        if not last:
            ax.set_xticklabels([])


def _title(ax, name: str, width: float) -> None:
    size = plt.rcParams["axes.titlesize"]
    ax.set_title(wrapped(name, width, size), parse_math=False)


def _text_width(text: str, size: float) -> float:
    """Inches."""
    font = FontProperties(family=plt.rcParams["font.family"])
    return TextPath((0, 0), text, size=size, prop=font).get_extents().width / 72


def _rectangle_fits(highlight: dict, depth: int) -> bool:
    return all(isinstance(layer, str) or layer <= depth for layer in highlight["layers"])


def _all_values(values: Tables) -> np.ndarray:
    return np.concatenate([cells.to_numpy(dtype=float).ravel() for cells in values.values()])
