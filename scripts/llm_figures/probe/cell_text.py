"""The chosen and the highest cell of the probe in words and numbers, for captions."""

from collections.abc import Sequence

from llm_figures.core.stated_numbers import StatedNumbers, plain_value
from llm_figures.probe.best_cell import HighestCell, NestedCell
from llm_figures.probe.protocol import CROSS_VALIDATIONS, Protocol

# Columns of scores that select one of them.
CELL = ("layer", "token", "metric", "control")


def state_cell(
    numbers: StatedNumbers, name: str, highest: HighestCell | None, keys: Sequence[str] = CELL
) -> None:
    """Add layer, token and score of the highest cell, with the interval of the score."""
    row = highest.probe if highest else None
    numbers.take(f"{name}_layer", row, "layer", "d", keys)
    numbers.take(f"{name}_token", row, "token", str, keys)
    for column, what in (("mean", "score"), ("ci_low", "score_low"), ("ci_high", "score_high")):
        numbers.take(f"{name}_{what}", row, column, ".3f", keys)


def state_nested(
    numbers: StatedNumbers,
    name: str,
    nested: NestedCell | None,
    highest: HighestCell | None,
    keys: Sequence[str] = CELL,
) -> None:
    """Add the score of nested selection with its interval, and what was chosen.

    highest: of the same cells; how much higher it is is added, too.
    """
    row = nested.probe if nested else None
    for column, what in (("mean", "score"), ("ci_low", "score_low"), ("ci_high", "score_high")):
        numbers.take(f"{name}_{what}", row, column, ".3f", keys)
    numbers.take(f"{name}_folds", row, "folds", "d", keys)
    first = nested.chosen.iloc[0] if nested and len(nested.chosen) else None
    numbers.take(f"{name}_layer", first, "layer", "d", keys)
    numbers.take(f"{name}_token", first, "token", str, keys)
    numbers.take(f"{name}_times", first, "folds", "d", keys)
    origin = {} if row is None else {key: plain_value(row[key]) for key in keys}
    cells = None if row is None else write_choices(nested)
    numbers.add(f"{name}_cells", cells, str, "layer, token and folds of the choices", row=origin)
    higher = highest.probe["mean"] - row["mean"] if highest and nested else None
    formula = "highest mean − mean of nested selection"
    numbers.add(f"{name}_selection", higher, ".3f", formula, row=origin)


def write_choices(nested: NestedCell) -> str:
    """The chosen cells, and in how many folds each was: layer 20, -1 (4); layer 3, -2 (1)."""
    return "; ".join(
        f"layer {row.layer}, {row.token} ({row.folds})" for row in nested.chosen.itertuples()
    )


def describe_highest_cell(numbers: StatedNumbers, name: str = "highest") -> str:
    """Layer, token and score of the highest cell, without a full stop. name: as of `state_cell`."""
    score, low, high = (numbers[f"{name}_score{end}"] for end in ("", "_low", "_high"))
    layer, token = numbers[f"{name}_layer"], numbers[f"{name}_token"]
    return f"layer {layer}, {token}: {score} [{low}, {high}]"


def name_criterion(metric: str) -> str:
    """By what cells are chosen, where the figure shows another metric; " by AUC", or nothing."""
    return "" if metric == "auc" else " by AUC"


def describe_nested(
    protocol: Protocol, numbers: StatedNumbers, metric: str, name: str = "nested"
) -> str:
    """How well the chosen cell does, and which it was, without a full stop."""
    by = name_criterion(metric)
    score, low, high = (numbers[f"{name}_score{end}"] for end in ("", "_low", "_high"))
    scored = f"{score} [{low}, {high}]"
    if protocol.split not in CROSS_VALIDATIONS:
        where = f"layer {numbers[f'{name}_layer']}, {numbers[f'{name}_token']}"
        return f"Best cell, chosen{by} on the training answers alone: {where}: {scored}"
    return (
        f"Best cell, chosen{by} anew in each of {numbers[f'{name}_folds']} folds on the training "
        f"answers alone: {scored}; chosen were {numbers[f'{name}_cells']}"
    )
