"""Formats of numbers in captions, pages and logs, with minus signs. Further formats belong here."""

import math
import re


def with_interval(value: float, low: float, high: float) -> str:
    """0.912 [0.897, 0.925]"""
    return minus_signs(f"{value:.3f} [{low:.3f}, {high:.3f}]")


def four_decimals(value: float) -> str:
    """0.0123, or four significant digits of small and large values: 1.234e−5."""
    form = ".4f" if value == 0 or 0.01 <= abs(value) < 1000 else ".4g"
    return minus_signs(f"{value:{form}}")


def low_to_high(low: float, high: float) -> str:
    """0.0123 to 0.4567, see `four_decimals`."""
    return f"{four_decimals(low)} to {four_decimals(high)}"


def three_digits(value: float | None) -> str:
    """0.912, 0.900, 1,234: three significant digits, no decimals from 1,000 on; "" if missing."""
    if _missing(value):
        return ""
    if abs(value) >= 1000:
        return minus_signs(f"{value:,.0f}")
    text = f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.3g}"
    return minus_signs(text.rstrip("."))


def three_decimals(value: float) -> str:
    """0.912, −0.030; "" if missing."""
    return "" if math.isnan(value) else minus_signs(f"{value:.3f}")


def at_most_three_decimals(value: float, *thresholds: float) -> str:
    """0.91, 7e−5, with more decimals if rounding would hide on which side of a threshold it is.

    thresholds: 0.8996 is not rounded to 0.9 if 0.9 is one, nor 0.99985 to 1 if 0.9999 is one.
    """
    form, digits = ("f", 3) if value == 0 or abs(value) >= 0.0005 else ("e", 0)
    while digits < 12 and any(
        _sign(float(f"{value:.{digits}{form}}") - threshold) != _sign(value - threshold)
        for threshold in thresholds
        if not _missing(threshold)
    ):
        digits += 1
    text = f"{value:.{digits}{form}}"
    if form == "f":
        text = text.rstrip("0").rstrip(".")
    return minus_signs(text)


def as_given(value: float) -> str:
    """0.9, 1e−5: a number from the user, not rounded."""
    return minus_signs(f"{value:.12g}")


def minus_signs(text: str) -> str:
    """Replace the hyphens of a number by minus signs: −1.5e−5 for -1.5e-05."""
    return re.sub(r"e-0?", "e-", text).replace("-", "−")


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
