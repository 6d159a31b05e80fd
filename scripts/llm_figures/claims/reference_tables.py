"""Tables that claims are held against: the run's own in another order, and random ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from llm_figures.claims.claim import FigureClaim
from llm_figures.claims.evaluation import measure_references
from llm_figures.claims.references import NOISE, PERMUTED, SMOOTH, Values
from llm_figures.claims.regions import Table, list_controls, measure_table

DRAWS = 100
# Waves over the depth that a smooth column is made of.
WAVES = 3
ENDS = ("values", "low", "high")


def measure_on_tables(
    claims: Sequence[FigureClaim],
    tables: Mapping[str, Table],
    chance: float | None = None,
    seed: int = 0,
    place: Callable[[Table], Table] | None = None,
) -> dict[str, Values]:
    """{claim: its values on references of the tables, by kind}.

    tables: by control. A claim is held against references of the tables that it reads.
    chance: see `draw_reference_tables`. place: turns each table into the one that is measured.
    """
    alike: dict[tuple[str, ...], list[FigureClaim]] = {}
    for claim in claims:
        alike.setdefault(tuple(sorted(set(list_controls(claim)))), []).append(claim)
    values: dict[str, Values] = {}
    for controls, group in alike.items():
        read = {control: tables[control] for control in controls if control in tables}
        drawn = draw_reference_tables(read, chance, seed=seed)
        if place is not None:
            drawn = (
                (kind, {control: place(table) for control, table in reference.items()})
                for kind, reference in drawn
            )
        values |= measure_references(group, measure_table, drawn)
    return values


def draw_reference_tables(
    tables: Mapping[str, Table],
    chance: float | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Iterator[tuple[str, dict[str, Table]]]:
    """Yield (kind, tables by control) of every reference, `draws` of each kind.

    A reference has the run's rows, columns, controls and gaps. It is the run's own table with its
    columns in another order, over all controls, and each column's rows too; independent noise about
    a level; or columns that are smooth over the rows (see `_draw_waves`), about a level. The level,
    and the size of noise and waves up to the run's standard deviation, are drawn for each
    reference, so that none has the run's level or range by design. An interval is as wide as that
    of the run's cell.

    tables: by control; there is no reference of cells that are all equal.
    chance: the level of noise, and the lowest of waves, whose highest is 1; cells stay within.
        By default levels lie from 0, or the lowest cell, to 1, or the highest.
    """
    generator = np.random.default_rng(seed)
    cells = np.concatenate([table.values.ravel() for table in tables.values()] or [np.empty(0)])
    cells = cells[np.isfinite(cells)]
    if not len(cells) or cells.min() == cells.max():
        return
    spread = float(cells.std())
    low, high = min(0.0, cells.min()), max(1.0, cells.max())
    limits = (-np.inf, np.inf)
    if chance is not None:
        low, high, limits = chance, 1.0, (2 * chance - 1, 1.0)
    for _ in range(draws):
        yield PERMUTED, _permute(tables, generator)
    for kind in (NOISE, SMOOTH):
        for _ in range(draws):
            size = spread * generator.uniform()
            level = generator.uniform(low, high)
            if kind == NOISE and chance is not None:
                level = chance
            filled = {}
            for control, table in tables.items():
                shape = table.values.shape
                drawn = (
                    generator.standard_normal(shape)
                    if kind == NOISE
                    else _draw_waves(*shape, generator)
                )
                values = np.clip(level + size * drawn, *limits)
                filled[control] = _fill(table, np.where(np.isfinite(table.values), values, np.nan))
            yield kind, filled


def _draw_waves(layers: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    """[layers, columns]: an offset of each column and cosines over the rows, each of variance 1."""
    depth = np.linspace(0, 1, layers)[:, None]
    waves = np.cos(np.pi * depth * np.arange(1, WAVES + 1)) * np.sqrt(2 / WAVES)
    return generator.standard_normal(columns) + waves @ generator.standard_normal((WAVES, columns))


def _fill(table: Table, values: np.ndarray) -> Table:
    ends = {
        end: values + getattr(table, end) - table.values
        for end in ("low", "high")
        if getattr(table, end) is not None
    }
    return replace(table, values=values, **ends)


def _permute(tables: Mapping[str, Table], generator: np.random.Generator) -> dict[str, Table]:
    """Columns in another order, over the tables of as many rows, and rows within each.

    A column without cells stays where it is.
    """
    permuted = {}
    for layers in dict.fromkeys(len(table.layers) for table in tables.values()):
        alike = {name: table for name, table in tables.items() if len(table.layers) == layers}
        counts = [len(table.columns) for table in alike.values()]
        values = np.concatenate([table.values for table in alike.values()], axis=1)
        columns = np.arange(sum(counts))
        held = np.flatnonzero(
            np.isfinite(values).any(axis=0)
        )  # others have no cells, as of a control
        columns[held] = generator.permutation(held)
        rows = np.argsort(generator.random((layers, sum(counts))), axis=0)
        parts: dict[str, list] = {}
        for end in ENDS:
            whole = [getattr(table, end) for table in alike.values()]
            if all(part is not None for part in whole):
                together = np.take_along_axis(np.concatenate(whole, axis=1)[:, columns], rows, 0)
                parts[end] = np.split(together, np.cumsum(counts)[:-1], axis=1)
        for number, (name, table) in enumerate(alike.items()):
            none = {"low": None, "high": None}
            own = {end: split[number] for end, split in parts.items()}
            permuted[name] = replace(table, **none | own)
    return permuted
