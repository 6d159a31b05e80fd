"""Question sets: the built-in facts, or files of the user's with their own column names."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.questions.facts import facts
from llm_figures.questions.question_files import (
    COLUMNS,
    QuestionFile,
    column_problems,
    dataset_source,
    question_files,
    question_rows,
)

LABELS = {
    **dict.fromkeys(("true", "1", "1.0", "right", "correct", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "wrong", "incorrect", "no"), False),
}
# Explicit, so that a table without rows, or a column without values, has its type in a file, too.
QUESTION_TYPES = {
    "question_id": "int64",
    "id": "str",
    "question": "str",
    "aliases": "object",
    "group": "str",
    "frame": "str",
    "label": "boolean",
    "twin": "int64",
    "hold_out": "bool",
}
LEFT_OUT_TYPES = {"source": "str", "row": "int64", "id": "str", "question": "str", "reason": "str"}

_BEFORE_NUMBER = re.compile(r"\s*\d")


def load_questions(dataset: dict, preamble: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions of the config's `dataset`, and the rows of it that cannot be used.

    preamble: the prompt's; the model is told the answers of the questions that stand in it.

    Returns (questions, left_out).

    questions, the held-out ones last: question_id (0, 1, …), id (the dataset's own, else the row's
    number), question, aliases (right answers; empty where the dataset has no column of them), group
    and frame (missing where it has none), label (whether the model's answer is right; missing where
    it has none), twin (equal for questions that differ only in case, spacing and punctuation),
    hold_out.

    left_out: source (name of the file), row (from 1), id, question, reason. Questions not taken
    because of `limit` are not among them.

    Raises:
        UserError: a file or row that cannot be read, a missing column, an id that stands twice in
            a file, no questions left.
    """
    table = pd.DataFrame(_rows(dataset))
    table["twin"] = table["question"].map(_normalised, na_action="ignore")
    _leave_out(table, _told(table, preamble), "the prompt's preamble answers it")
    # Before `limit` is taken: the held-out questions are the same whatever it is.
    training = table.loc[table["reason"].isna() & ~table["hold_out"], "twin"]
    twins = table["hold_out"] & table["twin"].isin(training)
    _leave_out(table, twins, "held out, but among the training questions too")

    left_out = table[table["reason"].notna()]
    for reason, count in left_out["reason"].value_counts().items():
        log.info("%d row(s) left out: %s", count, reason)
    _check_some_left(table)
    questions = _sampled(table[table["reason"].isna()], dataset["limit"], dataset["seed"])
    questions.insert(0, "question_id", range(len(questions)))
    questions["twin"] = pd.factorize(questions["twin"])[0]
    held_out = questions["hold_out"].sum()
    log.info("%d questions%s", len(questions), f", {held_out} of them held out" if held_out else "")
    return _typed(questions, QUESTION_TYPES), _typed(left_out, LEFT_OUT_TYPES)


def _rows(dataset: dict) -> list[dict]:
    """All rows, the held-out ones last; `reason` says why one cannot be used, else it is None."""
    if dataset_source(dataset) == "facts":
        common = {"where": "config: dataset", "source": "facts", "label": None, "reason": None}
        return [
            {**common, "row": number, "id": str(number), **fact, "hold_out": False}
            for number, fact in enumerate(facts().to_dict("records"), start=1)
        ]
    rows = []
    for held_out in (False,) if dataset["hold_out"] is None else (False, True):
        files = question_files(dataset, held_out)
        part = [row for file in files for row in _file_rows(dataset, file)]
        if not part:
            raise UserError(f"{files[0].where}: has no rows")
        rows += [{**row, "hold_out": held_out} for row in part]
    return rows


def _file_rows(dataset: dict, file: QuestionFile) -> Iterator[dict]:
    if problems := list(column_problems(dataset, file)):
        raise UserError("\n".join(problems))
    named = {key: dataset[key] for key in COLUMNS if dataset[key] is not None}
    rows_of: dict[str, int] = {}
    cells = question_rows(file, list(dict.fromkeys(named.values())))
    for number, values in enumerate(cells, start=1):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        reason = None
        for key, column in named.items():
            try:
                row[key] = (_aliases if key == "answer" else _text)(values[column])
            except _UnusableError as error:
                reason = f"column {column!r} holds a {error}, not text or a number"
        reason = reason or _fault(row, named)
        if "id" not in named:
            row["id"] = str(number)
        elif row["id"] is not None and rows_of.setdefault(row["id"], number) != number:
            raise UserError(
                f"config: dataset.id: {file.shown}: id {row['id']!r} stands in rows "
                f"{rows_of[row['id']]} and {number}; ids must be unique within a file"
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


def _fault(row: dict, named: dict) -> str | None:
    """Why a row cannot be used; named: the columns that the dataset has."""
    if row["question"] is None:
        return "no question"
    if "answer" in named and row["answer"] is None:
        return 'answer looks like a list but is not JSON (["a", "b"])'
    for key in ("answer", "label", "id"):
        if key in named and not row[key]:
            return f"no {key}"
    if "label" in named and row["label"].casefold() not in LABELS:
        return "label is none of true/false, 1/0, right/wrong, correct/incorrect, yes/no"
    return None


class _UnusableError(Exception):
    """A cell of a type that is no text; the type's name."""


def _text(value: Any) -> str | None:
    """A cell as text without outer whitespace; None if nothing is in it.

    Raises:
        _UnusableError: a list, a dictionary or bytes.
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
            raise _UnusableError(type(value).__name__)
    return str(value).strip() or None


def _aliases(value: Any) -> list[str] | None:
    """One answer or a list of them; the text of a JSON list counts as this list.

    None for what looks like a list and is no JSON: "['a', 'b']" is not meant as one answer.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*\[.*\]\s*", value, re.DOTALL):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    values = value if isinstance(value, list) else [value]
    return [text for text in (_text(item) for item in values) if text is not None]


def _told(table: pd.DataFrame, preamble: str) -> pd.Series:
    """Which questions are a line of the preamble, or the end of one after a colon ("Q: …")."""
    parts = [line.split(":") for line in preamble.splitlines()]
    ends = {_normalised(":".join(part[start:])) for part in parts for start in range(len(part))}
    whole = table["question"].map(
        lambda text: "\n" in text and text in preamble, na_action="ignore"
    )
    return table["twin"].isin(ends) | whole.eq(True)


def _leave_out(table: pd.DataFrame, rows: pd.Series, reason: str) -> None:
    """Give the usable ones among `rows` (a mask) a reason."""
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


def _typed(table: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    return table[list(types)].astype(types).reset_index(drop=True)


def _normalised(question: str) -> str:
    """What equal questions have in common; punctuation before a number stays ("3 * 4", "3 / 4")."""
    text = unicodedata.normalize("NFKC", question).casefold()
    kept = "".join(
        char
        for index, char in enumerate(text)
        if not unicodedata.category(char).startswith("P") or _BEFORE_NUMBER.match(text, index + 1)
    )
    return " ".join(kept.split()) or question
