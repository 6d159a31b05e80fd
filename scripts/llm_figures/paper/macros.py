"""Names of macros, and the numbers of a run as macros."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from llm_figures.claims.references import (
    RANDOM_WEIGHTS,
    compute_baseline,
    count_decided,
    count_open,
    count_verdicts,
)
from llm_figures.core.errors import UserError
from llm_figures.core.formatting import format_bytes, format_count, format_duration
from llm_figures.core.numbers import as_given, at_most_three_decimals
from llm_figures.core.stated_numbers import StatedNumber, StatedNumbers
from llm_figures.paper.latex_text import comment, escape, set_number

MANIFEST, ANSWERS = "manifest.json", "forward/answers.parquet"
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
FORMULAS = {
    "could_have_failed": "number of claims that are applicable and not decided by construction",
    "decided": "number of claims decided by construction",
    "satisfied_by_references": "sum of held_references / references of the claims that could have "
    "failed",
    "satisfied_by_random_weights": "the same of the references with random weights alone",
}
# Groups of macros besides those of figures.
CLAIM_GROUP, RUN_GROUP = "claims", "run"


def name_macro(*parts: str) -> str:
    """ProbeAucMinusOneNestedScore of probe_auc, -1_nested_score: letters only, digits spelled."""
    text = re.sub(r"(?<![A-Za-z0-9])-(?=\d)", " minus ", " ".join(parts))
    text = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text)
    return "".join(word[0].upper() + word[1:] for word in re.findall("[A-Za-z]+", text))


def name_macros(
    groups: Mapping[str, Mapping[str, StatedNumber]], prefix: str = ""
) -> dict[str, tuple[str, StatedNumber]]:
    """{macro without its backslash: (group, number)}.

    groups: {group, such as a figure: its numbers by name}.

    Raises:
        UserError: two numbers whose macros would have one name.
    """
    named: dict[str, tuple[str, StatedNumber]] = {}
    for group, numbers in groups.items():
        for name, number in numbers.items():
            macro = prefix + name_macro(group, name)
            if macro in named:
                other, same = named[macro]
                raise UserError(
                    f"paper: {other}: {same.name!r} and {group}: {name!r} would both be "
                    f"\\{macro}; rename one"
                )
            named[macro] = group, number
    return named


def write_macros(named: Mapping[str, tuple[str, StatedNumber]]) -> Iterator[str]:
    """Lines of numbers.tex. named: as from `name_macros`."""
    last = None
    for macro, (group, number) in named.items():
        if group != last:
            yield ""
            yield f"% {comment(group)}"
            last = group
        yield f"\\newcommand*{{\\{macro}}}{{{set_value(number)}}}% {comment(number.formula)}"


def set_value(number: StatedNumber) -> str:
    """What the macro prints: valid in text, in maths and in moving arguments."""
    if number.value is None:
        return r"\mbox{--}"
    if isinstance(number.value, str):
        return escape(number.text)
    return "~".join(map(set_number, number.text.split(" ")))  # 4 min 26 s stays on one line


def describe_macros(
    named: Mapping[str, tuple[str, StatedNumber]], sources: Mapping[str, str]
) -> dict[str, dict]:
    """The content of numbers.json. sources: {group: where its rows are, if a number names none}."""
    described = {}
    for macro, (group, number) in named.items():
        fields = asdict(number)
        described[macro] = {
            "group": group,
            "value": number.value,
            "missing": number.value is None,
            "text": number.text,
            "source": number.source or sources[group],
            **{key: fields[key] for key in ("row", "column", "formula")},
        }
    return described


def read_numbers(stated: Mapping[str, Mapping]) -> dict[str, StatedNumber]:
    """The numbers of a figure, from its numbers.json."""
    return {name: StatedNumber(name=name, **fields) for name, fields in stated.items()}


def state_claims(claims: pd.DataFrame) -> StatedNumbers:
    """How many claims were reproduced, and the numbers of every claim."""
    numbers = StatedNumbers()
    every = [("", claims), *claims.groupby("figure", sort=False)]
    for figure, part in every:
        start = f"{figure}_" if figure else ""
        row = {"figure": figure} if figure else {}
        numbers.add(f"{start}total", len(part), "d", "number of claims", row=row)
        for name, count in (("could_have_failed", count_open), ("decided", count_decided)):
            numbers.add(f"{start}{name}", count(part), "d", FORMULAS[name], row=row)
        for name, kind in (
            ("satisfied_by_references", None),
            ("satisfied_by_random_weights", RANDOM_WEIGHTS),
        ):
            found = compute_baseline(part, kind)
            numbers.add(f"{start}{name}", found and found.satisfied, ".1f", FORMULAS[name], row=row)
        for verdict, count in count_verdicts(part).items():
            chosen = {**row, "verdict": verdict, "decided": False}
            numbers.add(f"{start}{verdict}", count, "d", "number of claims", row=chosen)
    keys = ("figure", "claim")
    for claim in claims.to_dict("records"):
        start = f"{claim['figure']}_{claim['claim']}"
        thresholds = [claim[name] for name in ("threshold", "threshold_high")]

        def format_value(value: float, thresholds: Iterable[float] = thresholds) -> str:
            return at_most_three_decimals(value, *thresholds)

        for column in ("value", "low", "high", "threshold", "threshold_high"):
            form = {"value": format_value, "low": at_most_three_decimals}.get(column, as_given)
            form = at_most_three_decimals if column == "high" else form
            numbers.take(f"{start}_{column}", claim, column, form, keys)
        for column in ("units", "held", "heads", "held_heads", "references", "held_references"):
            numbers.take(f"{start}_{column}", claim, column, _whole, keys)
        numbers.take(f"{start}_verdict", claim, "verdict", str, keys)
    return numbers


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def state_run(manifest: Mapping[str, Any], answers: pd.DataFrame | None) -> StatedNumbers:
    """Numbers of the README: answers, time, memory, disk and the size of the model.

    answers: of forward/answers.parquet; None where an archive has none.
    """
    numbers = StatedNumbers()
    _state_answers(numbers, answers)
    model = manifest.get("model") or {}
    for key, form in (("parameters", format_count), ("layers", str), ("heads", str),
                      ("hidden_size", str)):  # fmt: skip
        numbers.take(f"model_{key}", model, key, form, source=f"{MANIFEST}: model")
    size = (model.get("entry") or {}).get("wheel_size")
    download = {"source": f"{MANIFEST}: model.entry", "column": "wheel_size"}
    numbers.add("model_download", size, format_bytes, "the value of wheel_size", **download)
    files = [file["bytes"] for file in (manifest.get("files") or {}).values()]
    every = {"source": f"{MANIFEST}: files"}
    numbers.add("disk", sum(files), format_bytes, "sum of bytes", **every)
    numbers.add("files", len(files), "d", "number of files", **every)
    stages = manifest.get("stages") or {}
    jobs = {"source": f"{MANIFEST}: stages"}
    seconds = [stage["seconds"] for stage in stages.values()]
    numbers.add("time", sum(seconds), format_duration, "sum of seconds over all jobs", **jobs)
    memory = [stage["max_memory_mb"] for stage in stages.values() if stage["max_memory_mb"]]
    numbers.add("memory", max(memory, default=None), _megabytes, "largest max_memory_mb", **jobs)
    for name, stage in stages.items():
        own = f"{MANIFEST}: stages.{name}"
        numbers.take(f"{name}_time", stage, "seconds", format_duration, source=own)
        numbers.take(f"{name}_memory", stage, "max_memory_mb", _megabytes, source=own)
    return numbers


def _state_answers(numbers: StatedNumbers, answers: pd.DataFrame | None) -> None:
    judged = right = share = None
    if answers is not None:
        valid = answers["valid"].astype(bool)
        judged = valid.sum()
        right = answers.loc[valid, "correct"].astype(bool).sum()
        share = right / judged if judged else None
    asked = None if answers is None else len(answers)
    for name, value, form, formula in (
        ("questions", asked, ",", "number of rows"),
        ("answers_judged", judged, ",", "rows that are valid: an answer that could be judged"),
        ("answers_right", right, ",", "rows that are valid and correct"),
        ("answers_right_share", share, "{:.0%}".format, "answers_right / answers_judged"),
    ):
        numbers.add(name, value, form, formula, source=ANSWERS)


def _megabytes(megabytes: float) -> str:
    return format_bytes(1e6 * megabytes)
