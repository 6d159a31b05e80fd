"""Claims about an attention figure's panels, each of which is one map."""

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.attention.maps import BinnedMap
from llm_figures.claims.definitions import listed
from llm_figures.claims.evaluation import Spread, claim_statistic, worst_of
from llm_figures.claims.statistics import NotApplicableError, difference, spearman


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
    statistic = claim_statistic(claim)
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
