"""Rows of Markdown tables."""

from collections.abc import Iterable


def table_row(cells: Iterable[object]) -> str:
    """One row, each cell on one line."""
    return f"| {' | '.join(map(one_line, cells))} |"


def one_line(content: object) -> str:
    """Text for a cell, without line breaks and with bars escaped."""
    return " ".join(str(content).split()).replace("|", "\\|")
