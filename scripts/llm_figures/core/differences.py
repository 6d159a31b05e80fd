"""What differs between two configs."""

from collections.abc import Iterator
from typing import Any


def list_differences(value: Any, other: Any, key: str = "") -> Iterator[str]:
    """Dotted keys in which two nested tables differ; key: that of both."""
    if isinstance(value, dict) and isinstance(other, dict):
        for name in sorted(value.keys() | other.keys(), key=str):
            where = f"{key}.{name}".removeprefix(".")
            yield from list_differences(value.get(name), other.get(name), where)
    elif value != other:
        yield key
