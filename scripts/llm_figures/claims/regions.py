"""Claims about regions of a table, layer × column: the probe figure and the module map."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from llm_figures.claims.definitions import listed
from llm_figures.claims.evaluation import claim_statistic
from llm_figures.claims.statistics import NotApplicableError, Region, difference


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
    statistic = claim_statistic(claim)
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
