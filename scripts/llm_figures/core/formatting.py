"""Sizes, counts and durations as text."""

import math
from collections.abc import Sequence


def format_bytes(size: float | None) -> str:
    """12 kB, 998 MB, 2.1 GB, 141 GB, in decimal units; "" without a value."""
    if size is None or math.isnan(size):
        return ""
    if size < 1e6:
        return f"{math.ceil(size / 1000)} kB"
    value, unit = next(
        (size / factor, unit)
        for unit, factor in (("MB", 1e6), ("GB", 1e9), ("TB", 1e12))
        if size < 999.5 * factor or unit == "TB"
    )
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def format_duration(seconds: float | None) -> str:
    """4.2 s, 42 s, 3 min 51 s, 3 min, 2 h 5 min; "" without a value."""
    if seconds is None or math.isnan(seconds):
        return ""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min")) if hours else ((minutes, "min"), (rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value)


def format_count(count: float) -> str:
    """1,023, 135 M, 70.6 B."""
    if count < 1e6:
        return f"{count:,.0f}"
    return f"{count / 1e6:.3g} M" if count < 999.5e6 else f"{count / 1e9:.3g} B"


def format_percent(part: float, whole: float) -> str:
    """53.2%; – where the whole is nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def join_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: 0–2, 4, 8–11."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
