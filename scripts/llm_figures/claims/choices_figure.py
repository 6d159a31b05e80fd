"""Draw the choices: how many statements every combination reproduces."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llm_figures.claims.choices import count_reproduced, describe_change, describe_layers
from llm_figures.claims.combinations import FIGURES
from llm_figures.claims.options import ChoicesDrawing
from llm_figures.claims.references import find_decided
from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.drawing import add_colour_bar, draw_heatmap, find_colour_map
from llm_figures.plotting.layout import find_layout, make_grid

OPTIONS = ChoicesDrawing
HEADS = {"mean": "mean", "auto": "strongest"}


def draw(rows: pd.DataFrame, options: ChoicesDrawing) -> Figure:
    """One block per operation; rows are interventions, columns the displayed map.

    rows: as from `choices.evaluate_choices`. A cell's number is how many statements its combination
    reproduces, its colour their share of those that apply; the highest numbers of a block are
    framed. A combination to which no statement applies has a dash.
    """
    counted = count_reproduced(rows)
    counted["change"] = [describe_change(row) for row in counted.to_dict("records")]
    blocks = [
        (operation, _grids(counted[counted["operation"] == operation], rows, operation))
        for operation in FIGURES
        if (counted["operation"] == operation).any()
    ]
    heights = [len(grid) for _, (grid, _, _) in blocks]
    columns = blocks[0][1][0].shape[1]
    layout = find_layout()
    fig, axes = make_grid(
        len(blocks),
        1,
        own=(
            0.62 * max(columns, 4) + 4.4,
            0.34 * max(sum(heights), 6) + 0.75 * len(blocks) + 0.8,
        ),
        height=0.035 * layout.small * sum(heights) + 0.3 * len(blocks) + 0.8,
        height_ratios=heights,
        sharex=layout.sized,
    )
    cmap = find_colour_map(options.palette)
    separator = ", " if layout.sized else "\n"  # on a page, labels are upright
    for ax, (operation, (grid, total, labels)) in zip(axes[:, 0], blocks, strict=True):
        mesh = draw_heatmap(
            grid / total,
            ax,
            cmap=cmap,
            limits=(0.0, 1.0),
            annot=grid.fillna(0).astype(int).astype(str),
            fmt="",
            annot_kws={"size": layout.small},
            xticklabels=[separator.join(label) for label in labels],
            yticklabels=[_wrap(name) if layout.sized else name for name in grid.index],
        )
        applies = bool(grid.notna().to_numpy().any())
        title = "no statement applies"
        if applies:
            title = f"statements reproduced, of {int(np.nanmax(total.to_numpy()))}"
        side = "right" if layout.sized else "left"  # where the title is over the rows' names, too
        ax.set_title(f"{FIGURES[operation]}: {title}", loc=side, size=layout.small)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(axis="x", rotation=90 if layout.sized else 0)
        ax.tick_params(axis="y", rotation=0)
        for row, column in np.argwhere(grid.isna().to_numpy()):
            ax.text(column + 0.5, row + 0.5, "–", ha="center", va="center")
        most = np.nanmax(grid.to_numpy()) if applies else np.nan
        for row, column in np.argwhere(grid.to_numpy() == most):
            ax.add_patch(plt.Rectangle((column, row), 1, 1, fill=False, edgecolor="black", lw=1.2))
    if layout.sized:
        for ax in axes[:, 0]:
            ax.label_outer()
            plt.setp(ax.get_yticklabels(), linespacing=1.1)
    axes[-1, 0].set_xlabel("Displayed layer (from 0) and head")
    add_colour_bar(
        fig, mesh, "Share reproduced", ticks=np.linspace(0, 1, 6), ax=axes, aspect=30, pad=0.02
    )
    return fig


def _wrap(change: str) -> str:
    """The words of `choices.describe_change` in two lines."""
    return ",\n".join(change.rsplit(", ", 1))


def _grids(
    counted: pd.DataFrame, rows: pd.DataFrame, operation: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]]]:
    """(reproduced, applicable, layer and head of each column): tables of change × map.

    NaN where no statement applies.
    """
    order = rows[rows["operation"] == operation].drop_duplicates(["over", "stage", "scope"])
    changes = [describe_change(row) for row in order.to_dict("records")]
    shown = rows.drop_duplicates(["layer_choice", "head_choice"])
    keys = list(zip(shown["layer_choice"], shown["head_choice"], strict=True))
    table = counted.pivot(
        index="change", columns=["layer_choice", "head_choice"], values=["reproduced", "applicable"]
    )
    reproduced = table["reproduced"].loc[changes, keys].astype(float)
    applicable = table["applicable"].loc[changes, keys].astype(float)
    labels = [
        (
            f"{row['layer']}"
            + ("" if row["layer_choice"] == str(row["layer"]) else f" ({row['layer_choice']})"),
            HEADS.get(row["head_choice"], f"head {row['head']}"),
        )
        for row in shown.to_dict("records")
    ]
    return reproduced.where(applicable > 0), applicable.where(applicable > 0), labels


def state_numbers(rows: pd.DataFrame, options: ChoicesDrawing) -> StatedNumbers:
    """The numbers of the caption: the most statements that hold, and the layers with attention."""
    numbers = StatedNumbers()
    first = rows.iloc[0] if len(rows) else None
    for column in ("attention_layers", "model_layers"):
        numbers.take(column, first, column, "d")
    counted = count_reproduced(rows)
    for operation, figure in FIGURES.items():
        part = counted[(counted["operation"] == operation) & (counted["applicable"] > 0)]
        best = part.loc[part["reproduced"].idxmax()] if len(part) else {}
        row = {"operation": operation}
        for name, formula in (
            ("reproduced", "the most claims of one combination that are reproduced, not decided"),
            ("applicable", "claims of that combination that are applicable and not decided"),
        ):
            numbers.add(f"{figure}_{name}", best.get(name), "d", formula, row=row)
        formula = "how many of these random maps satisfy: sum of held_references / references"
        baseline = best.get("baseline", np.nan)
        numbers.add(f"{figure}_baseline", baseline, ".1f", formula, row=row)
    return numbers


def describe(
    rows: pd.DataFrame,
    model: str,
    options: ChoicesDrawing,
    numbers: StatedNumbers | None = None,
) -> str:
    """What the rows and columns are, and which combination reproduces the most.

    numbers: as from `state_numbers`, by default; see `drawing.render`.
    """
    numbers = numbers or state_numbers(rows, options)
    text = (
        f"Number of statements about the published attention figures that hold for {model}, by "
        "intervention (rows: axis of the mean, before or after rotary embedding, in the displayed "
        "layer or in every layer) and displayed map (columns: layer, and the mean of the heads or "
        "the head with the strongest sink). auto is the layer where the clean model's sink is "
        "strongest."
    )
    if find_decided(rows).any():
        text += (
            " Statements that are decided by construction, whatever the choice, are not counted."
        )
    text += describe_layers(rows, numbers)
    counted = count_reproduced(rows)
    if (counted["applicable"] == 0).any():
        text += " A grey cell with a dash: no statement applies."
    for operation, part in counted.groupby("operation", sort=False):
        figure = FIGURES[operation]
        part = part[part["applicable"] > 0]
        if not len(part):
            text += f" No statement about {figure} applies."
            continue
        best = part[part["reproduced"] == part["reproduced"].max()]
        changes = list(dict.fromkeys(describe_change(row) for row in best.to_dict("records")))
        text += (
            f" At most {numbers[f'{figure}_reproduced']} of {numbers[f'{figure}_applicable']} hold "
            f"for {figure}, with the intervention {'; or '.join(changes)}"
        )
        if (baseline := numbers[f"{figure}_baseline"]).value is not None:
            text += f"; random maps satisfy {baseline} of these on average"
        text += "."
    return text + "\n"
