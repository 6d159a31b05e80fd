"""Sizes, counts and durations as text."""

import pytest

from llm_figures.core.formatting import (
    format_bytes,
    format_count,
    format_duration,
    format_percent,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 kB"), (1, "1 kB"), (998_500, "999 kB"), (1e6, "1.0 MB"), (9.96e6, "10 MB")),
        *((999.4e6, "999 MB"), (999.6e6, "1.0 GB"), (141e9, "141 GB"), (2e15, "2000 TB")),
        *((None, ""), (float("nan"), "")),
    ],
)
def test_sizes(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0.0 s"), (4.24, "4.2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min")),
        *((231, "3 min 51 s"), (3599.7, "1 h"), (7500, "2 h 5 min"), (90_000, "25 h")),
        *((None, ""), (float("nan"), "")),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(1023, "1,023"), (134_515_008, "135 M"), (999.6e6, "1 B"), (70.554e9, "70.6 B")],
)
def test_counts(count, text):
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(542, 1019, "53.2%"), (0, 3, "0.0%"), (3, 3, "100.0%"), (0, 0, "–")]
)
def test_percentages(part, whole, text):
    assert format_percent(part, whole) == text
