"""Question sets: the built-in facts, or a file of the user's with its own column names."""

import json
from pathlib import Path

import pandas as pd

from llm_figures.errors import UserError
from llm_figures.facts import facts
from llm_figures.job import log
from llm_figures.jsonl import json_rows


def load_questions(dataset: dict, preamble: str = "") -> pd.DataFrame:
    """The questions of the config's `dataset`.

    Columns: question_id, question, aliases (right answers), group and frame (None where the dataset
    has none). Questions that stand in the prompt's preamble are left out: the model is told their
    answers.

    Raises:
        UserError: a file that cannot be read, a row without question or answer.
    """
    if dataset["path"] is None:
        questions = facts()
    else:
        questions = _own_questions(Path(dataset["path"]), dataset)
    lines = [line.strip() for line in preamble.splitlines()]
    told = questions["question"].map(
        lambda question: any(line == question or line.endswith(f": {question}") for line in lines)
    )
    if told.any():
        log.info("%d question(s) left out: the prompt's preamble answers them", told.sum())
        questions = questions[~told]
    limit = dataset["limit"]
    if limit is not None and limit < len(questions):
        questions = questions.sample(limit, random_state=dataset["seed"]).sort_index()
    if questions.empty:
        raise UserError("dataset: no questions are left")
    questions = questions.reset_index(drop=True)
    questions.insert(0, "question_id", questions.index)
    log.info("%d questions", len(questions))
    return questions


def _own_questions(path: Path, dataset: dict) -> pd.DataFrame:
    table = _read(path)
    for key in ("question", "answer", "group", "frame"):
        if dataset[key] is not None and dataset[key] not in table:
            raise UserError(
                f"dataset.{key}: {path} has no column {dataset[key]!r}; "
                f"it has: {', '.join(map(str, table.columns))}"
            )
    rows = []
    for number, row in enumerate(table.to_dict("records"), start=1):
        question, answers = row[dataset["question"]], _aliases(row[dataset["answer"]])
        for what, missing in (("question", _blank(question)), ("answer", not answers)):
            if missing:
                raise UserError(
                    f"{path}: row {number}: no {what} in column {dataset[what]!r}; "
                    "fill it in or remove the row"
                )
        rows.append(
            {
                "question": str(question),
                "aliases": answers,
                "group": _optional(row, dataset["group"]),
                "frame": _optional(row, dataset["frame"]),
            }
        )
    return pd.DataFrame(rows, columns=["question", "aliases", "group", "frame"])


def _read(path: Path) -> pd.DataFrame:
    try:
        match path.suffix.lower():
            case ".csv":
                return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            case ".jsonl":
                return pd.DataFrame(json_rows(path))
            case _:
                return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"dataset.path: {path} cannot be read: {reason}") from None


def _aliases(value) -> list[str]:
    """One answer or a list of them; a JSON list inside a CSV cell counts as a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        value = [value]
    return [str(alias) for alias in value if not _blank(alias)]


def _blank(value) -> bool:
    return value is None or value != value or not str(value).strip()


def _optional(row: dict, column: str | None) -> str | None:
    return None if column is None or _blank(row[column]) else str(row[column])
