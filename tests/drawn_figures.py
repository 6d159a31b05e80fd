"""Tables to draw, and the contents of a drawn SVG."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd

from llm_figures.attention.maps import LayerStates
from llm_figures.attention.options import AttentionFigure
from llm_figures.attention.scores import compute_cells
from llm_figures.core.options_reader import read_options
from llm_figures.plotting.drawing import drawing_style
from llm_figures.plotting.saving import save
from llm_figures.plotting.style import Style
from llm_figures.probe.best_cell import OFF_OPTION, OTHER_WRONG
from llm_figures.probe.controls import CONTROLS, FITTED, NO_HEADS
from llm_figures.probe.protocol import PRESETS, SHUFFLED

SVG = "{http://www.w3.org/2000/svg}"
STYLE = Style().changed(dpi=200)


def drawn(draw, table, options, folder):
    with drawing_style(STYLE):
        save(draw(table, options), [folder / f"figure.{kind}" for kind in ("pdf", "svg", "png")])
    return ET.parse(folder / "figure.svg").getroot()


def texts(root):
    return ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]


def cells(name, options, inputs=3, tokens=7):
    random, shape = np.random.default_rng(0), (2, tokens, 4)
    states = [
        LayerStates(index, 0, random.normal(size=shape), random.normal(size=shape), 0.5)
        for index in range(1, inputs + 1)
    ]
    return compute_cells(name, read_options(AttentionFigure, options, name), states)


PROTOCOL = {"protocol": PRESETS["strict"].plain()}


def probe_scores(layers, tokens):
    random = np.random.default_rng(0)
    rows = [
        (layer, token, "auc", random.uniform(0.5, 1), control)
        for layer in range(layers)
        for token in tokens
        for control in ("none", *CONTROLS)
    ]
    table = pd.DataFrame(rows, columns=["layer", "token", "metric", "mean", "control"])
    return with_intervals(table)


def with_nested(table):
    """Scores of one metric with those where the cell is chosen on the training answers."""
    tokens = list(dict.fromkeys(table["token"]))
    rows = [
        (-1, token, "nested_auc", 0.7 + 0.01 * number, control)
        for number, token in enumerate(["any", *tokens])
        for control in ("none", *CONTROLS)
    ]
    nested = with_intervals(
        pd.DataFrame(rows, columns=["layer", "token", "metric", "mean", "control"])
    )
    chosen = [(2, tokens[0], 4, "chosen"), (1, tokens[-1], 1, "chosen")]
    chosen += [(2, token, 5, "chosen_of_token") for token in tokens]
    chosen = pd.DataFrame(chosen, columns=["layer", "token", "folds", "control"])
    return pd.concat(
        [
            table,
            nested,
            chosen.assign(metric="nested_auc", mean=0.7, n=1000, unconverged=0, groups=7),
        ],
        ignore_index=True,
    )


def with_details(table):
    """The same with controls shuffled several times, and two classes of wrong answers."""
    table = with_nested(table)
    chosen = (table["token"] == "any") & table["control"].isin(SHUFFLED)
    table.loc[chosen, "spread"] = 0.004
    place = {"layer": -1, "token": "any", "control": "none", "n": 1000, "folds": 5, "groups": 7}
    place |= {"unconverged": 0}
    classes = [(OFF_OPTION, 0.954), (OTHER_WRONG, 0.583)]
    details = [
        place | {"metric": metric, "mean": mean, "ci_low": mean - 0.04, "ci_high": mean + 0.04}
        for metric, mean in classes
    ]
    table = pd.concat([table, pd.DataFrame(details)], ignore_index=True)
    table.attrs = {"shuffles": 20}
    return table


def head_scores(layers, heads, without=()):
    """Scores of the figure of heads. without: layers that have none."""
    random = np.random.default_rng(0)
    common = {control: random.uniform(0.5, 1) for control in CONTROLS if control not in FITTED}
    rows = [
        (layer, head, "auc", common.get(control, random.uniform(0.45, 0.9)), control, "")
        for layer in range(layers)
        for head in range(heads)
        for control in ("none", *CONTROLS)
    ]
    columns = ["layer", "head", "metric", "mean", "control", "note"]
    table = with_intervals(pd.DataFrame(rows, columns=columns)).assign(token="last_q")
    empty = table["layer"].isin(without)
    table = table[~empty | (table["control"] == "none")]
    values = ["mean", "ci_low", "ci_high", "gain", "gain_low", "gain_high"]
    table.loc[empty, values] = np.nan
    table.loc[empty, "note"] = NO_HEADS
    return table


def with_intervals(table):
    """Scores with the further columns that the probe's figures read."""
    return table.assign(
        ci_low=table["mean"] - 0.1,
        ci_high=table["mean"] + 0.1,
        gain=0.2,
        gain_low=0.1,
        gain_high=0.3,
        n=1000,
        folds=5,
        unconverged=0,
        groups=7,
        within_group=np.where(table["control"] == "shuffled_within_group", 1.0, np.nan),
    )
