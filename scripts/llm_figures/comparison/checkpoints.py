"""Key numbers of every figure over checkpoints, as one tidy table.

The numbers are those that the figures' captions state (`figures/{figure}.numbers.json`), with
averages of what is stated text by text; module metrics are averages of their tidy scores.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.parquet_tensors import read_frame
from llm_figures.core.stated_numbers import FORMAT
from llm_figures.models.projection_layouts import MLP, SHARED

COLUMNS = (
    "checkpoint", "model", "x", "figure", "number", "value", "low", "high", "interval",
    "same_weights_as",
)  # fmt: skip
# The share of right answers, which is no figure.
ANSWERS = "answers"
MODULES = "module_map"
# text_2_query_sink: F and D of one text
_OF_TEXT = re.compile(r"text_\d+_(\w+_(?:sink|distance))")
# Of a normal distribution, for 95% intervals.
QUANTILE = 1.959964


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint and where its results are.

    model: whose folder of results it is. x: its place on the axis. weights: sha256 of its files of
    weights. numbers: {figure: numbers.json}. answers, modules: tables. A file may be missing.
    """

    label: str
    model: str
    x: float
    weights: tuple[str, ...]
    numbers: Mapping[str, Path]
    answers: Path
    modules: Path


def tabulate_checkpoints(checkpoints: Sequence[Checkpoint]) -> pd.DataFrame:
    """One row per checkpoint, figure and number, in the order of the checkpoints.

    Returns the columns `COLUMNS`: low and high are the ends of an interval, and interval says of
    which: "95%", or "texts" for the least and greatest value of a text. A number that some
    checkpoint has and another lacks is NaN there. same_weights_as: the label of the first
    checkpoint with the same weights, else missing.

    Raises:
        UserError: two checkpoints of the same place; a numbers.json that cannot be read.
    """
    places = [one.x for one in checkpoints]
    for one in checkpoints:
        if places.count(one.x) > 1:
            shared = " and ".join(other.label for other in checkpoints if other.x == one.x)
            raise UserError(
                f"checkpoints: {shared} have the same place {one.x:g} on the axis; give the place "
                "of every checkpoint in checkpoints.x"
            )
    rows = pd.DataFrame(
        [{"checkpoint": one.label, **row} for one in checkpoints for row in _list_numbers(one)],
        columns=["checkpoint", "figure", "number", "value", "low", "high", "interval"],
    )
    keys = rows[["figure", "number"]].drop_duplicates()
    about = pd.DataFrame(
        {
            "checkpoint": [one.label for one in checkpoints],
            "model": [one.model for one in checkpoints],
            "x": places,
            "same_weights_as": find_same_weights(checkpoints),
        }
    )
    every = about.merge(keys, how="cross")
    table = every.merge(rows, how="left", on=["checkpoint", "figure", "number"])
    return table[list(COLUMNS)]


def find_same_weights(checkpoints: Sequence[Checkpoint]) -> list[str | None]:
    """For every checkpoint the label of the first before it with the same weights, or None."""
    first: dict[tuple[str, ...], str] = {}
    found = []
    for one in checkpoints:
        known = first.setdefault(one.weights, one.label) if one.weights else one.label
        found.append(None if known == one.label else known)
    return found


def describe_same_weights(table: pd.DataFrame) -> str:
    """One sentence that names the checkpoints of the same weights; "" without any.

    table: as from `tabulate_checkpoints`.
    """
    labels = table.drop_duplicates("checkpoint").dropna(subset="same_weights_as")
    groups = [
        ", ".join([str(first), *rows["checkpoint"]])
        for first, rows in labels.groupby("same_weights_as", sort=False)
    ]
    return f"Same weights (sha256): {'; '.join(groups)}." if groups else ""


def describe_gaps(table: pd.DataFrame) -> str:
    """One sentence that names what is missing of which checkpoint; "" if nothing is."""
    missing = []
    for (label, figure), rows in table.groupby(["checkpoint", "figure"], sort=False):
        gaps = rows.loc[rows["value"].isna(), "number"]
        if len(gaps) == len(rows):
            missing.append(f"{figure} of {label}")
        elif len(gaps):
            missing.append(f"{figure} ({', '.join(gaps)}) of {label}")
    return f"Gaps: {', '.join(missing)}." if missing else ""


def _list_numbers(checkpoint: Checkpoint) -> Iterator[dict]:
    for figure, file in checkpoint.numbers.items():
        if file.is_file():
            yield from ({"figure": figure, **row} for row in select_numbers(_read_numbers(file)))
    if checkpoint.modules.is_file():
        for row in average_modules(read_frame(checkpoint.modules)):
            yield {"figure": MODULES, **row}
    if checkpoint.answers.is_file():
        yield {
            "figure": ANSWERS,
            **share_right(read_frame(checkpoint.answers, ["valid", "correct"])),
        }


def _read_numbers(file: Path) -> dict[str, dict]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
        return content["numbers"]
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{file} cannot be read ({reason}); remove it to have it made again"
        ) from None


def select_numbers(numbers: Mapping[str, dict]) -> Iterator[dict]:
    """{number, value, low, high, interval} of every stated number that is computed from scores.

    name_low and name_high are the interval of name. What is stated of each text is followed by the
    average over the texts, with the least and the greatest.

    numbers: of a numbers.json.
    """
    values = {
        name: float(number["value"])
        for name, number in numbers.items()
        if isinstance(number["value"], int | float)
        and not isinstance(number["value"], bool)
        and not str(number["source"]).startswith("config")
    }
    texts: dict[str, list[float]] = {}
    for name, value in values.items():
        start, _, end = name.rpartition("_")
        if end in ("low", "high") and start in values:
            continue
        low, high = values.get(f"{name}_low", math.nan), values.get(f"{name}_high", math.nan)
        yield _row(name, value, low, high, None if math.isnan(low) else "95%")
        if found := _OF_TEXT.fullmatch(name):
            texts.setdefault(found[1], []).append(value)
    for name, own in texts.items():
        yield _row(name, float(np.mean(own)), min(own), max(own), "texts")


def average_modules(scores: pd.DataFrame) -> Iterator[dict]:
    """Each metric's mean over the layers: by projection, and of all of attention and the MLP."""
    for metric, rows in scores.groupby("metric", sort=False):
        of_mlp = rows["projection"].isin((*MLP, *SHARED))
        parts = {"attention": rows[~of_mlp], "mlp": rows[of_mlp]}
        parts |= dict(iter(rows.groupby("projection", sort=False)))
        for part, own in parts.items():
            name = f"{metric}_{re.sub(r'[^a-z]+', '_', part)}"
            yield _row(name, own["value"].mean(), math.nan, math.nan, None)


def share_right(answers: pd.DataFrame) -> dict:
    """The share of the valid answers that are right, with Wilson's 95% interval (1927)."""
    right = answers.loc[answers["valid"], "correct"].astype(float)
    count = len(right)
    if not count:
        return _row("right", math.nan, math.nan, math.nan, None)
    share, z = right.mean(), QUANTILE
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return _row("right", share, middle - half, middle + half, "95%")


def _row(number: str, value: float, low: float, high: float, interval: str | None) -> dict:
    return {"number": number, "value": value, "low": low, "high": high, "interval": interval}
