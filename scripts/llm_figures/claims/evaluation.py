"""Evaluate a claim on the numbers behind a figure: value, spread and verdict."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llm_figures.attention.maps import BinnedMap
from llm_figures.claims import statistics
from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.definitions import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED
from llm_figures.claims.references import Values, judge_references
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
    "references": "Int64",
    "held_references": "Int64",
    "references_by_kind": "string",
    "decided": "boolean",
    "verdict": "string",
    "reason": "string",
}


# A claim's values, each with what it was measured on: the input, a pair of inputs, or None where it
# rests on all of the data.
Measured = Sequence[tuple[object, float]]


@dataclass(frozen=True)
class Spread:
    """A claim's values on parts or resamples of the data.

    values: the worst value in each part, NaN where the claim cannot be evaluated.
    what: what low and high span, in words. percentiles: they are the 2.5th and 97.5th percentile
        of `values`; else the smallest and the largest. counted: whether each value is of a part, in
        which the claim holds or does not; else they are both ends of an interval.
    """

    values: Sequence[float]
    what: str
    percentiles: bool = False
    counted: bool = True


def bind_statistic(claim: FigureClaim) -> Callable[..., float]:
    """The claim's statistic, with its options, as a function of one map or region, or of two.

    The function raises NotApplicableError on a binned map from which its value does not follow
    exactly.
    """
    name = claim.statistic
    function = getattr(statistics, name)

    def statistic(*numbers):
        if binned := [map_ for map_ in numbers if isinstance(map_, BinnedMap)]:
            if name in BINNED:
                return BINNED[name](*numbers)
            raise NotApplicableError(
                f"a text of {binned[0].tokens:,} tokens is shown in {len(binned[0].counts)} bins; "
                f"{name} needs its single cells"
            )
        return function(*numbers, **claim.options)

    return statistic


def pick_worst(claim: FigureClaim, measured: Measured) -> float:
    """The worst of the claim's values; NaN where one of them is."""
    values = [value for _, value in measured]
    return claim.worst(values) if np.isfinite(values).all() else float("nan")


def pick_value(claim: FigureClaim, measured: Measured) -> float:
    """The worst of the claim's values.

    Raises:
        NotApplicableError: one of them is not a number.
    """
    value = pick_worst(claim, measured)
    if not np.isfinite(value):
        raise NotApplicableError("the statistic is not a number here")
    return value


def attempt(claim: FigureClaim, measure: Callable[..., Measured], *data) -> float:
    """The worst value of `measure(claim, *data)`; NaN where the claim is not applicable."""
    try:
        return pick_worst(claim, measure(claim, *data))
    except NotApplicableError:
        return float("nan")


def measure_references(
    claims: Sequence[FigureClaim],
    measure: Callable[..., Measured],
    drawn: Iterable[tuple[str, Mapping]],
) -> dict[str, Values]:
    """{claim: {kind: its values on the references of this kind}}; NaN where not applicable.

    measure: of a claim on a figure's data, as in `attempt`. drawn: (kind, data) of each reference.
    """
    values: dict[str, dict[str, list[float]]] = {claim.name: {} for claim in claims}
    for kind, data in drawn:
        for claim in claims:
            values[claim.name].setdefault(kind, []).append(attempt(claim, measure, data))
    return values


def assess(
    model: str,
    claim: FigureClaim,
    measure: Callable[[], Measured],
    spread: Callable[[], Spread | None] = lambda: None,
    heads: Callable[[], Sequence[float]] = lambda: (),
    references: Callable[[], Values] = dict,
) -> dict:
    """One row of claims.parquet (see `COLUMNS`).

    measure: returns the claim's values on the figure as drawn, or raises NotApplicableError.
    spread, heads: return its values on parts of the data, and on every head by itself.
    references: returns its values on reference data, by kind; see `judge_references`.
    """
    limits = claim.thresholds
    row = {
        "model": model,
        **{key: getattr(claim, key) for key in ("figure", "statement", "source", "note")},
        "claim": claim.id,
        "statistic": claim.statistic,
        "comparison": claim.comparison,
        "threshold": limits[0],
        "threshold_high": limits[1] if len(limits) == 2 else None,
        "test": _test(claim),
    }
    try:
        value = pick_value(claim, measure())
    except NotApplicableError as reason:
        return row | {"decided": False, "verdict": NOT_APPLICABLE, "reason": str(reason)}
    values = {"value": value, **_describe_spread(claim, spread())}
    true = claim.holds(value)
    if claim.certain:
        if "low" not in values:
            reason = "the claim is about an interval, which these data do not give"
            return row | {"decided": False, "verdict": NOT_APPLICABLE, "reason": reason}
        true = claim.holds(values["low"]) and claim.holds(values["high"])
    if each := _finite(heads()):
        values |= {"heads": len(each), "held_heads": sum(map(claim.holds, each))}
    verdict = REPRODUCED if true else NOT_REPRODUCED
    margins = tuple(values[end] - value for end in ("low", "high")) if claim.certain else (0, 0)
    values |= judge_references(claim, value, verdict, references(), margins)
    return row | values | {"verdict": verdict}


def _test(claim: FigureClaim) -> str:
    """All that the verdict depends on, except the numbers, as JSON; equal for equal tests."""
    words = {"figures", "id", "statement", "source", "note"}
    tested = {key: value for key, value in claim.plain().items() if key not in words}
    return json.dumps(tested, sort_keys=True, ensure_ascii=False)


def _describe_spread(claim: FigureClaim, spread: Spread | None) -> dict:
    values = _finite(spread.values) if spread else []
    if not values:
        return {}
    row = {"units": len(values), "held": sum(map(claim.holds, values))} if spread.counted else {}
    if len(values) == 1:
        return row
    low, high = min(values), max(values)
    if spread.percentiles:
        low, high = map(float, np.percentile(values, [2.5, 97.5]))
    return row | {"low": low, "high": high, "spread": spread.what}


def _finite(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values if np.isfinite(value)]


def build_claims_table(rows: Sequence[Mapping]) -> pd.DataFrame:
    """Rows of `assess` as the table of claims.parquet."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
