"""Claims evaluated on the numbers behind a figure: value, spread and verdict."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.attention.maps import BinnedMap
from llm_figures.claims import statistics as claim_statistics
from llm_figures.claims.definitions import (
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    holds,
    listed,
    thresholds,
    worst,
)
from llm_figures.claims.statistics import (
    BINNED,
    NotApplicableError,
    Region,
    difference,
    spearman,
)

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


# Attention figures: a claim is about panels, each one map.


class Panel(NamedTuple):
    """What tells a panel of an attention figure from its neighbours."""

    input: int
    component: str
    operation: str
    epsilon: float | None = None


Maps = Mapping[Panel, np.ndarray | BinnedMap]


def maps_of(cells: pd.DataFrame) -> dict[Panel, np.ndarray | BinnedMap]:
    """The maps of an attention figure's tidy cells: [tokens, tokens], or binned."""
    keys = ["input", "component", "operation", "epsilon"]
    found = {}
    for (index, component, operation, epsilon), panel in cells.groupby(keys, dropna=False):
        grid = panel.pivot(index="query_position", columns="key_position", values="weight")
        key = Panel(int(index), component, operation, None if pd.isna(epsilon) else epsilon)
        found[key] = grid.to_numpy()
        if "query_count" in panel and panel["query_count"].max() > 1:
            counts = panel.groupby("query_position")["query_count"].first()
            found[key] = BinnedMap(found[key], counts.to_numpy())
    return found


def measure_maps(claim: Mapping, maps: Maps) -> list[tuple[object, float]]:
    """The claim's statistic on every panel, or group of panels, that it is about.

    Each value comes with its unit: the input, a pair of inputs, or None where a value rests on all
    inputs together.

    Raises:
        NotApplicableError: the figure does not show what the claim is about.
    """
    of = {**claim["published"], **claim.get("panels", {})}
    chosen = _chosen(of, maps)
    statistic = _statistic(claim)
    if "across" in claim:
        return _across(claim["across"], chosen, maps, statistic)
    if "versus" in claim:
        partner = claim["versus"]
        return [(p.input, statistic(maps[p], maps[_partner(p, partner, maps)])) for p in chosen]
    if "minus" in claim:
        values = [
            (p.input, difference(statistic(maps[p]), statistic(maps[_partner(p, partner, maps)])))
            for p in chosen
            for partner in listed(claim, "minus")
        ]
    else:
        values = [(p.input, statistic(maps[p])) for p in chosen]
    if "along" in claim:
        return _along(claim["along"], chosen, [value for _, value in values])
    return values


def _chosen(of: Mapping, maps: Maps) -> list[Panel]:
    chosen = list(maps)
    for key, wanted in of.items():
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not any(_same(getattr(panel, key), value) for panel in maps):
                raise NotApplicableError(f"the figure has no panel of {key} {value}")
        chosen = [
            panel
            for panel in chosen
            if any(
                _same(getattr(panel, key), value)
                for value in (wanted if isinstance(wanted, list) else [wanted])
            )
        ]
    if not chosen:
        raise NotApplicableError(f"the figure has no panel of {_listed(of)}")
    return chosen


def _partner(panel: Panel, fields: Mapping, maps: Maps) -> Panel:
    for other in maps:
        if all(
            _same(getattr(other, key), fields.get(key, getattr(panel, key)))
            for key in Panel._fields
        ):
            return other
    raise NotApplicableError(f"the figure has no panel of {_listed(fields)} to compare with")


def _across(
    key: str, chosen: list[Panel], maps: Maps, statistic: Callable
) -> list[tuple[object, float]]:
    """Every two panels that differ in `key` alone."""
    pairs = [
        (one, other)
        for one, other in itertools.combinations(chosen, 2)
        if one._replace(**{key: getattr(other, key)}) == other
    ]
    if not pairs:
        raise NotApplicableError(f"the figure has one {key}; the claim compares several")
    return [
        (
            (one.input, other.input) if key == "input" else one.input,
            statistic(maps[one], maps[other]),
        )
        for one, other in pairs
    ]


def _along(key: str, chosen: list[Panel], values: list[float]) -> list[tuple[object, float]]:
    """Rank correlation of the statistic with `key`, over panels that differ in it alone."""
    groups: dict[Panel, list[tuple[float, float]]] = {}
    for panel, value in zip(chosen, values, strict=True):
        groups.setdefault(panel._replace(**{key: None}), []).append((getattr(panel, key), value))
    few = min(len(points) for points in groups.values())
    if few < 3:
        raise NotApplicableError(f"a trend needs three values of {key}; the figure has {few}")
    return [
        (group.input, spearman(*np.array(points, dtype=float).T))
        for group, points in groups.items()
    ]


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, int | float):
        return bool(np.isclose(a, b, rtol=1e-9, atol=0))
    return a == b


def _listed(fields: Mapping) -> str:
    return ", ".join(f"{key} {value}" for key, value in fields.items())


# Tables: a claim is about regions of layer × column.


@dataclass(frozen=True)
class Table:
    """A figure's cells, layer × column.

    values, low, high: [layers, columns]. layers: the layers' numbers, rising.
    """

    columns: Sequence[str]
    layers: Sequence[int]
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def region(self, cells: Mapping, published: Mapping) -> Region:
        """The cells that a claim names.

        cells: `columns`, names or patterns such as exact_answer_*; `layers`, the first and last;
            all of them by default.
        published: `layers`, how many the published figure had; layers are then its layers, and a
            layer of ours belongs to that of the same relative depth. Else they are the model's own.
            `columns`, see `names`.

        Raises:
            NotApplicableError: no such column, no such layer.
        """
        count = published.get("layers")
        depth = np.linspace(0, 1, len(self.layers))
        rows = depth * (count - 1) if count else np.array(self.layers, dtype=float)
        first, last = cells.get("layers", (-np.inf, np.inf))
        inside = np.flatnonzero((rows >= first - 0.5) & (rows < last + 0.5))
        if not len(inside):
            of = f" of {count}" if count else ""
            raise NotApplicableError(
                f"none of the figure's {len(self.layers)} layers lies in {first} to {last}{of}"
            )
        names = self.names(cells, published)
        at = np.ix_(inside, [list(self.columns).index(name) for name in names])
        return Region(
            self.values[at],
            rows[inside],
            depth[inside],
            None if self.low is None else self.low[at],
            None if self.high is None else self.high[at],
        )

    def names(self, cells: Mapping, published: Mapping) -> list[str]:
        """The columns that `cells` names, one by one.

        published: `columns`, those of the published figure. Patterns stand for them, whatever
            columns ours has; else for our own.

        Raises:
            NotApplicableError: no such column.
        """
        if "columns" not in cells:
            return list(self.columns)
        names: list[str] = []
        for pattern in listed(cells, "columns"):
            known = published.get("columns", self.columns)
            found = [name for name in known if fnmatchcase(name, pattern)]
            for name in found or [pattern]:
                if name not in self.columns:
                    raise NotApplicableError(f"the figure has no column {name}")
            names += [name for name in found or [pattern] if name not in names]
        return names


def measure_table(claim: Mapping, tables: Mapping[str, Table]) -> list[tuple[object, float]]:
    """The claim's statistic on every region that it is about, as from `measure_maps`.

    tables: by control; "none" is the figure's own.
    """
    statistic = _statistic(claim)
    values: list[tuple[object, float]] = []
    for region in listed(claim, "cells") or [{}]:
        values += [(None, value) for value in _table_values(claim, region, tables, statistic)]
    return values


def _table_values(claim: Mapping, region: Mapping, tables, statistic) -> Iterable[float]:
    published = claim["published"]
    table = _table(tables, region)
    partners = [*listed(claim, "versus"), *listed(claim, "minus")]
    regions: list[Mapping] = [region]
    if claim.get("each") == "column":
        regions = [{**region, "columns": name} for name in table.names(region, published)]
    for part in regions:
        here = table.region(part, published)
        if not partners:
            yield statistic(here)
        for partner in partners:
            other = {**part, **partner}
            there = _table(tables, other).region(other, published)
            if "versus" in claim:
                yield statistic(here, there)
            else:
                yield difference(statistic(here), statistic(there))


def _table(tables: Mapping[str, Table], region: Mapping) -> Table:
    control = region.get("control", "none")
    if control not in tables:
        raise NotApplicableError(f"the scores have no control {control}")
    return tables[control]


def colour_positions(values: np.ndarray) -> np.ndarray:
    """Places on the colour scale of the module map: 0 is its blue end, 1 its orange end.

    The scale runs from the 2nd to the 98th percentile of the figure's cells, as it is drawn by
    default; what lies beyond has the colour of the end.
    """
    low, high = np.nanpercentile(values, [2, 98])
    if not high > low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def table_of(scores: pd.DataFrame, column: str, value: str, intervals: bool = False) -> Table:
    """A tidy frame of layer × column as a table; columns in order of appearance."""
    order = list(dict.fromkeys(scores[column].astype(str)))

    def grid(name: str) -> np.ndarray:
        return scores.pivot(index="layer", columns=column, values=name)[order].to_numpy(float)

    layers = sorted(scores["layer"].unique())
    if not intervals:
        return Table(order, layers, grid(value))
    return Table(order, layers, grid(value), grid("ci_low"), grid("ci_high"))


# Both.


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


def _statistic(claim: Mapping) -> Callable[..., float]:
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
        value = worst_of(claim, measure())
        if not np.isfinite(value):
            raise NotApplicableError("the statistic is not a number here")
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


def spread_over_inputs(claim: Mapping, maps: Maps) -> Spread | None:
    """The claim in every input, or pair of inputs, by itself; None where it takes all at once."""
    try:
        measured = measure_maps(claim, maps)
    except NotApplicableError:
        return None
    units: dict[object, list[tuple[object, float]]] = {}
    for unit, value in measured:
        if unit is None:
            return None
        units.setdefault(unit, []).append((unit, value))
    pairs = "pairs of " if any(isinstance(unit, tuple) for unit in units) else ""
    values = [worst_of(claim, members) for members in units.values()]
    return Spread(values, f"range over {len(units)} {pairs}inputs")
