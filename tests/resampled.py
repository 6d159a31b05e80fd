"""Tables of the figures of sampled answers, invented, with the options of their drawing."""

import numpy as np
import pandas as pd

from llm_figures.core.options_reader import read_options
from llm_figures.probe import answer_choice_figure, error_kinds_figure
from llm_figures.probe.answer_choice import ALL, DETECTORS, STRATEGIES
from llm_figures.probe.protocol import PRESETS
from llm_figures.questions.error_kinds import KINDS
from llm_figures.questions.resampling_options import Resamples

OPTIONS = {"protocol": PRESETS["strict"].plain(), "resamples": Resamples().plain()}
TOKENS = ("last_q", "exact_answer_last")
PROBED = [kind for kind in KINDS if kind not in ("refuses", "other")]


def plant_kinds(layers=12, probed=PROBED):
    random = np.random.default_rng(0)
    counts = {kind: 120 if kind in probed else 7 for kind in KINDS}
    total = sum(counts.values())
    rows = [
        ("share", kind, np.nan, "", "none", count / total, 0.01, 0)
        for kind, count in counts.items()
    ]
    rows += [
        ("auc", kind, float(layer), token, control, random.uniform(0.5, 0.9), 0.1, 5)
        for kind in probed
        for token in TOKENS
        for layer in range(layers)
        for control in ("none", "shuffled_labels", "group_only")
    ]
    names = ["metric", "kind", "layer", "token", "control", "mean", "half", "folds"]
    table = pd.DataFrame(rows, columns=names)
    table["ci_low"], table["ci_high"] = table["mean"] - table["half"], table["mean"] + table["half"]
    table["n"] = table["kind"].map(counts)
    options = read_options(error_kinds_figure.OPTIONS, OPTIONS, "options")
    return error_kinds_figure, table.assign(total=total, samples=10).drop(columns="half"), options


def plant_choice(kinds=tuple(KINDS), detectors=tuple(DETECTORS)):
    random = np.random.default_rng(0)
    places = [("accuracy", kind, name) for kind in (ALL, *kinds) for name in STRATEGIES]
    places += [("auc", ALL, name) for name in detectors]
    table = pd.DataFrame(places, columns=["metric", "kind", "strategy"])
    for column in ("mean", "gain", "probe_gain"):
        table[column] = random.uniform(0.2, 0.8, len(table))
        low, high = (
            ("ci_low", "ci_high") if column == "mean" else (f"{column}_low", f"{column}_high")
        )
        table[low], table[high] = table[column] - 0.05, table[column] + 0.05
    options = read_options(answer_choice_figure.OPTIONS, OPTIONS, "options")
    return answer_choice_figure, table.assign(n=1019, samples=10, layers="19, 20"), options
