"""A claim evaluated on the numbers behind a figure: value, spread and verdict."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llm_figures.attention.maps import BinnedMap
from llm_figures.claims import statistics as claim_statistics
from llm_figures.claims.definitions import (
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    holds,
    thresholds,
    worst,
)
from llm_figures.claims.statistics import BINNED, NotApplicableError

COLUMNS = {
    "model": "string",
    "figure": "string",
    "claim": "string",
    "statement": "string",
    "source": "string",
    "note": "string",
    "statistic": "string",
    "comparison": "string",
    "threshold": "float64",
    "threshold_high": "float64",
    "test": "string",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "spread": "string",
    "units": "Int64",
    "held": "Int64",
    "heads": "Int64",
    "held_heads": "Int64",
    "verdict": "string",
    "reason": "string",
}


@dataclass(frozen=True)
class Spread:
    """The claim on parts or resamples of the data.

    values: the claim's worst value in each unit, NaN where it cannot be evaluated.
    what: what low and high span. percentiles: they are the 2.5th and 97.5th of `values`, else the
        smallest and the largest.
    """

    values: Sequence[float]
    what: str
    percentiles: bool = False


def claim_statistic(claim: Mapping) -> Callable[..., float]:
    """The claim's statistic of one map or region, or two.

    It raises NotApplicableError on a binned map that does not tell its value exactly.
    """
    name = claim["statistic"]
    function = getattr(claim_statistics, name)

    def statistic(*numbers):
        if binned := [map_ for map_ in numbers if isinstance(map_, BinnedMap)]:
            if name in BINNED:
                return BINNED[name](*numbers)
            raise NotApplicableError(
                f"a text of {binned[0].tokens:,} tokens is shown in {len(binned[0].counts)} bins; "
                f"{name} needs its single cells"
            )
        return function(*numbers, **claim["options"])

    return statistic


def worst_of(claim: Mapping, measured: Sequence[tuple[object, float]]) -> float:
    """The value that speaks for all of them; NaN where one of them is."""
    if not np.isfinite([value for _, value in measured]).all():
        return float("nan")
    return worst([value for _, value in measured], claim["comparison"], thresholds(claim))


def claim_value(claim: Mapping, measured: Sequence[tuple[object, float]]) -> float:
    """`worst_of`, where that is a number.

    Raises:
        NotApplicableError: it is none.
    """
    value = worst_of(claim, measured)
    if not np.isfinite(value):
        raise NotApplicableError("the statistic is not a number here")
    return value


def attempt(claim: Mapping, measure: Callable, *data) -> float:
    """The claim's value on some data, NaN where it does not apply."""
    try:
        return worst_of(claim, measure(claim, *data))
    except NotApplicableError:
        return float("nan")


def assess(
    model: str,
    claim: Mapping,
    measure: Callable[[], Sequence[tuple[object, float]]],
    spread: Callable[[], Spread | None] = lambda: None,
    heads: Callable[[], Sequence[float]] = lambda: (),
) -> dict:
    """One row of claims.parquet (see `COLUMNS`).

    measure: the claim's values on the figure as drawn; raises NotApplicableError.
    spread, heads: the same on units of the data, and on every head by itself.
    """
    limits = thresholds(claim)
    row = {
        "model": model,
        **{key: claim[key] for key in ("figure", "statement", "source", "statistic", "comparison")},
        "claim": claim["id"],
        "note": claim.get("note"),
        "threshold": limits[0],
        "threshold_high": limits[1] if len(limits) == 2 else None,
        "test": _test(claim),
    }
    try:
        value = claim_value(claim, measure())
    except NotApplicableError as reason:
        return row | {"verdict": NOT_APPLICABLE, "reason": str(reason)}
    told: dict = {"value": value}
    if (found := spread()) is not None and (values := _finite(found.values)):
        told |= _described(claim, found, values)
    true = holds(value, claim["comparison"], limits)
    if claim["certain"]:
        if "low" not in told:
            reason = "the claim is about an interval, which these data do not give"
            return row | {"verdict": NOT_APPLICABLE, "reason": reason}
        ends = (told["low"], told["high"])
        true = all(holds(end, claim["comparison"], limits) for end in ends)
    row |= told
    if each := _finite(heads()):
        row["heads"] = len(each)
        row["held_heads"] = sum(holds(v, claim["comparison"], limits) for v in each)
    return row | {"verdict": REPRODUCED if true else NOT_REPRODUCED}


def _test(claim: Mapping) -> str:
    """Everything that the verdict depends on but the numbers, as JSON: equal tests, equal texts."""
    told = ("figure", "id", "statement", "source", "note")
    tested = {key: value for key, value in claim.items() if key not in told}
    return json.dumps(tested, sort_keys=True, ensure_ascii=False)


def _described(claim: Mapping, spread: Spread, values: list[float]) -> dict:
    limits = thresholds(claim)
    row = {
        "units": len(values),
        "held": sum(holds(value, claim["comparison"], limits) for value in values),
    }
    if len(values) > 1:
        ends = (
            np.percentile(values, [2.5, 97.5]) if spread.percentiles else (min(values), max(values))
        )
        row |= {"low": float(ends[0]), "high": float(ends[1]), "spread": spread.what}
    return row


def _finite(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values if np.isfinite(value)]


def claim_rows(rows: Sequence[Mapping]) -> pd.DataFrame:
    """Rows of `assess` as the frame of claims.parquet."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
