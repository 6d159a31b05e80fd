"""Answers labelled by hand, on which judges are measured.

1,260 answers to questions of five kinds, written for this purpose in the manner of language models
and labelled by reading: right, wrong, or abstained. They were made in six parts, each without sight
of the judges. Faults that a part showed were mended before the next was seen.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from llm_figures.questions.judging.abstentions import abstains
from llm_figures.questions.judging.judges import judge
from llm_figures.questions.judging.rules import RULES

FILE = Path(__file__).parent / "unit" / "questions" / "judging" / "judged_answers.jsonl"
KINDS = ("facts", "numbers", "mathematics", "choice", "yes_no")


class Quality(NamedTuple):
    """precision: of answers that are judged right. recall: of answers that are right."""

    answers: int
    precision: float
    recall: float


def read_judged_answers() -> pd.DataFrame:
    """part, kind, question, gold, answer, verdict, choices."""
    rows = pd.DataFrame([json.loads(line) for line in FILE.read_text().splitlines()])
    rows["choices"] = [value if isinstance(value, list) else [] for value in rows["choices"]]
    return rows


def judge_all(rows: pd.DataFrame, method: str, rules: Sequence[str] = RULES) -> list[str]:
    """The verdict of a judge for every row: right, wrong or abstained."""
    return [
        "abstained"
        if abstains(row.answer)
        else "right"
        if judge(method, row.answer, row.gold, row.question, row.choices, rules).right
        else "wrong"
        for row in rows.itertuples()
    ]


def is_right(exact: str, aliases: Sequence[str]) -> bool:
    """Whether the default judge takes an exact answer for right."""
    return judge("contains", exact, aliases, rules=RULES).right


def measure(verdicts: pd.Series, said: pd.Series) -> Quality:
    right, judged_right = verdicts.eq("right"), said.eq("right")
    both = int((right & judged_right).sum())
    return Quality(
        len(verdicts),
        both / max(1, int(judged_right.sum())),
        both / max(1, int(right.sum())),
    )
