"""The choice of a cell over many draws of folds in words and numbers, for captions."""

from collections.abc import Iterator

import pandas as pd

from llm_figures.core.stated_numbers import StatedNumbers
from llm_figures.probe.best_table import find_row
from llm_figures.probe.controls import CONTROLS, is_output, name_of
from llm_figures.probe.protocol import SHUFFLED


def state_repeated(table: pd.DataFrame, repeats: int) -> StatedNumbers:
    """The numbers of `describe_repeated`. table: probe/best.parquet, with its metadata."""
    numbers = StatedNumbers()
    rows = table[table["kind"] == "repeated"].set_index("control")
    outputs = [name for name in rows.index if is_output(name)]
    strongest = rows.loc[outputs, "value"].astype(float).idxmax() if len(outputs) else None
    of = {"repeated": "none", "repeated_output": strongest}
    of |= {f"repeated_{control}": control for control in SHUFFLED}
    for name, control in of.items():
        row = {**rows.loc[control], "control": control} if control in rows.index else None
        keys = ["kind", "control"]
        for column, end in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
            numbers.take(f"{name}{end}", row, column, ".3f", keys)
        for column in ("gain", "gain_low", "gain_high", "spread"):
            numbers.take(f"{name}_{column}", row, column, ".3f", keys)
    numbers.add("repeated_output_name", strongest and name_of(strongest), str, "the largest value")
    made = len(rows) > 0
    shuffles = table.attrs.get("shuffles")
    for key, value in (("figures.probe_best.repeats", repeats), ("probe.shuffles", shuffles)):
        numbers.take_option(key.rpartition(".")[2], value if made else None, "d", key)
    within = find_row(table, "within")
    for column, end in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
        numbers.take(f"repeated_within{end}", within, column, ".3f", ["kind"])
    for kind in ("calibration_slope", "calibration_error", "brier"):
        numbers.take(kind, find_row(table, kind), "value", ".3f", ["kind"])
    return numbers


def describe_repeated(numbers: StatedNumbers) -> Iterator[str]:
    """Sentences about the score, its controls, the strongest baseline, groups and calibration."""
    if numbers["repeated"].value is None:
        return
    shuffled, spread = [], False
    for control in SHUFFLED:
        if numbers[f"repeated_{control}"].value is not None:
            shuffled.append(f"{CONTROLS[control]} {numbers[f'repeated_{control}']}")
            if numbers[f"repeated_{control}_spread"].value is not None:
                shuffled[-1] += f" ± {numbers[f'repeated_{control}_spread']}"
                spread = True
    beside = f"; {', '.join(shuffled)}" if shuffled else ""
    if spread:
        beside += f" (standard deviation over {numbers['shuffles']} permutations)"
    yield (
        f"Over {numbers['repeats']} draws of folds, with a cell chosen in each fold, it has "
        f"{numbers['repeated']} [{numbers['repeated_low']}, {numbers['repeated_high']}]{beside}."
    )
    if numbers["repeated_output"].value is not None:
        yield (
            "Probe − control for the strongest baseline without hidden states, "
            f"{numbers['repeated_output_name']} ({numbers['repeated_output']}): "
            f"{numbers['repeated_output_gain']} [{numbers['repeated_output_gain_low']}, "
            f"{numbers['repeated_output_gain_high']}]."
        )
    if numbers["repeated_within"].value is not None:
        yield (
            f"Over pairs of the same group it has {numbers['repeated_within']} "
            f"[{numbers['repeated_within_low']}, {numbers['repeated_within_high']}]."
        )
    if numbers["brier"].value is not None:
        yield (
            f"Its logits as probabilities: calibration slope {numbers['calibration_slope']}, "
            f"expected calibration error {numbers['calibration_error']}, Brier score "
            f"{numbers['brier']}."
        )
