"""What a text, a path and a name of the user's may hold, each checked before anything is run.

YAML and JSON can spell half a character ("\\ud800"), which no file can hold. Snakemake takes {name}
in a path for a wildcard and has no way to escape it, and a name that repeats itself for a loop.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from llm_figures.core.options import AnyText, Text, refusal

# In bits; Python writes out integers of up to 4,300 digits.
LONGEST_INTEGER = 10_000
# A component of a path on the usual file systems, in bytes.
LONGEST_PART = 255
LONGEST_PATH = 4095
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Halves that belong together; JSON joins them, YAML does not.
_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_WILDCARD = re.compile(r"\{\s*[.\w]+\s*[,}]")
# As snakemake.io.PeriodicityDetector, which refuses wildcards of this form.
_PERIODIC = re.compile(r"(.+)\1{19}$")


def find_text_problem(text: str) -> str | None:
    """Why a text cannot be kept or drawn, to follow the text in a message; None if it can."""
    if "\0" in text:
        return "holds a NUL character (\\x00); remove it"
    if pair := _PAIR.search(text):
        high, low = map(ord, pair[0])
        letter = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
        return (
            f"holds a character as JSON spells it, in two halves (\\u{high:04x}\\u{low:04x}); in "
            f"YAML write \\U{letter:08X}"
        )
    half = next((letter for letter in text if "\ud800" <= letter <= "\udfff"), None)
    if half is not None:
        return (
            f"holds a lone surrogate (\\u{ord(half):04x}), half of a character; write the whole "
            "character"
        )
    return None


def value_problems(value: Any, key: str = "") -> Iterator[str]:
    """One line for each text, at any depth of tables and lists, that cannot be kept in a file.

    And for each number that Python does not write out, so that no message could show it.

    key: of the value, with which the line begins.
    """
    match value:
        case int() if value.bit_length() > LONGEST_INTEGER:
            digits = int(value.bit_length() * math.log10(2)) + 1
            yield f"{key}: an integer of {digits} digits is too large".removeprefix(": ")
        case str():
            if problem := find_text_problem(value):
                yield f"{key}: {show(value)} {problem}".removeprefix(": ")
        case Mapping():
            for name, part in value.items():
                problems = list(value_problems(name, key))
                yield from problems or value_problems(part, f"{key}.{name}".removeprefix("."))
        case list() | tuple():
            for number, part in enumerate(value, start=1):
                yield from value_problems(part, f"{key}[{number}]")


def show(value: Any) -> str:
    """The value as Python writes it, cut if it is long."""
    return cut(repr(value))


def cut(text: str) -> str:
    """The text, cut after 80 characters."""
    return text if len(text) <= 80 else text[:77] + "…"


def find_path_problem(path: str) -> str | None:
    """Why a path cannot be an input of a job, to follow it in a message; None if it can."""
    if problem := find_text_problem(path):
        return problem
    if _CONTROL.search(path):
        return "holds a control character; rename the file or folder"
    if wildcard := _WILDCARD.search(path):
        return (
            f"holds {wildcard[0]!r}, and Snakemake takes names in braces for wildcards; rename the "
            "file or folder"
        )
    if len(os.fsencode(path)) > LONGEST_PATH or any(
        len(os.fsencode(part)) > LONGEST_PART for part in path.split("/")
    ):
        return f"is too long; each part of a path has at most {LONGEST_PART} bytes"
    return None


def find_name_problem(name: str) -> str | None:
    """Why a name cannot be that of a folder of results, to follow it; None if it can."""
    if len(name) > 100:
        return "is too long; a name has at most 100 characters"
    if _PERIODIC.search(name):
        return "repeats one part twenty times, which Snakemake takes for a loop; choose another"
    return None


def _checked(find_problem):
    def check(text: str) -> str:
        if problem := find_problem(text):
            raise refusal(f" {problem}")
        return text

    return AfterValidator(check)


path_checked = _checked(find_path_problem)
name_checked = _checked(find_name_problem)
# Paths of the user's own files and folders.
PathText = Annotated[Text, path_checked]
FileName = Annotated[AnyText, path_checked]
