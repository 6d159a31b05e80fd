"""Render forward/answers.md: accuracy by group, and examples with their exact answers marked."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

# At most so many are shown.
_ROWS = 10
_ALIASES = 5
_CHARACTERS = 300

_NO_GROUP = "(none)"
_CHECK = """\
Check that the text marked **⟦…⟧** is what a person would call the answer, in right and wrong
answers alike. This exact answer is located without using the gold answer; whether it is right is
judged afterwards, on the marked text alone."""


def render_answers_report(
    answers: pd.DataFrame, left_out: pd.DataFrame, *, seed: int = 0, examples: int = 10
) -> str:
    """Markdown with totals, rows left out, accuracy by group, and examples.

    answers: as from `answers.judge_answers`; hold_out and label may be missing.
    left_out: source, row, id, question and reason of the dataset's rows that were left out.
    examples: how many valid answers are sampled with `seed`, half of them right and half wrong if
        there are enough, and then half as many answers without an exact answer.

    The page does not depend on the order of the rows.
    """
    answers = answers.sort_values("question_id")
    held_out = _held_out(answers)
    sections = [
        "# Answers",
        _CHECK,
        "## Totals",
        _totals(answers, left_out, held_out),
        "## Rows left out",
        *_left_out(left_out),
        "## Groups",
        _groups(answers[~held_out]),
    ]
    if held_out.any():
        sections += ["Held-out questions, not counted above:"]
        sections += [_groups(answers[held_out])]
    sections += ["## Answers without an exact answer", _problems(answers)]
    sections += ["## Examples", *_examples(answers, seed, examples)]
    return "\n\n".join(sections) + "\n"


def _totals(answers: pd.DataFrame, left_out: pd.DataFrame, held_out: pd.Series) -> str:
    valid = int(answers["valid"].sum())
    right = int(answers["correct"].sum())
    count = f"{len(answers)}"
    if held_out.any():
        count += f", {held_out.sum()} of them held out"
    lines = [
        f"- questions: {count}",
        f"- rows of the dataset left out: {len(left_out)}",
        f"- valid answers (with an exact answer): {valid} ({_share(valid, len(answers))})",
        f"- right answers: {right} ({_share(right, valid)} of valid answers)",
    ]
    if "label" in answers and (labelled := int(answers["label"].notna().sum())):
        lines.append(f"- answers judged by the dataset's label: {labelled}")
    return "\n".join(lines)


def _left_out(left_out: pd.DataFrame) -> list[str]:
    if left_out.empty:
        return ["None."]
    counts = _counts(left_out["reason"])
    first = left_out.sort_values(["source", "row"], kind="stable").head(_ROWS)
    columns = ["source", "row", "id", "question", "reason"]
    rows = [
        [_cell(value) for value in row] for row in first[columns].itertuples(index=False, name=None)
    ]
    shown = f"The first {len(first)} of {len(left_out)}:"
    return [_table(["reason", "rows"], counts), shown, _table(columns, rows)]


def _groups(answers: pd.DataFrame) -> str:
    names = answers["group"].map(lambda name: _NO_GROUP if _blank(name) else str(name))
    rows = [_group(_escaped(str(name)), group) for name, group in answers.groupby(names)]
    header = ["group", "questions", "valid", "valid %", "right", "right % of valid"]
    return _table(header, [*rows, _group("all", answers)])


def _group(name: str, answers: pd.DataFrame) -> list[str]:
    valid, right = int(answers["valid"].sum()), int(answers["correct"].sum())
    shares = _share(valid, len(answers)), _share(right, valid)
    return [name, str(len(answers)), str(valid), shares[0], str(right), shares[1]]


def _problems(answers: pd.DataFrame) -> str:
    problems = answers.loc[~answers["valid"], "problem"]
    return _table(["reason", "answers"], _counts(problems)) if len(problems) else "None."


def _examples(answers: pd.DataFrame, seed: int, examples: int) -> list[str]:
    valid = answers[answers["valid"]]
    right, wrong = valid[valid["correct"]], valid[~valid["correct"]]
    # If right or wrong answers are fewer than half, the other kind takes their places.
    right_count = min(len(right), max(examples // 2, examples - len(wrong)))
    drawn = pd.concat(
        [
            right.sample(right_count, random_state=seed),
            wrong.sample(min(len(wrong), examples - right_count), random_state=seed),
        ]
    )
    invalid = answers[~answers["valid"]]
    invalid = invalid.sample(min(len(invalid), examples // 2), random_state=seed)
    return [
        *map(_example, drawn.sort_values("question_id").to_dict("records")),
        *map(_example, invalid.sort_values("question_id").to_dict("records")),
    ]


def _example(row: dict) -> str:
    answer, start, end = row["answer"], row["span_start"], row["span_end"]
    if row["valid"]:
        judged = "right" if row["correct"] else "wrong"
        marked = f"**⟦{_escaped(answer[start:end])}⟧**"
        answer = _escaped(answer[:start]).lstrip() + marked + _escaped(answer[end:])
    else:
        judged = f"no exact answer: {_escaped(row['problem'])}"
        answer = _escaped(answer).strip() or "(empty)"
    aliases = [] if row["aliases"] is None else list(row["aliases"])
    answers = [*map(_escaped, aliases[:_ALIASES]), *(["…"] if len(aliases) > _ALIASES else [])]
    return "\n".join(
        [
            f"### Question {row['question_id']}: {judged}",
            "",
            f"- question: {_escaped(_shortened(row['question']))}",
            f"- answer: {answer}",
            f"- gold answers: {'; '.join(answers) or _NO_GROUP}",
        ]
    )


def _counts(values: pd.Series) -> list[list[str]]:
    """Rows [value, count], the most frequent first."""
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return [[_escaped(str(value)), str(count)] for value, count in counts.items()]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "–"


def _held_out(answers: pd.DataFrame) -> pd.Series:
    if "hold_out" in answers:
        return answers["hold_out"].eq(True)
    return pd.Series(False, answers.index)


def _cell(value) -> str:
    return "" if _blank(value) else _escaped(_shortened(str(value)))


def _shortened(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"


def _escaped(text: str) -> str:
    """`text` as Markdown that shows it literally, on one line; line breaks become ↵."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"[\\`*_\[\]#|~$]", r"\\\g<0>", text)
    return re.sub(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", "↵", text)


def _blank(value) -> bool:
    return value is None or pd.isna(value) or not str(value).strip()
