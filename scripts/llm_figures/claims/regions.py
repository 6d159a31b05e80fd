"""Measure claims on regions of a table, whose rows are layers or have names."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np
import pandas as pd

from llm_figures.claims.claim import FigureClaim, PublishedTable, Region
from llm_figures.claims.definitions import as_tuple
from llm_figures.claims.evaluation import Measured, bind_statistic
from llm_figures.claims.statistics import Cells, NotApplicableError, difference
from llm_figures.probe.controls import NEEDS


@dataclass(frozen=True)
class Table:
    """A figure's cells, layer × column or row × column.

    values, low, high: [layers, columns]. layers: the layers' numbers, rising; of rows with names,
    their places from 0. rows: the names of rows that are no layers.
    """

    columns: Sequence[str]
    layers: Sequence[int]
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    rows: Sequence[str] | None = None

    def select(self, cells: Region, published: PublishedTable) -> Cells:
        """The cells of the region that a claim names; all of them where it names none.

        published: what the published figure was. With its number of layers, the claim's layers are
            those of the published figure, and a layer of ours stands for the published layer of
            the same relative depth; without it, they are the model's own. For its columns see
            `select_columns`.

        Raises:
            NotApplicableError: no such column, no such layer, no such row.
        """
        names = None if self.rows is None else tuple(self.rows)
        at, rows, depth = _locate(
            tuple(self.columns), tuple(self.layers), names, cells, published.layers,
            published.columns,
        )  # fmt: skip
        return Cells(
            self.values[at],
            rows,
            depth,
            None if self.low is None else self.low[at],
            None if self.high is None else self.high[at],
        )

    def _select_rows(self, cells: Region, layers: np.ndarray, count: int | None) -> np.ndarray:
        if cells.rows is not None or self.rows is not None:
            return self._select_named_rows(cells)
        first, last = cells.layers or (-np.inf, np.inf)
        inside = np.flatnonzero((layers >= first - 0.5) & (layers < last + 0.5))
        if not len(inside):
            of = f" of {count}" if count else ""
            raise NotApplicableError(
                f"none of the figure's {len(self.layers)} layers lies in {first} to {last}{of}"
            )
        return inside

    def _select_named_rows(self, cells: Region) -> np.ndarray:
        if self.rows is None:
            raise NotApplicableError("the figure's rows are layers, not names")
        if cells.layers is not None:
            raise NotApplicableError("the figure's rows are names, not layers")
        patterns = as_tuple(cells.rows) or ("*",)
        inside = [
            place
            for place, name in enumerate(self.rows)
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        if not inside:
            raise NotApplicableError(f"the figure has no row {', '.join(patterns)}")
        return np.array(inside)

    def select_columns(self, cells: Region, published: PublishedTable) -> list[str]:
        """The columns that a region names, each once; all of them where it names none.

        Patterns such as exact_answer_* stand for columns of the published figure where these are
        known, whatever columns ours has; else for our own.

        Raises:
            NotApplicableError: no such column.
        """
        names: list[str] = []
        for pattern in as_tuple(cells.columns):
            known = published.columns or self.columns
            matching = [name for name in known if fnmatchcase(name, pattern)] or [pattern]
            for name in matching:
                if name not in self.columns:
                    raise NotApplicableError(f"the figure has no column {name}")
            names += [name for name in matching if name not in names]
        return names or list(self.columns)


@lru_cache(maxsize=1024)
def _locate(
    columns: tuple[str, ...],
    layers: tuple[int, ...],
    names: tuple[str, ...] | None,
    cells: Region,
    count: int | None,
    published: tuple[str, ...] | None,
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """(where the region's cells are, the rows' numbers, their depth), alike in tables of a shape.

    count, published: layers and columns of the published figure. See `Table.select`.
    """
    table = Table(columns, layers, np.empty(0), rows=names)
    depth = np.linspace(0, 1, len(layers))
    rows = depth * (count - 1) if count else np.array(layers, dtype=float)
    inside = table._select_rows(cells, rows, count)
    chosen = table.select_columns(cells, PublishedTable.model_construct(columns=published))
    at = np.ix_(inside, [columns.index(name) for name in chosen])
    return at, rows[inside], depth[inside]


def measure_table(claim: FigureClaim, tables: Mapping[str, Table]) -> Measured:
    """The claim's statistic on every region that it is about, each value with None.

    tables: by control; "none" is the figure's own.

    Raises:
        NotApplicableError: the figure does not show what the claim is about.
    """
    return [
        (None, value)
        for region in as_tuple(claim.cells) or (Region(),)
        for value in _measure_region(claim, region, tables)
    ]


def list_controls(claim: FigureClaim) -> Iterator[str]:
    """The controls whose tables a claim reads; "none" is the figure's own."""
    for region in (
        *(as_tuple(claim.cells) or (None,)),
        *as_tuple(claim.minus),
        *as_tuple(claim.versus),
    ):
        yield (region and region.control) or "none"


def _measure_region(
    claim: FigureClaim, region: Region, tables: Mapping[str, Table]
) -> Iterable[float]:
    statistic, published = bind_statistic(claim), claim.published
    table = _find_table(tables, region)
    partners = [*as_tuple(claim.versus), *as_tuple(claim.minus)]
    regions = [region]
    if claim.each == "column":
        names = table.select_columns(region, published)
        regions = [region.changed(columns=name) for name in names]
    for part in regions:
        here = table.select(part, published)
        if not partners:
            yield statistic(here)
        for partner in partners:
            # what the partner leaves out is that of the region
            other = part.changed(**{key: value for key, value in partner if value is not None})
            there = _find_table(tables, other).select(other, published)
            if claim.versus:
                yield statistic(here, there)
            else:
                yield difference(statistic(here), statistic(there))


def _find_table(tables: Mapping[str, Table], region: Region) -> Table:
    control = region.control or "none"
    if control not in tables:
        needs = f": {NEEDS[control]}" if control in NEEDS else ""
        raise NotApplicableError(f"the scores have no control {control}{needs}")
    return tables[control]


def place_on_colours(values: np.ndarray) -> np.ndarray:
    """Positions on the module map's colour scale: 0 is its blue end, 1 its orange end.

    The scale runs from the 2nd to the 98th percentile of the figure's cells, as it is drawn by
    default; values beyond an end have that end's colour.
    """
    low, high = np.nanpercentile(values, [2, 98])
    if not high > low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def build_table(scores: pd.DataFrame, column: str, value: str, intervals: bool = False) -> Table:
    """A table from tidy scores of layer × `column`, its columns in order of appearance."""
    order = list(dict.fromkeys(scores[column].astype(str)))

    def grid(name: str) -> np.ndarray:
        return scores.pivot(index="layer", columns=column, values=name)[order].to_numpy(float)

    layers = sorted(scores["layer"].unique())
    if not intervals:
        return Table(order, layers, grid(value))
    return Table(order, layers, grid(value), grid("ci_low"), grid("ci_high"))


def build_tables(cells: pd.DataFrame) -> dict[str, Table]:
    """{control: its table} from the cells that a figure's module lists for its claims.

    cells: row (a layer's number, or a name), column, control, value; perhaps ci_low and ci_high.
    Rows with names, and columns, stand in order of appearance; a cell that is missing is NaN.
    """
    named = not pd.api.types.is_numeric_dtype(cells["row"])
    rows = list(dict.fromkeys(cells["row"])) if named else sorted(cells["row"].unique())
    columns = list(dict.fromkeys(cells["column"].astype(str)))

    def grid(part: pd.DataFrame, name: str) -> np.ndarray | None:
        if name not in part:
            return None
        wide = part.pivot(index="row", columns="column", values=name)
        return wide.reindex(index=rows, columns=columns).to_numpy(float)

    return {
        str(control): Table(
            columns,
            list(range(len(rows))) if named else rows,
            grid(part, "value"),
            grid(part, "ci_low"),
            grid(part, "ci_high"),
            rows if named else None,
        )
        for control, part in cells.astype({"column": str}).groupby("control", sort=False)
    }
