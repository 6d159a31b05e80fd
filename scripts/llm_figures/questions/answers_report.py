"""Render forward/answers.md: accuracy by group, and examples with their exact answers marked."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from llm_figures.core.formatting import format_percent
from llm_figures.questions.answers import ABSTAINED, CUT, OFF_OPTION
from llm_figures.questions.duplicates import find_near_duplicates
from llm_figures.questions.judging.judges import DOUBTS

# At most so many are shown.
_ROWS = 10
_ALIASES = 5
_CHARACTERS = 300

_NO_GROUP = "(none)"
_CHECK = """\
Check that the text marked **⟦…⟧** is what a person would call the answer, in right and wrong
answers alike. This exact answer is located without using the gold answer; whether it is right is
judged afterwards, on the marked text alone. The judgements that are least certain come first."""
# What becomes of an answer, in the order of the columns.
_KINDS = ("right", "wrong", "no option", "abstained", "cut", "no exact answer", "not judged")
_LEFT_OUT = {ABSTAINED: "abstained", CUT: "cut", OFF_OPTION: "no option"}


def render_answers_report(
    answers: pd.DataFrame, left_out: pd.DataFrame, *, seed: int = 0, examples: int = 10
) -> str:
    """Markdown with totals, the least certain judgements, kinds of answers by group, and examples.

    answers: as from `answers.judge_answers`; hold_out and label may be missing.
    left_out: source, row, id, question and reason of the dataset's rows that were left out.
    examples: how many valid answers are sampled with `seed`, half of them right and half wrong if
        there are enough, and then half as many answers that are left out.

    The page does not depend on the order of the rows.
    """
    answers = answers.sort_values("question_id")
    held_out = _held_out(answers)
    sections = [
        "# Answers",
        _CHECK,
        "## Totals",
        _totals(answers, left_out, held_out),
        "## Least certain judgements",
        *_least_certain(answers),
        "## Rows left out",
        *_left_out(left_out),
        "## Groups",
        _groups(answers[~held_out]),
    ]
    if held_out.any():
        sections += ["Held-out questions, not counted above:"]
        sections += [_groups(answers[held_out])]
    sections += ["## Judgements", _judgements(answers)]
    sections += ["## Questions that ask nearly the same", *_near_duplicates(answers)]
    sections += ["## Answers left out", _problems(answers)]
    sections += ["## Examples", *_examples(answers, seed, examples)]
    return "\n\n".join(sections) + "\n"


def _totals(answers: pd.DataFrame, left_out: pd.DataFrame, held_out: pd.Series) -> str:
    valid = int(answers["valid"].sum())
    right = int(answers["correct"].sum())
    count = f"{len(answers)}"
    if held_out.any():
        count += f", {held_out.sum()} of them held out"
    abstained, cut = answers["abstained"], answers["cut"]
    lines = [
        f"- questions: {count}",
        f"- rows of the dataset left out: {len(left_out)}",
        f"- valid answers (with an exact answer): {valid} ({format_percent(valid, len(answers))})",
        f"- right answers: {right} ({format_percent(right, valid)} of valid answers)",
        *_off_options(answers),
        f"- answers that abstain: {_with_fate(abstained, answers)}",
        f"- answers cut at max_new_tokens: {_with_fate(cut, answers)}",
        f"- judgements in doubt: {int(answers['doubt'].ne('').sum())}",
    ]
    if "label" in answers and (labelled := int(answers["label"].notna().sum())):
        lines.append(f"- answers judged by the dataset's label: {labelled}")
    return "\n".join(lines)


def _off_options(answers: pd.DataFrame) -> list[str]:
    """The line about answers that name no option; none where there are no such answers."""
    if not answers["off_option"].any():
        return []
    return [f"- answers that name no option: {_with_fate(answers['off_option'], answers)}"]


def _with_fate(rows: pd.Series, answers: pd.DataFrame) -> str:
    """How many answers, and how many of them are left out."""
    count, left_out = int(rows.sum()), int((rows & ~answers["valid"]).sum())
    return f"{count}, {left_out} of them left out" if count else "0"


def _least_certain(answers: pd.DataFrame) -> list[str]:
    """The judgements in doubt, the strongest reason first."""
    doubtful = answers[answers["doubt"].ne("")]
    if doubtful.empty:
        return ["None."]
    ranks = {doubt: rank for rank, doubt in enumerate(DOUBTS)}
    order = doubtful["doubt"].map(ranks).fillna(len(ranks))
    first = doubtful.assign(order=order).sort_values(["order", "question_id"]).head(_ROWS)
    shown = f"The first {len(first)} of {len(doubtful)}:"
    reasons = _table(["doubt", "answers"], _counts(doubtful["doubt"]))
    return [reasons, shown, *map(_example, first.to_dict("records"))]


def _near_duplicates(answers: pd.DataFrame) -> list[str]:
    """Pairs of questions that may stand on both sides of a split, the most similar first."""
    if "split_group" not in answers:
        return ["None."]
    pairs = find_near_duplicates(answers)
    if pairs.empty:
        return ["None."]
    text = answers.set_index("question_id")["question"]
    first = pairs.sort_values(["similarity", "question_id"], ascending=[False, True]).head(_ROWS)
    rows = [
        [f"{row.similarity:.2f}", _cell(text[row.question_id]), _cell(text[row.other_id])]
        for row in first.itertuples()
    ]
    return [
        f"Pairs with nearly the same words: {len(pairs)}. Where one is in the training set and the "
        "other in the test set, a probe may know the answer rather than whether it is right. Give "
        "both one `group` and set `probe.split: group_folds`, or leave one out.",
        _table(["similarity", "question", "other question"], rows),
    ]


def _judgements(answers: pd.DataFrame) -> str:
    """Right and wrong answers by the rule that decided."""
    valid = answers[answers["valid"]]
    if valid.empty:
        return "None."
    counts = valid.groupby("judged_by")["correct"].agg(["sum", "size"])
    counts = counts.sort_values("size", ascending=False, kind="stable")
    rows = [
        [_escaped(str(rule)), str(int(row["sum"])), str(int(row["size"] - row["sum"]))]
        for rule, row in counts.iterrows()
    ]
    return _table(["judged by", "right", "wrong"], rows)


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
    shown = [kind for kind in _KINDS if kind != "no option" or answers["off_option"].any()]
    rows = [_group(_escaped(str(name)), group, shown) for name, group in answers.groupby(names)]
    header = ["group", "questions", *shown, "right % of valid", "in doubt"]
    return _table(header, [*rows, _group("all", answers, shown)])


def _group(name: str, answers: pd.DataFrame, shown: Sequence[str]) -> list[str]:
    """A row of the table of groups. shown: the kinds of answers that have a column."""
    kinds = answers.apply(_find_kind, axis=1).value_counts() if len(answers) else {}
    counts = [int(kinds.get(kind, 0)) for kind in shown]
    share = format_percent(counts[0], counts[0] + counts[1])
    doubt = int(answers["doubt"].ne("").sum())
    return [name, str(len(answers)), *map(str, counts), share, str(doubt)]


def _find_kind(row: pd.Series) -> str:
    if row["valid"]:
        return "right" if row["correct"] else "wrong"
    if row["problem"] in _LEFT_OUT:
        return _LEFT_OUT[row["problem"]]
    return "not judged" if row["exact_answer"] else "no exact answer"


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
        judged = f"left out: {_escaped(row['problem'])}"
        answer = _escaped(answer).strip() or "(empty)"
    aliases = [] if row["aliases"] is None else list(row["aliases"])
    answers = [*map(_escaped, aliases[:_ALIASES]), *(["…"] if len(aliases) > _ALIASES else [])]
    own = row.get("id")
    identifier = [] if _blank(own) or str(own).isdigit() else [f"- id: {_escaped(str(own))}"]
    lines = [
        f"### Question {row['question_id']}: {judged}",
        "",
        *identifier,
        f"- question: {_escaped(_shortened(row['question']))}",
        f"- answer: {answer}",
        f"- gold answers: {'; '.join(answers) or _NO_GROUP}",
    ]
    if row["doubt"]:
        lines.append(
            f"- judged by: {_escaped(row['judged_by'])}; in doubt: {_escaped(row['doubt'])}"
        )
    return "\n".join(lines)


def _counts(values: pd.Series) -> list[list[str]]:
    """Rows [value, count], the most frequent first."""
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return [[_escaped(str(value)), str(count)] for value, count in counts.items()]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
