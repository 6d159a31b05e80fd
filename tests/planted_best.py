"""A planted table of `probe_best`."""

import numpy as np
import pandas as pd

from llm_figures.probe.best_table import COLUMNS
from llm_figures.probe.protocol import PRESETS

GROUPS = (0.9, 0.6, None, 0.7)


def make_table(groups=GROUPS, chosen=True, nested=0.85, baseline=0.7, permuted=0.6):
    """groups: their AUCs within, None for one with too few answers. chosen: by training answers."""
    place = {"layer": 3, "token": "-1"}
    kinds = {"nested": nested, "highest": 0.88} if chosen else {"highest": 0.88}
    rows = [
        {"kind": "observed", **place, "n": 40, "value": 0.87, "note": "within_group"},
        {"kind": "above", "value": 30, "n": 44, "note": "within_group"},
        {"kind": "movable", "value": 0.95, "note": "within_group"},
        *(
            {"kind": "permuted", "permutation": number + 1, "value": permuted + 0.001 * number}
            for number in range(40)
        ),
        *(
            {
                "kind": kind,
                "control": control,
                **(place if kind == "highest" else {"layer": -1, "token": "any"}),
                "n": 400,
                "value": value if control == "none" else baseline,
                "ci_low": value - 0.1,
                "ci_high": value + 0.1,
            }
            for kind, value in kinds.items()
            for control in ("none", "answer_log_probability", "p_true")
        ),
        *(
            {"kind": "repeated", "control": control, "n": 400, "value": value, "spread": spread,
             "ci_low": value - 0.04, "ci_high": value + 0.04, "gain": gain,
             "gain_low": gain - 0.02, "gain_high": gain + 0.02}
            for control, value, gain, spread in (
                ("none", nested, np.nan, np.nan),
                ("shuffled_within_group", 0.61, 0.24, 0.013),
                ("answer_log_probability", 0.7, 0.15, np.nan),
                ("output_and_group", 0.75, 0.1, np.nan),
            )
            if chosen
        ),
        *(
            {"kind": kind, "control": "none", "n": 400, "value": value, "ci_low": 0.7,
             "ci_high": 0.8}
            for kind, value in (("within", 0.76), ("calibration_slope", 1.4),
                                ("calibration_error", 0.05), ("brier", 0.13))
            if chosen
        ),
        *(
            {"kind": "fold", "repeat": 0, "fold": fold, "layer": 3 if fold else 2, "token": "-1",
             "n": 80, "value": 0.84, "inner_auc": 0.83, "highest": 0.88}
            for fold in range(5 if chosen else 0)
        ),
        *(
            {"kind": "group", "group": f"group {number}", "n": 100 - number, "wrong_share": 0.4,
             "value": auc, "ci_low": None if auc is None else auc - 0.15,
             "ci_high": None if auc is None else auc + 0.05,
             "note": "fewer than 4 right or wrong answers" if auc is None else ""}
            for number, auc in enumerate(groups)
        ),
        {"kind": "mean", "n": 300, "value": 0.75 if any(groups) else np.nan, "ci_low": 0.7,
         "ci_high": 0.8, "note": ""},
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    whole = ["permutation", "repeat", "fold", "layer", "n"]
    numbers = ["value", "ci_low", "ci_high", "inner_auc", "highest", "wrong_share", "spread"]
    numbers += ["gain", "gain_low", "gain_high"]
    table = table.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(numbers, float))
    table.attrs = {"protocol": PRESETS["strict"].plain(), "shuffles": 20}
    return table
