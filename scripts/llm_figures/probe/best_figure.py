"""The probe's best cell: against permuted labels, and group by group."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.plotting.drawing import find_colours
from llm_figures.plotting.layout import add_legend, find_layout, make_grid
from llm_figures.plotting.text import wrap_name
from llm_figures.probe.best_table import find_row
from llm_figures.probe.classification_metrics import compute_p
from llm_figures.probe.controls import format_share
from llm_figures.probe.options import ProbeBest
from llm_figures.probe.protocol_text import name_probe
from llm_figures.probe.repeated_text import describe_repeated, state_repeated
from llm_figures.probe.within_groups import NO_CELL, NO_PAIR, TOO_FEW, UNTESTED

OPTIONS = ProbeBest
MOST_SHOWN = 30  # groups, the largest ones
CONSTANTS = {
    "95%": "the level of all intervals",
    "AUC 0.5": "the AUC of chance",
    f"{MOST_SHOWN} largest groups": "the most groups that are drawn",
    "Westfall & Young 1993": "the year of a publication",
    TOO_FEW: "the fewest answers of either label for an AUC",
}
# Groups without an AUC, and why.
WITHOUT = {
    "groups_too_small": TOO_FEW,
    "groups_without_pairs": NO_PAIR,
    "groups_untested": UNTESTED,
}
SHORT = 18  # letters of a group's name that stand in one line
NARROWEST = 2.4  # inches, of a panel on a page
UNNAMED = "no group"  # of questions without one
MEAN, OVERALL = "pairs in groups", "all questions"
# The score where the cell is chosen, the highest, and the maximum that is compared with permuted
# ones: lines and markers, so that they differ without their colours, too.
LINES = {
    "observed": ("highest, first Newton step", "-"),
    "nested": ("chosen on training answers", (0, (5, 1.5))),
    "highest": ("highest", (0, (1, 1))),
}


def draw(table: pd.DataFrame, options: ProbeBest) -> Figure:
    """Left the maxima over all cells with permuted labels, right the AUC within each group."""
    groups = _list_groups(table)
    drawn = groups.dropna(subset="value").nlargest(MOST_SHOWN, "n")
    layout = find_layout()
    columns = layout.count(2, NARROWEST, 0.4)
    rows = 2 // columns
    points = _list_points(table, drawn)
    names = [_fit_name(name, layout.small / layout.growth) for name, _, _ in points]
    lines = (len(points) or 1) * max((name.count("\n") + 1 for name in names), default=1)
    fig, axes = make_grid(
        rows,
        columns,
        own=(8.2, max(2.6, 0.22 * lines + 1.3)),
        height=(1.5 + 0.02 * layout.small * lines + 1.6) if rows == 2 else 2.6 + 0.1 * lines,
    )
    colours = dict(zip(LINES, find_colours(options.palette, len(LINES)), strict=True))
    left, right = axes.flat
    _draw_permuted(table, left, colours)
    _draw_groups(points, names, right, colours["nested"])
    handles, labels = left.get_legend_handles_labels()
    if layout.sized:
        add_legend(fig, handles, labels, 2)
    else:
        fig.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    return fig


def _draw_permuted(table: pd.DataFrame, ax, colours: dict[str, tuple]) -> None:
    permuted = _list_maxima(table)
    ax.hist(permuted, bins=12, color="0.75", edgecolor="0.5", lw=0.5, label="permuted labels")
    for kind, (label, dashes) in LINES.items():
        row = find_row(table, kind)
        if row is not None and pd.notna(row["value"]):
            ax.axvline(row["value"], color=colours[kind], ls=dashes, lw=1.6, label=label, gid=kind)
    ax.set(xlabel="Highest AUC of all cells", ylabel="Permutations")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.margins(x=0.05)


def _list_points(table: pd.DataFrame, groups: pd.DataFrame) -> list[tuple[str, pd.Series, bool]]:
    """(name, row, whether it is a group) of both means and of the groups, the lowest first."""
    ordered = groups.sort_values("value", kind="stable")
    mean, nested = find_row(table, "mean"), find_row(table, "nested")
    return [
        (name, row, filled)
        for name, row, filled in (
            (OVERALL, nested, False),
            *([(MEAN, mean, False)] if len(ordered) else []),
            *((row["group"] or UNNAMED, row, True) for _, row in ordered.iterrows()),
        )
        if row is not None and pd.notna(row["value"])
    ]


def _fit_name(name: str, size: float) -> str:
    """A group's name in one line or two; what is longer ends in dots."""
    if len(name) <= SHORT:
        return name
    first, *others = wrap_name(name, 1.1, size).split("\n")
    if len(others) > 1:
        others = [f"{others[0][:-1]}…"]
    return "\n".join([first, *others])


def _draw_groups(
    points: list[tuple[str, pd.Series, bool]], names: list[str], ax, colour: tuple
) -> None:
    """Dots with intervals, upwards from both means to the highest group. names: as they fit."""
    for place, (_, row, filled) in enumerate(points):
        value = float(row["value"])
        low, high = (float(row[end]) for end in ("ci_low", "ci_high"))
        if np.isfinite(low):
            ax.plot([low, high], [place, place], color=colour, lw=1.2, gid=f"interval-{place}")
        face = colour if filled else "white"
        ax.plot(value, place, "o" if filled else "D", color=colour, mfc=face, ms=4.5)
    ax.set_yticks(range(len(points)), labels=names, parse_math=False)
    ax.axvline(0.5, color="0.5", lw=0.8, ls=(0, (1, 2)))
    if any(not filled for _, _, filled in points):
        ax.axhline(sum(not filled for _, _, filled in points) - 0.5, color="0.8", lw=0.8)
    ax.set(xlabel="AUC of the chosen cells", ylim=(-0.6, len(points) - 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _select(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    return table[table["kind"] == kind]


def _list_maxima(table: pd.DataFrame) -> np.ndarray:
    """The maxima of the permutations that count."""
    return _select(table, "permuted")["value"].astype(float).dropna().to_numpy()


def _list_groups(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of groups; none if all questions are of one."""
    groups = _select(table, "group")
    return groups if len(groups) > 1 else groups.iloc[:0]


def state_numbers(table: pd.DataFrame, options: ProbeBest) -> StatedNumbers:
    """The numbers of the caption."""
    numbers = StatedNumbers()
    observed, movable = find_row(table, "observed"), find_row(table, "movable")
    maxima = _list_maxima(table)
    numbers.take("observed", observed, "value", ".3f", ["kind"])
    numbers.take("observed_layer", observed, "layer", "d", ["kind"])
    numbers.take("observed_token", observed, "token", str, ["kind"])
    numbers.take("permutations", observed, "n", ",", ["kind"])
    uncounted = len(_select(table, "permuted")) - len(maxima)
    row = {"kind": "permuted"}
    formula = "number of rows without a value"
    numbers.add("permutations_left_out", uncounted, ",", formula, row=row)
    share = movable["value"]
    numbers.take(
        "movable", movable, "value", format_share if share < 1 else "{:.0%}".format, ["kind"]
    )
    row = {"kind": "permuted"}
    numbers.add("permuted_mean", maxima.mean(), ".3f", "mean of value", row=row)
    high = np.percentile(maxima, 95)
    numbers.add("permuted_95", high, ".3f", "95th percentile of value", row=row)
    above = find_row(table, "above")
    numbers.take("cells_above", above, "value", ".0f", ["kind"])
    numbers.take("scored_cells", above, "n", "d", ["kind"])
    p = compute_p(observed["value"], maxima)
    formula = "(1 + rows of kind permuted with a value ≥ that of observed) / (1 + their number)"
    numbers.add("p", p, ".3g", formula, row={"kind": ["permuted", "observed"]})
    nested, highest = find_row(table, "nested"), find_row(table, "highest")
    for name, row in (
        ("nested", nested),
        ("highest", highest),
        ("within", find_row(table, "mean")),
    ):
        keys = ["kind"] if name == "within" else ["kind", "control"]
        for column, end in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
            numbers.take(f"{name}{end}", row, column, ".3f", keys)
    numbers.take(
        "answers", nested if nested is not None else highest, "n", ",", ["kind", "control"]
    )
    numbers.update(state_repeated(table, options.repeats))
    bias = None if nested is None else highest["value"] - nested["value"]
    formula = "value of highest − value of nested"
    origin = {"kind": ["highest", "nested"], "control": "none"}
    numbers.add("selection", bias, ".3f", formula, row=origin)
    folds = _select(table, "fold")
    cells = folds.groupby(["layer", "token"]).size().sort_values(ascending=False, kind="stable")
    text = "; ".join(f"layer {layer}, {token} ({count})" for (layer, token), count in cells.items())
    numbers.add("cells", text or None, str, "layer, token and how many rows", row={"kind": "fold"})
    numbers.add("folds", len(folds) or None, "d", "number of rows", row={"kind": "fold"})
    groups = _list_groups(table)
    scored = groups.dropna(subset="value")
    row = {"kind": "group"}
    numbers.add("groups", len(groups), "d", "number of rows", row=row)
    numbers.add("scored_groups", len(scored), "d", "number of rows with a value", row=row)
    for name, pick in (("lowest", "idxmin"), ("best", "idxmax")):
        found = None
        if len(scored):
            found = scored.loc[getattr(scored["value"].astype(float), pick)()]
            found = {**found, "group": found["group"] or UNNAMED}
        name = {"best": "highest"}.get(name, name)
        numbers.take(f"{name}_group", found, "group", str, ["kind", "group"])
        for column, end in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
            numbers.take(f"{name}_group_auc{end}", found, column, ".3f", ["kind", "group"])
    for name, note in WITHOUT.items():
        names = [group or UNNAMED for group in groups.loc[groups["note"] == note, "group"]]
        found = ", ".join(names) or None
        row_of_note = {"kind": "group", "note": note}
        numbers.add(name, found, str, "the groups of these rows", row=row_of_note)
    above = (scored["ci_low"].astype(float) > 0.5).sum() if len(scored) else None
    numbers.add("groups_above", above, "d", "number of rows with ci_low above 0.5", row=row)
    return numbers


def describe(
    table: pd.DataFrame,
    model: str,
    options: ProbeBest,
    numbers: StatedNumbers | None = None,
) -> str:
    """Both panels, what was chosen, and the groups that have no AUC."""
    numbers = numbers or state_numbers(table, options)
    within = find_row(table, "observed")["note"] == "within_group"
    among = "among questions of the same group" if within else "among all questions"
    sentences = [
        f"The best cell of a {name_probe(table)} on {model} that detects a wrong answer: its layer "
        f"and token. Left: the highest AUC of all cells with labels permuted {among}, "
        f"{numbers['permutations']} times, one permutation for all cells (Westfall & Young 1993), "
        "of ridge regression on standardised states (the first Newton step of a logistic one): "
        f"{numbers['permuted_mean']} on average. With the labels as they are it is "
        f"{numbers['observed']}, at layer {numbers['observed_layer']}, "
        f"{numbers['observed_token']}: p = {numbers['p']}.",
    ]
    if numbers["cells_above"].value is not None:
        sentences.append(
            f"Of {numbers['scored_cells']} cells {numbers['cells_above']} are above 95% of these "
            "maxima."
        )
    if numbers["permutations_left_out"].value:
        sentences.append(
            f"Left out: {numbers['permutations_left_out']} permutations without both labels in any "
            "test set."
        )
    if numbers["movable"].value < 1:
        sentences.append(
            f"Labels can change in {numbers['movable']} of the questions; the others have no other "
            "label in their group."
        )
    if numbers["nested"].value is not None:
        several = f"each of {numbers['folds']} test sets has its cell"
        where = several if numbers["folds"].value > 1 else "the cell is"
        sentences.append(
            f"The probe itself has {numbers['nested']} [{numbers['nested_low']}, "
            f"{numbers['nested_high']}] where {where} chosen on the training answers alone "
            f"({numbers['cells']}), and {numbers['highest']} in the highest cell, "
            f"{numbers['selection']} more."
        )
    else:
        sentences.append(
            f"The probe itself has {numbers['highest']} in its highest cell; {NO_CELL} alone."
        )
    sentences += describe_repeated(numbers)
    sentences += _describe_groups(table, numbers)
    return " ".join(sentences) + "\n"


def _describe_groups(table: pd.DataFrame, numbers: StatedNumbers) -> list[str]:
    groups = _list_groups(table)
    if groups.empty:
        return ["The questions have no groups (dataset.group); right: all of them."]
    if numbers["nested"].value is None:
        return ["Right: empty, for AUCs within groups are of chosen cells."]
    if not numbers["scored_groups"].value:
        return ["Right: no group has enough right and wrong answers for an AUC within it."]
    scored = numbers["scored_groups"]
    shown = "" if scored.value <= MOST_SHOWN else f", drawn for the {MOST_SHOWN} largest groups"
    sentences = [
        "Right: AUC of the chosen cells among the answers of one group, for pairs in the same test "
        f"set, with 95% bootstrap intervals over its answers{shown}: from "
        f"{numbers['lowest_group_auc']} ({numbers['lowest_group']}) to "
        f"{numbers['highest_group_auc']} ({numbers['highest_group']}), above AUC 0.5 with its "
        f"interval in {numbers['groups_above']} of {numbers['scored_groups']} groups; over the "
        f"pairs of all of them, {numbers['within']} [{numbers['within_low']}, "
        f"{numbers['within_high']}]."
    ]
    sentences += [
        f"Without an AUC: {numbers[name]} ({note})."
        for name, note in WITHOUT.items()
        if numbers[name].value is not None
    ]
    return sentences


def list_claim_cells(table: pd.DataFrame, options: ProbeBest) -> pd.DataFrame:
    """Rows nested and highest with their controls, mean within groups, p, and "group NAME"."""
    rows = []
    for kind in ("nested", "highest"):
        part = _select(table, kind)
        rows.append(part.assign(row=kind, column="auc"))
    rows.append(
        _select(table, "mean").assign(row="mean within groups", column="auc", control="none")
    )
    groups = _list_groups(table).dropna(subset="value")
    names = "group " + groups["group"].replace("", UNNAMED)
    rows.append(groups.assign(row=names, column="auc", control="none"))
    p = state_numbers(table, options)["p"].value
    rows.append(pd.DataFrame([{"row": "p", "column": "p", "control": "none", "value": p}]))
    columns = ["row", "column", "control", "value", "ci_low", "ci_high"]
    cells = pd.concat([part.reindex(columns=columns) for part in rows], ignore_index=True)
    return cells.dropna(subset="value").astype({"value": float, "ci_low": float, "ci_high": float})
