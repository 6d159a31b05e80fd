"""Measure claims on the panels of an attention figure, each of which is one map."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm_figures.attention.interventions import CLEAN
from llm_figures.attention.maps import BinnedMap
from llm_figures.attention.options import AttentionScoring
from llm_figures.attention.scores import Intervened, States, compute_panel_maps
from llm_figures.claims.claim import FigureClaim, Partner
from llm_figures.claims.definitions import as_tuple
from llm_figures.claims.evaluation import Measured, Spread, bind_statistic, pick_worst
from llm_figures.claims.statistics import FLOAT32, NotApplicableError, difference, spearman
from llm_figures.core.options import Options


class Panel(NamedTuple):
    """What distinguishes a panel of an attention figure from the others."""

    input: int
    component: str
    operation: str
    epsilon: float | None = None


Maps = Mapping[Panel, np.ndarray | BinnedMap]


def read_maps(cells: pd.DataFrame) -> dict[Panel, np.ndarray | BinnedMap]:
    """The maps of an attention figure's tidy cells: arrays [query, key], or binned.

    Statements are about panels with an intervention, so that clean ones are left out.
    """
    cells = cells[cells["component"] != CLEAN]
    keys = ["input", "component", "operation", "epsilon"]
    maps = {}
    for (index, component, operation, epsilon), panel in cells.groupby(keys, dropna=False):
        grid = panel.pivot(index="query_position", columns="key_position", values="weight")
        key = Panel(int(index), component, operation, None if pd.isna(epsilon) else epsilon)
        maps[key] = grid.to_numpy()
        if "query_count" in panel and panel["query_count"].max() > 1:
            counts = panel.groupby("query_position")["query_count"].first()
            maps[key] = BinnedMap(maps[key], counts.to_numpy())
    return maps


def compute_maps(
    options: AttentionScoring, clean: Sequence[States], intervened: Intervened | None = None
) -> dict[Panel, np.ndarray | BinnedMap]:
    """The maps of a figure with these options, from stored states; see `compute_panel_maps`.

    Clean ones are left out.
    """
    return {
        Panel(text, intervention.component, intervention.operation, intervention.epsilon): weights
        for _, _, text, intervention, weights in compute_panel_maps(options, clean, intervened)
        if intervention is not None
    }


def measure_maps(claim: FigureClaim, maps: Maps) -> Measured:
    """The claim's statistic on every panel, or group of panels, that it is about.

    Each value comes with what it was measured on: the input, a pair of inputs, or None where a
    value rests on all inputs together.

    Raises:
        NotApplicableError: the figure does not show what the claim is about.
    """
    fields = {**_given(claim.published), **_given(claim.panels)}
    chosen = _choose_panels(fields, maps)
    statistic = bind_statistic(claim)
    if claim.across:
        return _across(claim.across, chosen, maps, statistic)
    if claim.versus:
        return [
            (panel.input, statistic(maps[panel], maps[_find_partner(panel, claim.versus, maps)]))
            for panel in chosen
        ]
    if claim.minus:
        values = [
            (
                panel.input,
                difference(
                    statistic(maps[panel]),
                    statistic(maps[_find_partner(panel, partner, maps)]),
                    rounding=FLOAT32,
                ),
            )
            for panel in chosen
            for partner in as_tuple(claim.minus)
        ]
    else:
        values = [(panel.input, statistic(maps[panel])) for panel in chosen]
    if claim.along:
        return _along(claim.along, chosen, [value for _, value in values])
    return values


def _choose_panels(fields: Mapping, maps: Maps) -> list[Panel]:
    """The panels with one of the wanted values, a list or a single one, in every field."""
    chosen = list(maps)
    for key, wanted in fields.items():
        values = as_tuple(wanted)
        for value in values:
            if not any(_same(getattr(panel, key), value) for panel in maps):
                raise NotApplicableError(f"the figure has no panel of {key} {value}")
        chosen = [
            panel for panel in chosen if any(_same(getattr(panel, key), value) for value in values)
        ]
    if not chosen:
        raise NotApplicableError(f"the figure has no panel of {_listed(fields)}")
    return chosen


def _find_partner(panel: Panel, partner: Partner, maps: Maps) -> Panel:
    """The panel that differs from `panel` in the partner's fields."""
    wanted = panel._replace(**_given(partner))
    for other in maps:
        if all(_same(*pair) for pair in zip(other, wanted, strict=True)):
            return other
    raise NotApplicableError(
        f"the figure has no panel of {_listed(_given(partner))} to compare with"
    )


def _across(key: str, chosen: list[Panel], maps: Maps, statistic: Callable) -> Measured:
    """The statistic of every two panels that differ in `key` alone."""
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


def _along(key: str, chosen: list[Panel], values: list[float]) -> Measured:
    """Rank correlation of the statistic with `key`, over panels that differ in it alone."""
    groups: dict[Panel, list[tuple[float, float]]] = {}
    for panel, value in zip(chosen, values, strict=True):
        groups.setdefault(panel._replace(**{key: None}), []).append((getattr(panel, key), value))
    few = min(len(points) for points in groups.values())
    if few < 3:
        raise NotApplicableError(f"a trend needs three values of {key}; the figure has {few}")
    return [
        (group.input, spearman(*np.array(points, dtype=float).T, rounding=FLOAT32))
        for group, points in groups.items()
    ]


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9)
    return a == b


def _given(options: Options | None) -> dict:
    """The fields that are given."""
    return {key: value for key, value in options or () if value is not None}


def _listed(fields: Mapping) -> str:
    return ", ".join(f"{key} {value}" for key, value in fields.items())


def measure_spread(claim: FigureClaim, maps: Maps) -> Spread | None:
    """The claim's values in every input, or pair of inputs; None where it takes all at once."""
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
    values = [pick_worst(claim, members) for members in units.values()]
    return Spread(values, f"range over {len(units)} {pairs}inputs")
