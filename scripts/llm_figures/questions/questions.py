"""Question sets: the built-in facts, or a user's files with their own column names."""

from collections import Counter
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

import pandas as pd

from llm_figures.core.errors import UserError
from llm_figures.core.job import log
from llm_figures.core.text_checks import value_problems
from llm_figures.questions.built_in import build_set
from llm_figures.questions.cell_values import NotTextError, read_text, show_cell
from llm_figures.questions.duplicates import normalise_question
from llm_figures.questions.gold_answers import (
    DoubtError,
    NoMatchError,
    NotAListError,
    read_aliases,
)
from llm_figures.questions.multiple_choice import (
    BadChoicesError,
    ChoiceRow,
    find_choice_columns,
    find_right_choices,
    is_filled,
    read_choices,
    show_choices,
)
from llm_figures.questions.options import COLUMNS, Dataset
from llm_figures.questions.question_files import (
    QuestionFile,
    column_problems,
    find_question_files,
    read_columns,
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
    "choices": "object",
    "aliases": "object",
    "wrong_answers": "object",
    "group": "str",
    "frame": "str",
    "response": "str",
    "label": "boolean",
    "split_group": "int64",
    "hold_out": "bool",
}
LEFT_OUT_TYPES = {"source": "str", "row": "int64", "id": "str", "question": "str", "reason": "str"}

# Cells in doubt in more of the rows than this stop the run; fewer are left out.
DOUBTFUL_SHARE = 0.01


def load_questions(dataset: Dataset, preamble: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions of a dataset, and those of its rows that cannot be used.

    preamble: the prompt's; questions in it are left out, for it gives their answers away.

    Returns (questions, left_out).

    questions, the held-out ones last: question_id (0, 1, …), id (the dataset's own, else the row
    number), question (with its choices below it), choices (texts; empty without choices), aliases
    (right answers; empty if the dataset has no column of them; the letter and the text of the right
    choice), wrong_answers (the options of a question that are no right answers; empty if they are
    unknown, and with choices), group and frame (missing if it has none), response (the model's own
    answer with its outer white space; missing if it has none), label (whether that is right;
    missing if it has none), split_group (equal for questions that differ only in spelling, as in
    `normalise_question`, and therefore stay on one side of every split), hold_out.

    left_out: source (name of the file), row (from 1), id, question, reason. Questions that `limit`
    leaves out are not among them.

    Raises:
        UserError: a file or row that cannot be read, a missing column, a duplicate id in a file,
            right answers that can be read in two ways, no questions left.
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
        common = {"where": "config: dataset", "source": dataset.name, "response": None}
        common |= {"wrong_answers": [], "label": None, "reason": None}
        return [
            {**common, "choices": [], "row": number, "id": str(number), **fact, "hold_out": False}
            for number, fact in enumerate(build_set(dataset.name).to_dict("records"), start=1)
        ]
    rows = []
    for held_out in (False,) if dataset.hold_out is None else (False, True):
        files = find_question_files(dataset, held_out)
        part = [row for file in files for row in _read_file(dataset, file)]
        if not part:
            raise UserError(f"{files[0].where}: has no rows")
        rows += [{**row, "hold_out": held_out} for row in part]
    return rows


def _read_file(dataset: Dataset, file: QuestionFile) -> list[dict]:
    if problems := list(column_problems(dataset, file)):
        raise UserError("\n".join(problems))
    columns = dataset.columns()
    rows: list[dict] = []
    golds: list[Any] = []
    doubts: list[tuple[int, str]] = []  # row, and what its answer may be
    row_of_id: dict[str, int] = {}
    labels = _label_column(dataset)
    named = dict.fromkeys([*columns.values(), *dataset.choice_columns()])
    cells = read_rows(file, list(named), [label for label in labels if label not in named])
    for number, values in enumerate(cells, start=1):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        reason = None
        for key, column in columns.items():
            try:
                if key == "answer":
                    row[key] = _read_gold(values[column], dataset)
                elif key == "wrong":
                    row[key] = read_aliases(values[column], dataset.changed(answer_pattern=None))
                elif key == "response":
                    row[key] = _read_response(values[column])
                else:
                    row[key] = read_text(values[column])
            except NotTextError as error:
                reason = error.describe(column)
            except NoMatchError:
                reason = "answer_pattern does not match the answer"
            except DoubtError as error:
                if key == "answer":
                    doubts.append((number, str(error)))
                reason = f"{key} is {error}"
            except NotAListError:
                raise UserError(
                    f"config: dataset.answer_format: list: {file.shown}: row {number}: column "
                    f"{column!r} holds {show_cell(values[column])}, which is no list of texts or "
                    "numbers"
                ) from None
        choices = None
        if dataset.choices is not None:
            try:
                choices = read_choices(*_choice_cells(values, dataset), dataset.separator)
            except BadChoicesError as error:
                reason = reason or str(error)
        reason = reason or _find_fault(row, columns)
        if "id" not in columns:
            row["id"] = str(number)
        elif row["id"] is not None and row_of_id.setdefault(row["id"], number) != number:
            raise UserError(
                f"config: dataset.id: {file.shown}: duplicate id {row['id']!r} in rows "
                f"{row_of_id[row['id']]} and {number}; ids must be unique within a file"
            )
        for key, texts in (*row.items(), ("choices", choices)):
            if problem := next(value_problems(texts, str(columns.get(key, key))), None):
                raise UserError(f"{file.where}: row {number}: {problem}")
        golds.append(values.get(dataset.answer) if choices is None else row["answer"])
        rows.append(
            {
                "where": file.where,
                "source": file.name,
                "row": number,
                "id": row["id"],
                "question": row["question"],
                "choices": choices,
                "aliases": [] if row["answer"] is None else row["answer"],
                "wrong_answers": row["wrong"] or [],
                "group": row["group"],
                "frame": row["frame"],
                "response": row["response"],
                "label": None if row["label"] is None else LABELS.get(row["label"].casefold()),
                "reason": reason,
            }
        )
    if dataset.choices is not None:
        _add_choices(rows, dataset, file)
    elif dataset.answer is not None:
        _check_doubts(doubts, golds, dataset.answer, file)
        _check_for_choices(rows, dataset, file)
    return [{**row, "choices": row["choices"] or []} for row in rows]


def _label_column(dataset: Dataset) -> list[str]:
    """The column of choices' labels beside that of their texts: choices.label, choices.text."""
    stem, dot, field = str(dataset.choices).rpartition(".")
    return [f"{stem}.label"] if dot and field == "text" else []


def _choice_cells(values: Mapping[str, Any], dataset: Dataset) -> tuple[Any, Any]:
    """The choices of a row, and their labels where these have a column of their own."""
    if not isinstance(dataset.choices, str):
        return [values[column] for column in dataset.choice_columns()], None
    return values[dataset.choices], next(map(values.get, _label_column(dataset)), None)


def _read_gold(value: Any, dataset: Dataset) -> Any:
    """The aliases in a cell; of a dataset with choices the cell, or what the pattern finds in it.

    Raises: as `read_aliases`.
    """
    if dataset.choices is None:
        return read_aliases(value, dataset)
    if dataset.answer_pattern is None or not isinstance(value, str):
        return value if is_filled(value) else None
    return next(iter(read_aliases(value, dataset.changed(separator=None))), None)


def _add_choices(rows: list[dict], dataset: Dataset, file: QuestionFile) -> None:
    """Show the choices below every question, and replace golds by the right choice's aliases."""
    usable = [row for row in rows if row["reason"] is None]
    if dataset.answer is not None:
        golds = [ChoiceRow(row["row"], row["choices"], row["aliases"]) for row in usable]
        places, reason = find_right_choices(
            golds, dataset.choices_gold, dataset.choices_from, file.shown, dataset.answer
        )
        for row, place in zip(usable, places, strict=True):
            if place is None:
                row.update(aliases=[], reason=reason)
            else:
                row["aliases"] = [ascii_uppercase[place], row["choices"].texts[place]]
    for row in rows:
        if row["choices"] is not None and row["question"] is not None:
            row["question"] = show_choices(row["question"], row["choices"])
        row["choices"] = row["choices"] and list(row["choices"].texts)


def _check_doubts(
    doubts: list[tuple[int, str]], golds: list[Any], column: str, file: QuestionFile
) -> None:
    """Check that few of the rows have an answer in doubt, or none.

    doubts: row and what its answer may be. golds: the cell of every row.

    Raises:
        UserError: more than a share `DOUBTFUL_SHARE` of the filled cells are in doubt alike.
    """
    filled = sum(gold is not None and gold != "" for gold in golds)
    for doubt, count in Counter(doubt for _, doubt in doubts).items():
        if count <= DOUBTFUL_SHARE * filled:
            continue
        number = next(number for number, other in doubts if other == doubt)
        others = f" ({count} of {filled} rows)" if count > 1 else ""
        raise UserError(
            f"config: dataset.answer: {file.shown}: row {number}: column {column!r} holds "
            f"{show_cell(golds[number - 1])}, which is {doubt}{others}"
        )


def _check_for_choices(rows: list[dict], dataset: Dataset, file: QuestionFile) -> None:
    """Check that the answers are not all indices or letters of choices in another column.

    Raises:
        UserError: they are.
    """
    usable = [row for row in rows if row["reason"] is None]
    one = all(len(row["aliases"]) == 1 and len(row["aliases"][0]) <= 4 for row in usable)
    if dataset.answer_format != "auto" or not usable or not one:
        return
    used = {column.split(".")[0] for column in dataset.columns().values()}
    others = [column for column in dict.fromkeys(read_columns(file)) if column not in used]
    kept = {row["row"] for row in usable}
    table: dict[str, list] = {column: [] for column in others}
    for number, values in enumerate(read_rows(file, others), start=1):
        for column in others if number in kept else ():
            table[column].append(values[column])
    golds = [row["aliases"][0] for row in usable]
    found = find_choice_columns(golds, [row["question"] for row in usable], table)
    if found is not None:
        named = found if isinstance(found, str) else f"[{', '.join(found)}]"
        raise UserError(
            f"config: dataset.answer: {file.shown}: row {usable[0]['row']}: column "
            f"{dataset.answer!r} holds {golds[0]!r}, which is the number or letter of a choice in "
            f"{named}; set dataset.choices: {named}, or dataset.answer_format: text if the "
            "questions show the choices"
        )


def _find_fault(row: dict, columns: Mapping[str, str]) -> str | None:
    """Why a row cannot be used; None if it can be. columns: those that the dataset has, by key."""
    if row["question"] is None:
        return "no question"
    for key in ("answer", "response", "label", "id"):
        if key in columns and (row[key] is None or row[key] in ("", [])):
            return f"no {key}"
    if "wrong" in columns and set(row["wrong"]) & set(row["answer"] or ()):
        return "a wrong answer is among the right ones"
    if "label" in columns and row["label"].casefold() not in LABELS:
        return "label is none of true/false, 1/0, right/wrong, correct/incorrect, yes/no"
    return None


def _read_response(value: Any) -> str | None:
    """The text in a cell with its outer white space, which is a part of the answer."""
    text = read_text(value)
    return value if text and isinstance(value, str) else text


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
