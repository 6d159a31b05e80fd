import json

import pandas as pd
import pytest

from llm_figures.answers import judged_answers
from llm_figures.errors import UserError
from llm_figures.facts import facts
from llm_figures.questions import load_questions
from llm_figures.spans import exact_answer, is_correct

DATASET = {
    "path": None,
    "question": "question",
    "answer": "answer",
    "group": None,
    "frame": None,
    "limit": None,
    "seed": 0,
}


def test_the_built_in_facts_are_about_a_thousand_distinct_questions():
    questions = facts()
    assert 950 <= len(questions) <= 1100
    assert questions["question"].is_unique
    assert questions["group"].value_counts().min() >= 50
    assert questions["aliases"].map(len).min() >= 1
    asked = questions.set_index("question")["aliases"]
    assert asked["What is the capital of Albania?"] == ["Tirana"]
    assert "Euro" in asked["What is the currency of Croatia?"]
    assert asked["What is the chemical symbol of tungsten?"] == ["W"]
    assert asked["What is the atomic number of gold?"] == ["79"]
    assert asked["What is the continent of the Netherlands?"] == ["Europe"]
    assert asked["What is the capital of the US state of Texas?"] == ["Austin"]


def test_a_right_answer_in_its_frame_is_found_and_judged_right():
    for row in facts().itertuples():
        for alias in row.aliases:
            answer = f" {row.frame} {alias}."
            span = exact_answer(answer, row.frame)
            assert span, answer
            assert is_correct(answer[slice(*span)], row.aliases), answer


def test_questions_of_the_preamble_are_left_out():
    everything = load_questions(DATASET)
    told = everything["question"][7]
    rest = load_questions(DATASET, preamble=f"Q: {told}\nA: …")
    assert len(rest) == len(everything) - 1
    assert told not in set(rest["question"])
    assert rest["question_id"].tolist() == list(range(len(rest)))


def test_limit_samples_reproducibly():
    first, second = (load_questions({**DATASET, "limit": 60}) for _ in range(2))
    other = load_questions({**DATASET, "limit": 60, "seed": 1})
    assert first["question"].tolist() == second["question"].tolist()
    assert len(first) == len(other) == 60
    assert first["question"].tolist() != other["question"].tolist()


ROWS = [
    {"ask": "Who, or what?", "gold": ["you", "me"], "kind": "a"},
    {"ask": "Where is «it»? 🌍", "gold": "here", "kind": ""},
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_own_files_with_own_column_names(tmp_path, kind):
    path = tmp_path / f"mine.{kind}"
    if kind == "csv":
        cells = [{**row, "gold": json.dumps(row["gold"])} for row in ROWS[:1]] + ROWS[1:]
        text = pd.DataFrame(cells).to_csv(index=False, lineterminator="\r\n")
        path.write_text(text, encoding="utf-8-sig", newline="")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n")
    else:
        frame = pd.DataFrame(ROWS)
        frame["gold"] = [["you", "me"], ["here"]]
        frame.to_parquet(path)
    names = {"path": str(path), "question": "ask", "answer": "gold", "group": "kind"}
    questions = load_questions({**DATASET, **names})
    assert questions["question"].tolist() == [row["ask"] for row in ROWS]
    assert questions["aliases"].tolist() == [["you", "me"], ["here"]]
    assert questions["group"][0] == "a"
    assert pd.isna(questions["group"][1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\nWho?,\n", "row 1: no answer in column 'answer'"),
        ("question,answer\nWho?,me\n ,you\n", "row 2: no question in column 'question'"),
        ("question,reply\nWho?,me\n", "has no column 'answer'; it has: question, reply"),
        ("", "cannot be read"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_questions({**DATASET, "path": str(path)})


def test_judging_keeps_every_question_and_says_which_answers_are_valid():
    questions = pd.DataFrame(
        {
            "question_id": [0, 1, 2],
            "question": ["a", "b", "c"],
            "aliases": [["Lima"], ["Lima"], ["Lima"]],
            "group": ["g"] * 3,
            "frame": ["It is", "It is", None],
        }
    )
    generations = pd.DataFrame(
        {"question_id": [2, 0, 1], "answer": ["Cusco. Yes.", "It is Lima.", "Lima it is."]}
    )
    judged = judged_answers(questions, generations)
    assert judged["question_id"].tolist() == [0, 1, 2]
    assert judged["valid"].tolist() == [True, False, True]
    assert judged["correct"].tolist() == [True, False, False]
    assert judged["exact_answer"].tolist() == ["Lima", "", "Cusco"]
