"""Question sets: the built-in facts, or a user's files with their own column names."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.questions.duplicates import normalise_question
from llm_figures.questions.facts import build_facts
from llm_figures.questions.options import COLUMNS, Dataset
from llm_figures.questions.question_files import (
    QuestionFile,
    column_problems,
    find_question_files,
    read_rows,
)

LABELS = {
    **dict.fromkeys(("true", "1", "1.0", "right", "correct", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "wrong", "incorrect", "no"), False),
}
# Explicit, so that files of tables without rows, or of columns without values, have these types.
QUESTION_TYPES = {
    "question_id": "int64",
    "id": "str",
    "question": "str",
    "aliases": "object",
    "group": "str",
    "frame": "str",
    "label": "boolean",
    "split_group": "int64",
    "hold_out": "bool",
}
LEFT_OUT_TYPES = {"source": "str", "row": "int64", "id": "str", "question": "str", "reason": "str"}


def load_questions(dataset: Dataset, preamble: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions of a dataset, and those of its rows that cannot be used.

    preamble: the prompt's; questions in it are left out, for it gives their answers away.

    Returns (questions, left_out).

    questions, the held-out ones last: question_id (0, 1, …), id (the dataset's own, else the row
    number), question, aliases (right answers; empty if the dataset has no column of them), group
    and frame (missing if it has none), label (whether the model's answer is right; missing if it
    has none), split_group (equal for questions that differ only in spelling, as in
    `normalise_question`, and therefore stay on one side of every split), hold_out.

    left_out: source (name of the file), row (from 1), id, question, reason. Questions that `limit`
    leaves out are not among them.

    Raises:
        UserError: a file or row that cannot be read, a missing column, a duplicate id in a file, no
            questions left.
    """
    dataset = dataset.resolved()
    table = pd.DataFrame(_read_dataset(dataset))
    table["split_group"] = table["question"].map(normalise_question, na_action="ignore")
    _leave_out(table, _in_preamble(table, preamble), "the prompt's preamble answers it")
    # Before `limit` applies, so that the held-out questions do not depend on it.
    training = table.loc[table["reason"].isna() & ~table["hold_out"], "split_group"]
    repeated = table["hold_out"] & table["split_group"].isin(training)
    _leave_out(table, repeated, "held out, but among the training questions too")

    left_out = table[table["reason"].notna()]
    for reason, count in left_out["reason"].value_counts().items():
        log.info("%d row(s) left out: %s", count, reason)
    _check_some_left(table)
    questions = _sampled(table[table["reason"].isna()], dataset.limit, dataset.seed)
    questions.insert(0, "question_id", range(len(questions)))
    questions["split_group"] = pd.factorize(questions["split_group"])[0]
    held_out = questions["hold_out"].sum()
    log.info("%d questions%s", len(questions), f", {held_out} of them held out" if held_out else "")
    return _with_types(questions, QUESTION_TYPES), _with_types(left_out, LEFT_OUT_TYPES)


def _read_dataset(dataset: Dataset) -> list[dict]:
    """All rows, the held-out ones last; `reason` says why a row cannot be used, else it is None."""
    if dataset.source == "facts":
        common = {"where": "config: dataset", "source": "facts", "label": None, "reason": None}
        return [
            {**common, "row": number, "id": str(number), **fact, "hold_out": False}
            for number, fact in enumerate(build_facts().to_dict("records"), start=1)
        ]
    rows = []
    for held_out in (False,) if dataset.hold_out is None else (False, True):
        files = find_question_files(dataset, held_out)
        part = [row for file in files for row in _read_file(dataset, file)]
        if not part:
            raise UserError(f"{files[0].where}: has no rows")
        rows += [{**row, "hold_out": held_out} for row in part]
    return rows


def _read_file(dataset: Dataset, file: QuestionFile) -> Iterator[dict]:
    if problems := list(column_problems(dataset, file)):
        raise UserError("\n".join(problems))
    columns = dataset.columns()
    row_of_id: dict[str, int] = {}
    cells = read_rows(file, list(dict.fromkeys(columns.values())))
    for number, values in enumerate(cells, start=1):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        reason = None
        for key, column in columns.items():
            try:
                row[key] = (_parse_aliases if key == "answer" else _parse_text)(values[column])
            except _NotTextError as error:
                reason = f"column {column!r} holds a {error}, not text or a number"
        reason = reason or _find_fault(row, columns)
        if "id" not in columns:
            row["id"] = str(number)
        elif row["id"] is not None and row_of_id.setdefault(row["id"], number) != number:
            raise UserError(
                f"config: dataset.id: {file.shown}: duplicate id {row['id']!r} in rows "
                f"{row_of_id[row['id']]} and {number}; ids must be unique within a file"
            )
        yield {
            "where": file.where,
            "source": file.name,
            "row": number,
            "id": row["id"],
            "question": row["question"],
            "aliases": row["answer"] or [],
            "group": row["group"],
            "frame": row["frame"],
            "label": None if row["label"] is None else LABELS.get(row["label"].casefold()),
            "reason": reason,
        }


def _find_fault(row: dict, columns: Mapping[str, str]) -> str | None:
    """Why a row cannot be used; None if it can be. columns: those that the dataset has, by key."""
    if row["question"] is None:
        return "no question"
    if "answer" in columns and row["answer"] is None:
        return 'answer looks like a list but is not JSON (["a", "b"])'
    for key in ("answer", "label", "id"):
        if key in columns and not row[key]:
            return f"no {key}"
    if "label" in columns and row["label"].casefold() not in LABELS:
        return "label is none of true/false, 1/0, right/wrong, correct/incorrect, yes/no"
    return None


class _NotTextError(Exception):
    """A cell whose type is neither text nor a number; holds the type's name."""


def _parse_text(value: Any) -> str | None:
    """A cell as text without outer white space; None if it is empty.

    Raises:
        _NotTextError: a list, a dictionary or bytes.
    """
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float() if value != value:
            return None
        case float() if value.is_integer():
            return str(int(value))
        case list() | dict() | bytes():
            raise _NotTextError(type(value).__name__)
    return str(value).strip() or None


def _parse_aliases(value: Any) -> list[str] | None:
    """The right answers in a cell: one, a list, or a JSON list as text.

    None for text that looks like a list but is not JSON: "['a', 'b']" is hardly one answer.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*\[.*\]\s*", value, re.DOTALL):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    values = value if isinstance(value, list) else [value]
    return [text for text in (_parse_text(item) for item in values) if text is not None]


def _in_preamble(table: pd.DataFrame, preamble: str) -> pd.Series:
    """A mask of the questions that are a line of the preamble, or follow a colon in one ("Q: …").

    Questions of several lines count wherever they occur.
    """
    parts = [line.split(":") for line in preamble.splitlines()]
    ends = {
        normalise_question(":".join(part[start:])) for part in parts for start in range(len(part))
    }
    whole = table["question"].map(
        lambda text: "\n" in text and text in preamble, na_action="ignore"
    )
    return table["split_group"].isin(ends) | whole.eq(True)


def _leave_out(table: pd.DataFrame, rows: pd.Series, reason: str) -> None:
    """Set the reason of those `rows` (a mask) that have none yet."""
    table["reason"] = table["reason"].mask(rows & table["reason"].isna(), reason)


def _check_some_left(table: pd.DataFrame) -> None:
    for _, part in table.groupby("hold_out"):
        if part["reason"].notna().all():
            reasons = part["reason"].value_counts()
            raise UserError(
                f"{part['where'].iloc[0]}: no questions are left; {reasons.iloc[0]} of {len(part)} "
                f"row(s): {reasons.index[0]}"
            )


def _sampled(questions: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """At most `limit` of the training questions, in their order, then all held-out ones."""
    training = questions[~questions["hold_out"]]
    if limit is not None and limit < len(training):
        training = training.sample(limit, random_state=seed).sort_index()
    return pd.concat([training, questions[questions["hold_out"]]])


def _with_types(table: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    return table[list(types)].astype(types).reset_index(drop=True)
